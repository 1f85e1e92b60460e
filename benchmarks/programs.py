"""What a program pays for being run on a machine, in both ways: requests, its start, a loop that computes, others' programs.

Goals: GET_INFO at least 3,000 a second without a trace, told beside the same program under `strace -f -e trace=ioctl` without any
device; a start in 0.5 s; a computing loop in 1.05 of its own time. What opens and stats many files is told as a ratio.

All times are CPU seconds, of the program, the supervisor and their kernel together: on a busy machine nothing else says anything,
and program and supervisor wait for each other, so on an idle one they pass as fast. A program is repeated within one run, and what
a run of one repetition costs is taken away, so no start of a run is counted with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from vfiosim import Machine
from vfiosim.run import run
from vfiosim.run.filter import NAMESPACE, REDIRECT

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "tests" / "programs" / "vmm.c"
LOOP = "s = 0\nfor i in range(5_000_000): s += i"
REQUESTS = "import fcntl\nfor i in range({}):\n try: fcntl.ioctl(0, 0x3b6b)\n except OSError: pass"
AGAIN = 'times=$1; shift; while [ "$times" -gt 0 ]; do "$@"; times=$((times - 1)); done'
WAYS = NAMESPACE, REDIRECT
COUNT = 3_000
ROUNDS = 4


def spent() -> float:
    """CPU seconds of this process and its children until now."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def once(command: list[str], way: str = "", trace: bool = False) -> float:
    """What one run costs; without a way the program runs by itself."""
    machine, start, quiet = Machine(trace=trace), spent(), subprocess.DEVNULL
    if way:
        ended = run(command, machine=machine, way=way, cwd=ROOT, stdin=quiet, stdout=quiet)
        assert (ended.way, ended.returncode) == (way, 0), f"{command[0]} was not run as it should"
    else:
        subprocess.run(command, cwd=ROOT, stdin=quiet, stdout=quiet, check=True)
    return spent() - start


def seconds(command: list[str], way: str = "", trace: bool = False) -> float:
    """The least of some runs."""
    return min(once(command, way, trace) for _ in range(ROUNDS))


def ratios(command: list[str], times: int) -> list[str]:
    """What a program costs in each way, of its own time; all take turns, for a computer is not as quick at each time."""
    again = ["sh", "-c", AGAIN, "sh"]
    rounds = [
        [[once([*again, many, *command], way) for many in ("1", str(times + 1))] for way in ("", *WAYS)]
        for _ in range(ROUNDS)
    ]
    alone, *ways = [
        min(each[way][1] for each in rounds) - min(each[way][0] for each in rounds) for way in range(len(WAYS) + 1)
    ]
    return [f"{way / alone:.2f}" for way in ways]


def rate(program: str, way: str, trace: bool = False) -> float:
    """GET_INFO a second."""
    return COUNT / (seconds([program, "rate", str(COUNT)], way, trace) - seconds([program, "rate", "1"], way, trace))


def told(what: str, *numbers: str) -> None:
    """A row."""
    print(f"{what:<52}" + "".join(f"{number:>12}" for number in numbers), flush=True)


def main() -> None:
    """Print the numbers."""
    told("", *WAYS)
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "vmm"))
        subprocess.run(["cc", "-O1", str(SOURCE), "-o", program, "-pthread"], check=True)
        told("GET_INFO a second, without a trace (goal 3,000)", *(f"{rate(program, way):,.0f}" for way in WAYS))
        told("GET_INFO a second, with a trace", *(f"{rate(program, way, True):,.0f}" for way in WAYS))
    if strace := shutil.which("strace"):
        asked = [strace, "-f", "-e", "trace=ioctl", "-o", "/dev/null", sys.executable, "-c", REQUESTS.format(COUNT)]
        told("requests a second under strace, answered by nobody", f"{COUNT / seconds(asked):,.0f}")
    alone = seconds(["true"])
    told("start of a program, seconds more (goal 0.5)", *(f"{seconds(['true'], way) - alone:.2f}" for way in WAYS))
    for what, command, times in (
        ("a loop that computes (goal 1.05)", [sys.executable, "-c", LOOP], 2),
        ("Python's start", [sys.executable, "-c", "pass"], 20),
        ("git status", ["git", "status"], 10),
        ("ls -lR of the package", ["ls", "-lR", str(ROOT / "vfiosim")], 10),
    ):
        told(f"{what}, of its own time", *ratios(command, times))


if __name__ == "__main__":
    main()
