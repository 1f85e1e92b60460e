"""Effects that can refuse: named checks, and copies from and to user memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..uapi import Errno, KernelError
from .effects import Asks, Request, Say, effect
from .functions import running
from .operations import ANYTHING, LOOK, WRITE, Access, Accesses, nothing, operation

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

T = TypeVar("T")
_PAGE = 12


class UserMemory(Protocol):
    """What an address space must offer to copies. Addresses and sizes are in bytes; OSError(EFAULT) for a bad address."""

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`."""

    def write(self, address: int, data: bytes) -> None:
        """Write as much of `data` as can be written, from its beginning."""

    def pinnable(self, address: int, size: int, write: bool) -> bool:
        """Can all pages of a range be pinned, to be read or also to be written?"""

    def unpinnable(self, address: int, size: int, write: bool) -> str:
        """Why they cannot."""


@effect(ANYTHING, int, str, str)
def refuse_if(condition: bool, errno: Errno, name: str, sentence: str | Callable[[Engine], str]) -> Asks[None]:
    """A check: where the condition holds the call fails with `errno`. Named, so that it can be shown and taken out.

    A `sentence` that has to look round for what it tells is a function; it is no effect, and asked only where the check refuses.
    """
    yield (_refuse_if, condition, errno, name, sentence)


@effect(ANYTHING, int, str, str)
def require(value: T | None, errno: Errno, name: str, sentence: str) -> Asks[T]:
    """A check on a pointer: where it is None the call fails with `errno`, otherwise the answer is the pointer."""
    yield (_refuse_if, value is None, errno, name, sentence)
    return value  # type: ignore[return-value]


def _check_words(say: Say, answer: Any, condition: Any, _errno: Any, name: str, *_: Any) -> str:
    if isinstance(answer, BaseException):
        return f"[{name}] refused"
    return f"[{name}] would refuse" if condition else f"[{name}] passed"


@operation(touches=nothing, words=_check_words)
def _refuse_if(engine: Engine, thread: Thread, request: Request) -> None:
    if request[1]:
        sentence = request[4](engine) if callable(request[4]) else request[4]
        raise KernelError(request[2], sentence, check=request[3])


@effect(ANYTHING, str)
def warn_on(condition: bool, sentence: str) -> Asks[bool]:
    """Something that must never hold: where it does the kernel writes a warning and goes on. The answer is the condition."""
    yield (_warn_on, condition, sentence)
    return condition


@operation(touches=nothing)
def _warn_on(engine: Engine, thread: Thread, request: Request) -> None:
    if request[1]:
        engine.note_wrong(f"warning: {request[2]}")


@effect(int, int)
def copy_from_user(address: int, size: int) -> Asks[bytes]:
    """Read `size` bytes of the calling process at `address`; EFAULT where they cannot all be read."""
    answer: bytes = yield (_copy_from_user, address, size)
    return answer


@effect(int, int)
def copy_some_from_user(address: int, size: int) -> Asks[bytes]:
    """Read as many of `size` bytes of the calling process at `address` as can be read; EFAULT if not even the first can."""
    answer: bytes = yield (_copy_some_from_user, address, size)
    return answer


@effect(int, bytes)
def copy_to_user(address: int, data: bytes) -> Asks[None]:
    """Write bytes into the calling process at `address`; EFAULT where they cannot all be written."""
    yield (_copy_to_user, address, data)


@effect(ANYTHING, int, int)
def read_memory(memory: UserMemory, address: int, size: int) -> Asks[bytes]:
    """Read an address space, whoever's it is: as a device does that reaches it, or a thread of the kernel. EFAULT."""
    answer: bytes = yield (_read_memory, memory, address, size)
    return answer


@effect(ANYTHING, int, bytes)
def write_memory(memory: UserMemory, address: int, data: bytes) -> Asks[None]:
    """Write into an address space, likewise."""
    yield (_write_memory, memory, address, data)


@effect(ANYTHING, int, int, ANYTHING)
def pin_pages(memory: UserMemory, address: int, size: int, write: bool) -> Asks[None]:
    """Pin the pages of a range, so that they stay where they are; EFAULT where one is missing or must not be written."""
    yield (_pin_pages, memory, address, size, write)


def _pages(memory: Any, address: int, size: int, way: int) -> Accesses:
    """The pages of a range of user memory, and what says that they are mapped."""
    pages = range(address >> _PAGE, (address + max(size, 1) - 1 >> _PAGE) + 1)
    mapped: Access = ((memory.oid, "mappings"), LOOK)
    return (mapped, *(((memory.oid, f"page {page:#x}"), way) for page in pages))


@operation(
    touches=lambda thread, request: _pages(request[1], request[2], request[3], LOOK), fails=(Errno.EFAULT, Errno.ENOMEM)
)
def _pin_pages(engine: Engine, thread: Thread, request: Request) -> None:
    _, memory, address, size, write = request
    if not memory.pinnable(address, size, write):
        raise KernelError(Errno.EFAULT, memory.unpinnable(address, size, write), check="pin_pages")


def _memory_words(say: Say, answer: Any, memory: Any, address: int, copied: bytes | int) -> str:
    return f"{_size(copied)} bytes at {address:#x} of {say(memory)}"


@operation(touches=lambda thread, request: _pages(request[1], request[2], request[3], LOOK), words=_memory_words)
def _read_memory(engine: Engine, thread: Thread, request: Request) -> bytes:
    _, memory, address, size = request
    found: bytes = memory.read(address, size)
    return found


@operation(touches=lambda thread, request: _pages(request[1], request[2], len(request[3]), WRITE), words=_memory_words)
def _write_memory(engine: Engine, thread: Thread, request: Request) -> None:
    _, memory, address, data = request
    if engine.journal is not None:
        engine.journal.append((thread, address, None, data))
    memory.write(address, data)


@effect()
def change_mappings(memory: UserMemory, change: Callable[[], T]) -> Asks[T]:
    """Let `change` map or unmap parts of an address space, in one step (`mmap_lock`); a KernelError that it raises is an errno."""
    answer: T = yield (_change_mappings, memory, change)
    return answer


def _mappings(thread: Thread, request: Request) -> Accesses:
    return (((request[1].oid, "mappings"), WRITE),)


@operation(touches=_mappings)
def _change_mappings(engine: Engine, thread: Thread, request: Request) -> Any:
    return request[2]()


def bytes_at(address: int, size: int) -> str:
    """The beginning of a sentence: "the 24 bytes at address 0x10 cannot all"."""
    return f"the {size} bytes at address {address:#x} cannot all" if size != 1 else f"the byte at {address:#x} cannot"


def _user_memory(way: int) -> Callable[[Thread, Request], Accesses]:
    """The pages that a copy reads or writes."""
    return lambda thread, request: _pages(thread.memory, request[1], _size(request[2]), way)


def _size(copied: bytes | int) -> int:
    return copied if isinstance(copied, int) else len(copied)


def _copy_words(say: Say, answer: Any, address: int, copied: bytes | int) -> str:
    return f"{_size(copied)} bytes at {address:#x}"


@operation(touches=_user_memory(LOOK), fails=(Errno.EFAULT,), words=_copy_words)
def _copy_from_user(engine: Engine, thread: Thread, request: Request) -> bytes:
    _, address, size = request
    try:
        return thread.memory.read(address, size)
    except OSError:
        why = f"{bytes_at(address, size)} be read"
        raise KernelError(Errno.EFAULT, why, check="copy_from_user") from None


@operation(touches=_user_memory(LOOK), fails=(Errno.EFAULT,), words=_copy_words)
def _copy_some_from_user(engine: Engine, thread: Thread, request: Request) -> bytes:
    _, address, size = request
    try:
        return thread.memory.read(address, size)
    except OSError:
        found = _copy_from_user(engine, thread, (_copy_from_user, address, 1))
    while True:
        try:
            found += thread.memory.read(address + len(found), 1)
        except OSError:
            return found


@operation(touches=_user_memory(WRITE), fails=(Errno.EFAULT,), words=_copy_words)
def _copy_to_user(engine: Engine, thread: Thread, request: Request) -> None:
    _, address, data = request
    if engine.journal is not None:
        engine.journal.append((thread, address, None, data))
    try:
        thread.memory.write(address, data)
    except OSError:
        why = f"{bytes_at(address, len(data))} be written"
        raise KernelError(Errno.EFAULT, why, check="copy_to_user") from None


@effect()
def return_to_user(result: object) -> Asks[None]:
    """The thread leaves the kernel with this result; nothing changes, but it is a step of its own."""
    yield (_return_to_user, result)


@operation(touches=nothing, orders=True)
def _return_to_user(engine: Engine, thread: Thread, request: Request) -> None:
    for lock in thread.locks:  # nobody will ever give it back (lockdep_sys_exit)
        taker = thread.takers.get(lock, "the call")
        engine.note_wrong(f"lock kept: {thread.label} returns to user space and has {lock.path}, which {taker} took")


# ---- what is outside of the machine


class OutsideError(RuntimeError):
    """Something that was given to the machine from outside is at fault; the kernel has seen a failure and has unwound."""


def failed_outside(error: OutsideError) -> Exception:
    """What to raise where something outside has failed: within a call EFAULT, and the error itself when the call has ended."""
    thread = running.thread
    if thread is None:
        return error
    thread.outside_error = thread.outside_error or error
    return KernelError(Errno.EFAULT, str(error), check="outside")


@effect()
def call_outside(function: Callable[[], T]) -> Asks[T]:
    """Do something outside of the machine, such as writing to a real file. It cannot be undone, and a branch cannot repeat it.

    An OSError is an errno for the kernel; whatever else it raises ends the call with an OutsideError.
    """
    answer: T = yield (_call_outside, function)
    return answer


def _outside(thread: Thread, request: Request) -> Accesses:
    return ((("outside", ""), WRITE),)


def _outside_words(say: Say, answer: Any, function: Any) -> str:
    function = getattr(function, "func", function)
    return f"{getattr(function, '__qualname__', 'something')}, outside of the machine"


@operation(touches=_outside, words=_outside_words)
def _call_outside(engine: Engine, thread: Thread, request: Request) -> Any:
    try:
        return request[1]()
    except OSError as error:
        known = [errno for errno in Errno if errno == error.errno]
        raise KernelError(known[0] if known else Errno.EIO, str(error), check="outside") from None
    except Exception as error:
        raise failed_outside(OutsideError(f"outside of the machine: {type(error).__name__}: {error}")) from error
