"""The call in which a thread waits; and one that is held when its call is over, before it sees what came of it (ptrace(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path
from typing import Final

from .filter import Abi

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_OF_ANY_KIND: Final = 0x40000000  # __WALL: also a thread that leads no process
_PATIENCE: Final = (
    1.0  # seconds; a thread that does not stop by then is being killed, one that goes on does not wait for us
)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Stopping:
    """This thread, which waits in a call, will stop at its end. Raises OSError where another program has hold of it."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        for request in (_SEIZE, _INTERRUPT):
            if _libc.ptrace(request, thread, None, None) < 0:
                raise OSError(ctypes.get_errno(), "")

    def stopped(self) -> bool:
        """Wait until it does; False if it ends instead."""
        what, until = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG | _OF_ANY_KIND, time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            told = os.waitid(os.P_PID, self.thread, what)
            if told is not None:
                return told.si_code == os.CLD_TRAPPED
            os.sched_yield()
        return False

    def resume(self) -> None:
        """Let it go."""
        _libc.ptrace(_DETACH, self.thread, None, None)


def call_of(abi: Abi, thread: int) -> tuple[str, list[int]]:
    """The system call in which a thread waits, by its number where it has no name here, and its arguments. Raises OSError."""
    words, until = ["running"], time.monotonic() + _PATIENCE
    while words[0] == "running" and time.monotonic() < until:  # it has asked, and is about to wait
        words = Path(f"/proc/{thread}/syscall").read_text(encoding="ascii").split()
    if words[0] == "running":
        raise OSError(errno.EAGAIN, "a thread that has asked goes on")
    return abi.calls.get(int(words[0]), words[0]), [int(word, 16) for word in words[1:7]]
