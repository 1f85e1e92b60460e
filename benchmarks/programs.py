"""What a program pays for being run on a machine: requests a second, its start, a loop that computes, and others' programs.

Goals: GET_INFO at least 3,000 a second without a trace, told beside the same program under `strace -f -e trace=ioctl` without any
device; a start in 0.5 s; a computing loop in 1.05 of its own time. What opens and stats many files is told as a ratio.

All times are CPU seconds, of the program, the supervisor and their kernel together: on a busy machine nothing else says anything,
and program and supervisor wait for each other, so on an idle one they pass as fast.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vfiosim import Machine
from vfiosim.run import run

SOURCE = Path(__file__).parent.parent / "tests" / "programs" / "vmm.c"
LOOP = "s = 0\nfor i in range(5_000_000): s += i"
REQUESTS = "import fcntl\nfor i in range({}):\n try: fcntl.ioctl(0, 0x3b6b)\n except OSError: pass"
COUNT = 3_000
ROUNDS = 3


def seconds(command: list[str], supervised: bool, trace: bool = False) -> float:
    """The least of some runs."""
    times = []
    for _ in range(ROUNDS):
        machine, start = Machine(trace=trace), sum(os.times()[:4])
        if supervised:
            run(
                command, machine=machine, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        else:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        times.append(sum(os.times()[:4]) - start)
    return max(min(times), 0.01)  # the clock's step


def rate(program: str, trace: bool) -> float:
    """GET_INFO a second."""
    return COUNT / (seconds([program, "rate", str(COUNT)], True, trace) - seconds([program, "rate", "1"], True, trace))


def main() -> None:
    """Print the numbers."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "vmm"))
        subprocess.run(["cc", "-O1", str(SOURCE), "-o", program, "-pthread"], check=True)
        print(
            f"GET_INFO a second: {max(rate(program, False) for _ in range(ROUNDS)):,} without a trace (goal 3,000),",
            end=" ",
        )
        print(f"{rate(program, True):,} with one")
    if strace := shutil.which("strace"):
        took = seconds(
            [strace, "-f", "-e", "trace=ioctl", "-o", "/dev/null", sys.executable, "-c", REQUESTS.format(COUNT)], False
        )
        print(f"requests a second under strace, answered by nobody: {COUNT / took:,.0f}")
    print(f"start of a program: {seconds(['true'], True) - seconds(['true'], False):.2f} s more (goal 0.5)")
    for name, command in (
        ("a loop that computes (goal 1.05)", [sys.executable, "-c", LOOP]),
        ("Python's start", [sys.executable, "-c", "pass"]),
        ("git status", ["git", "status"]),
        ("ls -lR of the package", ["ls", "-lR", str(SOURCE.parent.parent.parent / "vfiosim")]),
    ):
        launch = seconds(["true"], True) - seconds(["true"], False)
        print(f"{name}: {(seconds(command, True) - launch) / seconds(command, False):.2f} of its own time")


if __name__ == "__main__":
    main()
