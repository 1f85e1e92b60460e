"""The lesson about a program of one's own: each program of its notebook is run as it stands, mended, and mended wrongly."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.cells import cells
from tests.conftest import ROOT
from tests.pictures import HIGH, WIDE
from vfiosim.lab import programs
from vfiosim.lab.program_task import ProgramExercise
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import your_own_program as lesson

pytestmark = pytest.mark.xdist_group("programs")

CELLS = [
    each for each in cells(ROOT / "notebooks" / "20_your_own_program.ipynb", "code") if each.startswith("%%vfio_c")
]
PARTS, (VMM, *GIVEN) = CELLS[:3], CELLS[3:]
TASKS = {"mend": GIVEN[0], "exercise": GIVEN[1], "free_it": GIVEN[2]}
RUNS = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="programs need Linux and a C compiler"
)


def run(cell: str) -> Any:
    """The player of the run."""
    shell: Any = InteractiveShell()
    shell.extension_manager.load_extension("vfiosim.lab.programs")
    line, _, text = cell.partition("\n")
    return shell.run_cell_magic("vfio_c", line.removeprefix("%%vfio_c").strip(), text)


@pytest.fixture(autouse=True)
def nothing_was_run() -> Iterator[None]:
    programs.ended.clear()
    yield
    programs.ended.clear()


@pytest.fixture(scope="module")
def parts() -> None:
    for part in PARTS:
        run(part)


def changed(cell: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in cell
        cell = cell.replace(old, new)
    return cell


HELPER = '  system("sleep 5 & sleep 0.2");  // a helper that goes on\n'


def checked(name: str, cell: str) -> str:
    """What Check says of this program."""
    run(cell)
    exercise: ProgramExercise = getattr(lesson, name)()
    exercise.check.click()
    return exercise.message


def test_the_whole_program_has_less_than_fifty_lines():
    assert sum(len(cell.splitlines()) - 1 for cell in [*PARTS, VMM]) < 50


@RUNS
def test_the_program_of_the_notebook_ends_with_0_and_its_log_shows_an_id_of_its_own_for_the_page_table(parts, capsys):
    player = run(VMM)
    told = capsys.readouterr().out
    assert "The card reads one page." in told
    assert "VFIO_DEVICE_ATTACH_IOMMUFD_PT, {pt_id=2}) = 0 {pt_id=3}" in told
    assert "flags=FIXED_IOVA|WRITEABLE|READABLE" in told
    assert told.endswith("It ended with 0.\n")
    assert sentence(player).startswith("The gate opens")
    assert player.layout.width <= WIDE
    assert player.layout.height - player.layout.top <= HIGH
    [call] = [node for node in player.graph.nodes if node.kind == "thread"]
    assert len({*call.lines}) < 13 < len(call.rows)  # what one call has stands where another one has its own


@RUNS
def test_each_line_of_the_log_leads_to_the_step_that_tells_most_of_its_call(parts):
    html = run(changed(VMM, ("  bind_card(card, iommu);\n", "")))._repr_mimebundle_()["text/html"]
    end = programs.ended[""].run
    assert end.calls[-1].errno
    told = [end.trace[step - 1] for step in end.steps_told()]
    assert [step.refused for step in told] == [call.errno for call in end.calls]
    assert told[0].sentence.startswith("Descriptor 3 now leads to")
    lines = re.findall(r'<span data-step="(\d+)">', html)
    assert [int(step) for step in lines] == end.steps_told()


@RUNS
def test_a_program_that_leaves_something_behind_is_shown_at_its_end(parts):
    assert " exits: its descriptors are closed" in sentence(run(TASKS["free_it"]))


def sentence(player: Any) -> str:
    """What is read first."""
    return str(player.trace[player.step - 1].sentence)


@RUNS
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_solved_by_its_own_solution_and_not_by_the_program_that_is_given(parts, name):
    assert "✕ Not yet." in checked(name, TASKS[name])
    assert "✓ Solved." in checked(name, changed(TASKS[name], *getattr(lesson, name)().task.edits))


@RUNS
@pytest.mark.parametrize(
    ("name", "edit", "told"),
    [
        ("mend", lesson.MEND.edits[1], M.ERRNO_IS_A_CAUSE.name),
        ("exercise", (' --fail "IOMMU_IOAS_MAP: ENOMEM"', ""), "In the last run no MAP failed"),
        ("exercise", ("  map_page(iommu, space);", "  exit(1);"), "The program has ended before it came to MAP."),
        (
            "exercise",
            ('  puts("The card reads one page.");\n', ""),
            "But it ends with 0, and so whoever started it believes",
        ),
        ("exercise", ("return 0", "return 1"), "still the program says “The card reads one page”"),
        (
            "exercise",
            ('puts("The card reads one page.");\n  return 0', "return 1"),
            "with nothing failing: it ended with 1",
        ),
        ("free_it", lesson.HELPER.edits[0], "still has iommu#1 open. The card itself is free"),
        ("free_it", lesson.HELPER.edits[1], M.BOUND_BY_A_PROGRAM.name),
        ("free_it", (HELPER, ""), "When this program ended, no helper went on"),
    ],
)
def test_half_a_repair_is_told_what_it_lacks(parts, name, edit, told):
    if edit is lesson.MEND.edits[1]:
        edit = (edit[0], '  must(ioctl(card, BIND, &it), "BIND");\n' + edit[1])
    assert told in checked(name, changed(TASKS[name], edit))


@RUNS
def test_a_helper_that_is_started_after_both_files_were_closed_solves_the_last_task_as_its_text_says(parts):
    closes = "  close(card);\n  close(iommu);\n"
    assert "✓ Solved." in checked("free_it", changed(TASKS["free_it"], (HELPER + closes, closes + HELPER)))


@RUNS
def test_a_run_of_another_cell_is_no_answer_to_a_task(parts, capsys):
    message = checked("mend", VMM)
    assert "Nothing is left behind." in capsys.readouterr().out
    assert "whose first line says --task mend" in message


def test_who_checks_before_anything_was_run_is_told_so():
    exercise = lesson.mend()
    exercise.check.click()
    assert "Run the program in the cell below first, and mend what the compiler complains of" in exercise.message


def test_where_programs_do_not_run_every_cell_says_one_sentence_and_so_does_check(monkeypatch, capsys):
    monkeypatch.setattr("platform.system", lambda: "Emscripten")
    run(VMM)
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert told.startswith("programs run on Linux on x86_64")
    exercise = lesson.mend()
    exercise.check.click()
    assert "programs run on Linux" in exercise.message
