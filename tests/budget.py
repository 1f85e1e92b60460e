"""Run a command and say what it cost in CPU seconds, with everything that it started: kernels, servers, browsers.

    python tests/budget.py 720 make test

Wall time tells how busy a machine is; CPU seconds tell how much a proof does. Exit status: that of the command, or 3 if the command
passed and cost more than half as much again as its budget. Linux only.
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


def main(arguments: list[str]) -> int:
    """Run the command; `arguments` are the budget in CPU seconds and the command."""
    if len(arguments) < 2 or not arguments[0].isdecimal():
        print("usage: python tests/budget.py CPU_SECONDS COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    budget, command = int(arguments[0]), arguments[1:]
    become_subreaper()
    started = time.monotonic()
    status = subprocess.call(command)
    reap(seconds=10)
    used = os.times()
    spent = used.children_user + used.children_system
    print(
        f"{spent:.0f} CPU seconds of {budget}, {time.monotonic() - started:.0f} seconds of wall time: {' '.join(command)}",
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
