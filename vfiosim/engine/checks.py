"""Effects that can refuse: named checks, and copies from and to user memory."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..uapi import Errno, KernelError
from .functions import running
from .operations import ANYTHING, LOOK, WRITE, Access, Accesses, Request, Say, also_asks, effect, nothing

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

T = TypeVar("T")
_PAGE = 12


class Storage(Protocol):
    """Bytes at addresses, or at places of a file. Sizes are in bytes; OSError(EFAULT) for a bad address."""

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`."""

    def write(self, address: int, data: bytes) -> None:
        """Write as much of `data` as can be written, from its beginning."""


class UserMemory(Storage, Protocol):
    """What an address space must offer to copies."""

    def pinnable(self, address: int, size: int, write: bool) -> bool:
        """Can all pages of a range be pinned, to be read or also to be written?"""

    def unpinnable(self, address: int, size: int, write: bool) -> str:
        """Why they cannot."""

    def unshare(self, address: int, size: int) -> None:
        """What is private there is so from now on, whether it was written or not."""


def _check_words(say: Say, answer: Any, condition: Any, _errno: Any, name: str, *_: Any) -> str:
    if isinstance(answer, BaseException):
        return f"[{name}] refused"
    return f"[{name}] would refuse" if condition else f"[{name}] passed"


@effect(ANYTHING, int, str, str, touches=nothing, words=_check_words)
def refuse_if(
    engine: Engine,
    thread: Thread,
    condition: bool,
    errno: Errno,
    name: str,
    sentence: str | Callable[[Engine], str],
) -> None:
    """A check: where the condition holds the call fails with `errno`. Named, so that it can be shown and taken out.

    A `sentence` that has to look round for what it tells is a function; it is no effect, and asked only where the check refuses.
    """
    if condition:
        raise KernelError(errno, sentence(engine) if callable(sentence) else sentence, check=name)


@also_asks(refuse_if)
def require(value: T | None, errno: Errno, name: str, sentence: str) -> Generator[Request, None, T]:
    """A check on a pointer: where it is None the call fails with `errno`, otherwise the answer is the pointer."""
    yield (refuse_if, value is None, errno, name, sentence)
    return value  # type: ignore[return-value]


def _warned_words(say: Say, answer: Any, *given: Any) -> str:
    return ", ".join(map(say, given))


@effect(ANYTHING, str, touches=nothing, words=_warned_words)
def warn_on(engine: Engine, thread: Thread, condition: bool, sentence: str) -> bool:
    """Something that must never hold: where it does the kernel writes a warning and goes on. The answer is the condition."""
    if condition:
        engine.note_wrong(f"warning: {sentence}")
    return condition


# ---- user memory


def bytes_at(address: int, size: int) -> str:
    """The beginning of a sentence: "the 24 bytes at address 0x10 cannot all"."""
    return f"the {size} bytes at address {address:#x} cannot all" if size != 1 else f"the byte at {address:#x} cannot"


def _size(copied: bytes | int) -> int:
    return copied if isinstance(copied, int) else len(copied)


def _pages(memory: Any, address: int, size: int, way: int) -> Accesses:
    """The pages of a range of user memory, and what says that they are mapped."""
    pages = range(address >> _PAGE, (address + max(size, 1) - 1 >> _PAGE) + 1)
    mapped: Access = ((memory.oid, "mappings"), LOOK)
    return (mapped, *(((memory.oid, f"page {page:#x}"), way) for page in pages))


def _reads_own(thread: Thread, request: Request) -> Accesses:
    return _pages(thread.memory, request[1], request[2], LOOK)


def _copy_words(say: Say, answer: Any, address: int, copied: bytes | int) -> str:
    return f"{_size(copied)} bytes at {address:#x}"


def _copied(thread: Thread, address: int, size: int) -> bytes:
    try:
        return thread.memory.read(address, size)
    except OSError as error:
        raise _bad(error, f"{bytes_at(address, size)} be read", "copy_from_user") from None


def _bad(error: OSError, why: str, check: str) -> OSError:
    """A bad address is one for the kernel; what memory says instead that it cannot tell is no answer of the kernel."""
    return error if error.errno == Errno.ENOSYS else KernelError(Errno.EFAULT, why, check=check)


@effect(int, int, touches=_reads_own, fails=(Errno.EFAULT,), words=_copy_words)
def copy_from_user(engine: Engine, thread: Thread, address: int, size: int) -> bytes:
    """Read `size` bytes of the calling process at `address`; EFAULT where they cannot all be read."""
    return _copied(thread, address, size)


@effect(int, int, touches=_reads_own, fails=(Errno.EFAULT,), words=_copy_words)
def copy_some_from_user(engine: Engine, thread: Thread, address: int, size: int) -> bytes:
    """Read as many of `size` bytes of the calling process at `address` as can be read; EFAULT if not even the first can."""
    read = thread.memory.read
    try:
        return read(address, size)
    except OSError:
        found = _copied(thread, address, 1)
    while len(found) < size:
        try:
            found += read(address + len(found), 1)
        except OSError:
            break
    return found


@effect(
    int,
    bytes,
    touches=lambda thread, request: _pages(thread.memory, request[1], len(request[2]), WRITE),
    fails=(Errno.EFAULT,),
    words=_copy_words,
)
def copy_to_user(engine: Engine, thread: Thread, address: int, data: bytes) -> None:
    """Write bytes into the calling process at `address`; EFAULT where they cannot all be written."""
    if engine.journal is not None:
        engine.journal.append((thread, address, None, data))
    try:
        thread.memory.write(address, data)
    except OSError as error:
        raise _bad(error, f"{bytes_at(address, len(data))} be written", "copy_to_user") from None


def _reads(thread: Thread, request: Request) -> Accesses:
    return _pages(request[1], request[2], request[3], LOOK)


def _memory_words(say: Say, answer: Any, memory: Any, address: int, copied: bytes | int) -> str:
    return f"{_copy_words(say, answer, address, copied)} of {say(memory)}"


@effect(ANYTHING, int, int, touches=_reads, words=_memory_words)
def read_memory(engine: Engine, thread: Thread, memory: Storage, address: int, size: int) -> bytes:
    """Read an address space or a file, whoever's it is: as a device does that reaches it, or a thread of the kernel. EFAULT."""
    return memory.read(address, size)


@effect(
    ANYTHING,
    int,
    bytes,
    touches=lambda thread, request: _pages(request[1], request[2], len(request[3]), WRITE),
    words=_memory_words,
)
def write_memory(engine: Engine, thread: Thread, memory: Storage, address: int, data: bytes) -> None:
    """Write into an address space, likewise."""
    if engine.journal is not None:
        engine.journal.append((thread, address, None, data))
    memory.write(address, data)


@effect(ANYTHING, int, int, ANYTHING, touches=_reads, fails=(Errno.EFAULT, Errno.ENOMEM))
def pin_pages(
    engine: Engine, thread: Thread, memory: UserMemory, address: int, size: int, write: bool, lasting: bool = True
) -> None:
    """Pin the pages of a range, so that they stay where they are; EFAULT where one is missing or must not be written.

    `lasting`: for longer than the call; a private page of a file is copied then (`gup_must_unshare`).
    """
    if not memory.pinnable(address, size, write):
        raise KernelError(Errno.EFAULT, memory.unpinnable(address, size, write), check="pin_pages")
    if lasting:
        memory.unshare(address, size)


@effect(touches=lambda thread, request: (((request[1].oid, "mappings"), WRITE),))
def change_mappings(engine: Engine, thread: Thread, memory: UserMemory, change: Callable[[], T]) -> T:
    """Let `change` map or unmap parts of an address space, in one step (`mmap_lock`); a KernelError that it raises is an errno."""
    return change()


@effect(touches=nothing, orders=True)
def return_to_user(engine: Engine, thread: Thread, result: object) -> None:
    """The thread leaves the kernel with this result; nothing changes, but it is a step of its own."""
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


def _outside_words(say: Say, answer: Any, function: Any) -> str:
    function = getattr(function, "func", function)
    return f"{getattr(function, '__qualname__', 'something')}, outside of the machine"


@effect(touches=lambda thread, request: ((("outside", ""), WRITE),), words=_outside_words)
def call_outside(engine: Engine, thread: Thread, function: Callable[[], T]) -> T:
    """Do something outside of the machine, such as writing to a real file. It cannot be undone, and a branch cannot repeat it.

    An OSError is an errno for the kernel; whatever else it raises ends the call with an OutsideError.
    """
    try:
        return function()
    except OSError as error:
        known = [errno for errno in Errno if errno == error.errno]
        raise KernelError(known[0] if known else Errno.EIO, str(error), check="outside") from None
    except Exception as error:
        raise failed_outside(OutsideError(f"outside of the machine: {type(error).__name__}: {error}")) from error
