"""A search in a process of its own, where there are processes: a student's function cannot harm the one that asks.

It has limits on time and memory beside those that every such function has (`vfiosim.engine.bounds`). What comes back is what was
found, as plain data; who wants to see a schedule runs it again, once.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from .statistics import Limit, Statistics

if TYPE_CHECKING:
    from multiprocessing.connection import Connection  # not in a page, where there are no processes

T = TypeVar("T")
Progress = Callable[[Statistics], None]
Stop = Callable[[], bool]
Work = Callable[[Progress | None, Stop | None], T]
SECONDS: Final = 900  # of one core
CTRL_C: Final = {signal.SIGINT}
MEMORY: Final = 1 << 30  # bytes more than there were at the beginning
_ENDED = "the process in which your function ran was ended: it needed more than {} minutes, or a gigabyte of memory"


def apart(work: Work[T], progress: Progress | None, stop: Stop | None) -> T:
    """Do some work in a process of its own; what it calls back is called here, and what it raises is raised here.

    Where there are no processes, or none that can be split in two safely, it is done here. Raises Limit where the process is ended
    by its limits.
    """
    if sys.platform != "linux":
        return work(progress, stop)
    from multiprocessing import Pipe

    here, there = Pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, CTRL_C)  # lest it is lost where the child is not ready for it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that there are: the child uses none of theirs
        child = os.fork()
    if not child:
        here.close()
        _work(work, there, stop is not None)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        there.close()
        answer: T = _answer(here, child, progress, stop)
        return answer
    finally:
        here.close()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _answer(here: Connection, child: int, progress: Progress | None, stop: Stop | None) -> Any:
    while True:
        try:
            here.poll(None)  # an interrupted wait loses no part of a message
            kind, value = here.recv()
            if kind == "progress" and progress is not None:
                progress(value)
            elif kind == "stop?" and stop is not None:
                here.send(stop())
        except KeyboardInterrupt:
            os.kill(child, signal.SIGINT)  # it stops, and tells what it has found
            continue
        except EOFError:
            raise Limit(_ENDED.format(SECONDS // 60)) from None
        if kind == "raises":
            raise value
        if kind == "done":
            return value


def _work(work: Work[Any], there: Connection, asks: bool) -> NoReturn:
    """In the child. It ends here, and leaves alone what the parent has open."""
    try:
        os.setpgid(0, 0)  # Ctrl-C comes from the parent
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _limit()

        def stop() -> bool:
            there.send(("stop?", None))
            return bool(there.recv())

        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CTRL_C)
            answer = ("done", work(lambda statistics: there.send(("progress", statistics)), stop if asks else None))
        except MemoryError:
            os._exit(1)
        except BaseException as error:
            answer = ("raises", _told(error))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        there.send(answer)
    finally:
        os._exit(0)


def _told(error: BaseException) -> BaseException:
    try:
        return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _limit() -> None:
    """Limits that the system keeps. Where it does not know one, there is none."""
    try:
        import resource
    except ImportError:
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    with suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
