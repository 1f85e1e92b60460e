"""How each line of a kernel function is known: how many recorded calls ran through it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..assets import asset
from ..engine import FUNCTIONS
from ..engine.source import Line as Source
from ..engine.source import lines_of
from ..kernel import Unsupported
from ..machine import Machine
from ..trace.state import Place
from .check import topology_of
from .recordings import Recording
from .replay import Playback

FILE = "evidence.json.gz"
Line = tuple[str, str]  # a kernel function and a line of its mirror, see `_text`


def ran_through(recordings: Iterable[Recording]) -> Counter[Line]:
    """For each line with an effect the number of recorded calls that ran through it. Takes minutes for all recordings.

    A scenario counts up to the first call that is not modelled.
    """
    found: Counter[Line] = Counter()
    for recording in recordings:
        topology = topology_of(recording)
        for scenario in recording.scenarios:
            replay = Playback(Machine(topology, config=recording.config), recording.topology, scenario)
            with suppress(Unsupported):
                for step in scenario["steps"]:
                    replay.step(step)
            found.update(_lines(replay.machine))
    return found


def _lines(machine: Machine) -> Iterable[Line]:
    """Each line once for each call that ran through it."""
    seen = {(one.call, one.kernel_function, _text(one)) for one in machine.trace.micro if one.kernel_function}
    return [(function, line) for _, function, line in seen]


def write(found: Counter[Line], path: Path) -> None:
    """Write the numbers to a file that `recorded_calls` reads."""
    rows: dict[str, dict[str, int]] = {}
    for (function, line), calls in sorted(found.items()):
        rows.setdefault(function, {})[line] = calls
    path.write_bytes(gzip.compress(json.dumps(rows, indent=0).encode(), mtime=0))


def _text(thing: Place) -> str:
    """The line without the blanks around it; where it only opens a bracket, with the next one, for it is not alone then."""
    if not thing.source.endswith("("):
        return thing.source
    return f"{thing.source} {''.join(lines_of(thing.file)[thing.line : thing.line + 1]).strip()}"


def recorded_calls(thing: Place) -> int:
    """How many recorded calls ran through the line that this comes from; 0: it was read in the kernel's source only.

    A helper that runs for another function than in the recordings, such as one that was put in, has its own lines still.
    """
    kept, line = _kept(), _text(thing)
    found = kept.get(thing.kernel_function, {}).get(line, 0)
    if found or thing.function in FUNCTIONS or [one.strip() for one in lines_of(thing.file)].count(thing.source) > 1:
        return found
    return max((lines.get(line, 0) for name, lines in kept.items() if _file_of(name) == thing.file), default=0)


def _file_of(name: str) -> str:
    """The file in which a kernel function is mirrored; "" for one that is no more."""
    return Source(FUNCTIONS[name].function.__code__, 0).file if name in FUNCTIONS else ""


@cache
def _kept() -> dict[str, dict[str, int]]:
    kept: dict[str, dict[str, int]] = json.loads(gzip.decompress(asset(FILE).read_bytes()))
    return kept
