"""What older editions have written opens for ever: shared texts, saved sandboxes, the file of a reader's progress.

`tests/editions/` has what each edition wrote of the same runs, with how the calls ended then.
"""

import json

import pytest

from tests.editions import FILES, calls_of
from tests.reused_names import PATCHES
from tests.turns import turns
from vfiosim import Topology, replay
from vfiosim.lab.record import VARIABLE, Progress
from vfiosim.lab.sandbox import Run, Setup
from vfiosim.machine import OLDER, PREFIX, decode, encode

WRITTEN = {f"{path.stem}:": json.loads(path.read_text()) for path in sorted(FILES.glob("*.json"))}
TEXTS = turns(
    [
        pytest.param(run["text"], run["calls"], id=f"{edition}{name}")
        for edition, written in WRITTEN.items()
        for name, run in written["runs"].items()
    ],
    days=3,
)
SAVED = [each for each in TEXTS if "by_an_oops" not in str(each.id)]  # a sandbox has no functions of somebody's own


def ended(m, calls):
    """How the calls of a machine end, when those go on that had ended then: now they may have more effects."""
    for call, (*_, state) in zip(m.calls, calls, strict=True):
        if state == "done":
            call.run()
    return calls_of(m)


def test_there_is_a_file_of_every_older_edition():
    assert {*OLDER} <= {*WRITTEN} <= {PREFIX, *OLDER}


@pytest.mark.parametrize(("text", "calls"), TEXTS)
def test_the_calls_of_a_text_end_as_they_did_then(text, calls):
    m, _ = decode(text, PATCHES)
    assert decode(encode(m), PATCHES)[0].trace == m.trace
    assert ended(m, calls) == calls


@pytest.mark.parametrize(("text", "calls"), TEXTS)
def test_a_text_says_that_it_is_of_an_older_edition_where_something_else_happens_now(text, calls):
    m, _ = decode(text, PATCHES)
    assert not (m.differs and text.startswith(PREFIX))
    assert ("older edition" in str(replay(text, PATCHES))) == bool(m.differs)


@pytest.mark.parametrize(("text", "calls"), SAVED)
def test_a_sandbox_that_was_saved_is_loaded_and_can_be_saved_again(text, calls):
    run = Run(Setup(Topology.named("small")))
    run.load(text)
    again = Run(Setup(Topology.named("small")))
    again.load(run.save())
    assert again.machine.trace == run.machine.trace
    assert ended(run.machine, calls) == calls


@pytest.mark.parametrize("edition", WRITTEN)
def test_the_progress_of_a_reader_is_read(edition, tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    file.write_text(WRITTEN[edition]["progress"])
    monkeypatch.setenv(VARIABLE, str(file))
    assert Progress().answers == {"held": (2, 1, False), "twice": (1, 0, False)}
    assert not Progress().problem
