"""Run a command and say what it cost in CPU seconds, with everything that it started: kernels, servers, browsers.

    python tests/budget.py 720 make test

Wall time tells how busy a machine is; CPU seconds tell how much a proof does. Where others share its cores and caches, a CPU second
does less; so a fixed piece of work is timed every now and then, and what it takes longer than on a quiet machine is taken off.
Exit status: that of the command, or 3 if the command passed and cost more than half as much again as its budget. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
TOO_DEAR = 3
QUIET = 0.03  # CPU seconds that `some_work` takes where nothing but a proof keeps the cores busy: there the budget was measured
EVERY = 20.0  # seconds


def become_subreaper() -> None:
    """Descendants whose parent ends become children of this process, so that what they used is counted here in the end."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap(seconds: float) -> None:
    """Wait for descendants that outlive the command; end those that are still there after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > deadline:
                for left in _children():
                    with suppress(ProcessLookupError):
                        os.kill(left, signal.SIGKILL)
            time.sleep(0.02)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        return [int(pid) for pid in children.read().split()]


def some_work() -> float:
    """How many CPU seconds a fixed piece of work takes now."""
    started = time.thread_time()
    numbers = {f"{number * 7919 % 100_003}": number for number in range(50_000)}
    assert sorted(numbers)[0] == "0"
    return time.thread_time() - started


def wait_for(command: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Its exit status, and how many times as long as on a quiet machine work took meanwhile; at least 1."""
    took = [some_work()]
    while True:
        try:
            return command.wait(EVERY), max(1.0, sum(took) / len(took) / QUIET)
        except subprocess.TimeoutExpired:
            took.append(some_work())


def main(arguments: list[str]) -> int:
    """Run the command; `arguments` are the budget in CPU seconds and the command."""
    if len(arguments) < 2 or not arguments[0].isdecimal():
        print("usage: python tests/budget.py CPU_SECONDS COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    budget, command = int(arguments[0]), arguments[1:]
    become_subreaper()
    started = time.monotonic()
    status, slower = wait_for(subprocess.Popen(command))
    reap(seconds=10)
    used = os.times()
    took = used.children_user + used.children_system
    spent, wall = took / slower, time.monotonic() - started
    print(
        f"{spent:.0f} CPU seconds of {budget} ({took:.0f} on a machine {slower:.2f} times as slow as a quiet one), "
        f"{wall:.0f} seconds of wall time: {' '.join(command)}",
        flush=True,
    )
    if status == 0 and spent > 1.5 * budget:
        print(
            f"That is more than half above its budget of {budget} CPU seconds (see CONTRIBUTING.md).", file=sys.stderr
        )
        return TOO_DEAR
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
