"""Open files and the tables of file descriptors (fs/file_table.c, fs/file.c, include/linux/fs.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from ...engine import *
from ...engine.functions import running
from ...uapi import Errno
from ..regions import Sparse
from ..unsupported import Unsupported

RESERVED: Final = "reserved"  # a descriptor number that is taken, but leads to no file yet
O_ACCMODE, O_RDONLY, O_WRONLY, O_RDWR, O_PATH = 3, 0, 1, 2, 0o10000000
O_CLOEXEC: Final = 0o2000000


@dataclass(frozen=True)
class Mapping:
    """What a program asks of mmap: `length` bytes of the file from `offset` on, read 1, write 2, execute 4; `kind` 2: private."""

    length: int
    prot: int
    kind: int
    offset: int

    @property
    def shared(self) -> bool:
        """Does everybody who maps it see the same bytes? So it is of kinds 1 and 3."""
        return self.kind != 2


class KernelPages(NamedTuple):
    """What a file lets a program map that is neither a file nor registers: memory of the kernel, which cannot be pinned."""

    content: Sparse
    owner: Any  # the object that has it: each mapping is one of its `users`


@dataclass(frozen=True)
class FileOperations:
    """What a kind of file can do (`struct file_operations`); None where it cannot."""

    name: str
    open: Callable[[File], Awaitable[None]] | None = None
    release: Callable[[File], Awaitable[None]] | None = None
    unlocked_ioctl: Callable[[File, int, int], Awaitable[int]] | None = None
    read: Callable[[File, int, int], Awaitable[bytes]] | None = None  # how many bytes, from where
    write: Callable[[File, bytes, int], Awaitable[int]] | None = None
    mmap: Callable[[File, Mapping], Awaitable[Any]] | None = None  # answers with what is mapped; None: registers
    # an access to registers that are mapped: where, how many bytes, and what is written
    fault: Callable[[File, int, int, bytes | None], Awaitable[bytes]] | None = None
    poll: Callable[[File], Awaitable[int]] | None = None  # None: it can always be read and written
    wait: Callable[[File, int], Awaitable[bool]] | None = None  # until that changes, at most so many milliseconds
    llseek: Callable[[File, int, int], Awaitable[int]] | None = None
    show_fdinfo: Callable[[File], Awaitable[str]] | None = None
    stream: bool = False  # has no offsets
    seq: bool = False  # has offsets for writing only if it was opened for that
    copies: bool = False  # `read` and `write` are given the program's address, too, and copy by themselves


PLAIN_FILE = FileOperations("plain")  # a file that none of the modelled subsystems knows


class File(KObject):
    """An open file.

    * born by open, or as an anonymous file (VM, KVM device);
    * held by slots of descriptor tables, by running calls, and by kernel objects (a binding, the kvm-vfio list);
    * when the last reference goes, its release handler runs: at once in close, otherwise later as task work;
    * dies after the release handler.

    Its memory may be looked at after its death (SLAB_TYPESAFE_BY_RCU): a look-up finds a count of zero and tries again.
    """

    kind = "file"
    stays_readable = True

    f_ref: Count = count()
    private_data: Field[KObject | None] = field(None, link="owns")
    f_pos: Field[int] = field(0)  # where the next read or write begins that does not say where

    def __init__(self, engine: Engine, name: str, f_op: FileOperations, f_flags: int = O_RDWR) -> None:
        in_a_race = running.thread is not None and running.thread.prefix  # then its name tells the thread: "vfio0#A1"
        super().__init__(engine, name if in_a_race else f"{name}#{engine.number(f'file {name}')}")
        self.f_op = f_op
        self.f_flags = f_flags
        self.cdev: Cdev | None = None  # the node that it was opened through; set before anybody can find the file


class Cdev(KObject):
    """The part of a device node that open finds (`struct cdev`).

    * born with the node; held by the node and by every file opened through it;
    * holds the object it is embedded in (`parent`);
    * dies when the node and the last file are gone.

    Its memory may be looked at after its death: looking a node up and taking it is one step under `cdev_lock`, which is not
    modelled, so that a look-up which comes too late finds a count of zero.
    """

    kind = "cdev"
    stays_readable = True
    kobj: Count = count()

    def __init__(
        self,
        engine: Engine,
        name: str,
        f_op: FileOperations,
        parent: Count | None = None,
        inside: KObject | None = None,
        release: Callable[[Any], Awaitable[None]] | None = None,
        mode: int = 0o600,
    ) -> None:
        super().__init__(engine, name)
        self.f_op = f_op
        self.parent = parent
        self.inside = inside
        self.release = release  # what the last reference on `parent` calls
        self.mode = mode  # of the node; it belongs to user and group 0


class FilesStruct(KObject):
    """The descriptor table of a process: number to file. A root: what is in it is what a program can reach."""

    kind = "fds"
    root = "file descriptors of a process"

    fd: Table[File | Literal["reserved"]] = table()
    close_on_exec: Table[bool] = table()
    limit: Field[int] = field(0)  # RLIMIT_NOFILE

    def __init__(self, engine: Engine, label: str, limit: int) -> None:
        super().__init__(engine, label)
        self.limit.value = limit


@kernel("fs/file.c")
async def get_unused_fd_flags(flags: int = 0) -> int:
    """Reserve the lowest free descriptor number. EMFILE when the table is full. With O_CLOEXEC exec will close it."""
    files = current_files()
    limit = await load(files.limit)
    claimed = await xa_alloc(files.fd, RESERVED, limit)
    number = await require(
        claimed, Errno.EMFILE, "fd_table_has_room", f"the process has {limit} files open, as RLIMIT_NOFILE lets it"
    )
    await xa_store(files.close_on_exec, number, True if flags & O_CLOEXEC else None)
    return number


@kernel("fs/file.c")
async def put_unused_fd(number: int) -> None:
    """Give a reserved number back."""
    await xa_store(current_files().fd, number, None)


@kernel("fs/file.c")
async def fd_install(number: int, file: File, reason: str = "being opened") -> None:
    """Let a reserved number lead to `file`; the table takes over the reference that the running call has for `reason`."""
    files = current_files()
    await hand_over(file.f_ref, (current(), reason), (files, f"fd {number}"))
    await xa_store(files.fd, number, file)


@kernel("fs/file.c")
async def close_fd(number: int) -> File:
    """Take a file out of the descriptor table; the caller now owns the table's reference. EBADF if there is none."""
    files = current_files()
    file = await xa_load(files.fd, number)
    good = None if file == RESERVED else file
    await require(good, Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    say(Phase.RELEASE, "Descriptor {} leads nowhere any more: it gives back what it held.", number)
    taken = await xa_store(files.fd, number, None)  # under file_lock: of two threads that close it, one gets the file
    if not isinstance(taken, File):
        if taken is not None:  # another thread has closed it, and a third one has reserved the number already
            await xa_store(files.fd, number, taken)
        await refuse_if(True, Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    assert isinstance(taken, File)
    return taken


@kernel("fs/file.c")
async def fget(number: int) -> File | None:
    """The file behind a descriptor, with a reference for the running call; None if there is none, or only an O_PATH one."""
    return only_held(*await fdget(number))


@kernel("fs/file.c")
async def fget_raw(number: int) -> File | None:
    """The same, for O_PATH files too."""
    return only_held(*await look_up(number, 0))


def only_held(file: File | None, held: bool) -> File | None:
    """A file with a reference for the running call."""
    if file is not None and not held:
        raise Unsupported("holding a file that was released under its descriptor")
    return file


@kernel("fs/file.c")
async def fdget(number: int) -> tuple[File | None, bool]:
    """The file behind a descriptor for the time of a call, and whether the call holds it; None as `fget`.

    A file that was released although a descriptor still leads to it is found too, and not held: a process with one thread
    does not look at the count.
    """
    return await look_up(number, O_PATH)


async def look_up(number: int, hidden: int) -> tuple[File | None, bool]:
    """What `fdget` and `fget_raw` have in common; a file with one of the flags `hidden` is not found (`__fget_files_rcu`)."""
    files = current_files()
    while True:
        file = await xa_load(files.fd, number)
        if file is None or file == RESERVED or file.f_flags & hidden:
            return None, False
        if not await get_unless_zero(file.f_ref, current(), "running call"):
            if await xa_load(files.fd, number) is file:
                return file, False
            continue  # closed in between: look again
        if await xa_load(files.fd, number) is file:
            return file, True
        await fput(file)  # replaced in between: not the file that was asked for


@kernel("fs/file.c")
async def receive_fd_replace(number: int, file: File) -> int:
    """Let a descriptor lead to an open file that somebody else has, and to nothing else any more (SECCOMP_IOCTL_NOTIF_ADDFD)."""
    files = current_files()
    await get(file.f_ref, files, f"fd {number}")
    before = await xa_store(files.fd, number, file)
    if isinstance(before, File):
        await fput(before, files, f"fd {number}")
    return number


@kernel("fs/file_table.c")
async def __fput(file: File) -> None:
    """Nobody holds the file any more: run its release handler, let go of the node it was opened through, free it."""
    if file.f_op.release is not None and not file.f_flags & O_PATH:
        say(Phase.RELEASE, "Nobody holds {} any more: its release handler runs.", file)
        await file.f_op.release(file)
    if file.cdev is not None:
        await cdev_put(file.cdev, file)
    await free(file)


@kernel("fs/file_table.c")
async def fput(file: File, holder: KObject | None = None, reason: str = "running call") -> None:
    """Give a reference back. The last one queues the release for the return to user space, or to a worker of the kernel."""
    thread = current()
    if await put(file.f_ref, holder or thread, reason):
        if thread.process is not None:
            thread.add_task_work(partial(__fput, file))
        else:
            thread.engine.spawn(__fput(file), "delayed_fput")


def gives_back(file: File) -> None:
    """Say what a call that goes well does last; that it returns is said in the same step (`Grouper`)."""
    say(Phase.RELEASE, "The call gives its reference to {} back.", file)


class for_the_call(cleanup):
    """`async with for_the_call(file):` the call's reference is given back on the way out, also if the block fails."""

    __slots__ = ()

    def __init__(self, file: File) -> None:
        super().__init__(fput, file)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            gives_back(*self.leave.args)
        await super().__aexit__(kind, error, trace)


@kernel("fs/file_table.c")
async def fput_close_sync(file: File, holder: KObject, reason: str) -> None:
    """Give a reference back; the last one runs the release handler at once."""
    if await put(file.f_ref, holder, reason):
        await __fput(file)


@kernel("fs/char_dev.c")
async def cdev_put(cdev: Cdev, holder: KObject, reason: str = "opened") -> None:
    """Let go of a node. With the last reference it goes, and with it its hold on the object around it."""
    if await put(cdev.kobj, holder, reason):
        if cdev.parent is not None and await put(cdev.parent, cdev, "contains the node") and cdev.release is not None:
            await cdev.release(cdev.inside)
        await free(cdev)


@kernel("fs/char_dev.c")
async def chrdev_open(file: File, cdev: Cdev) -> None:
    """Open a character device: take its node, then let its driver say whether it may be opened. ENXIO if the node is going."""
    found = await get_unless_zero(cdev.kobj, file, "opened")
    await refuse_if(not found, Errno.ENXIO, "node_is_there", "the device behind this node is gone")
    init(file, cdev=cdev)
    if file.f_op.open is not None:
        async with on_failure(cdev_put, cdev, file):
            await file.f_op.open(file)


@kernel("fs/namei.c")
async def inode_permission(mode: int, flags: int) -> None:
    """May the caller open what has this mode? User 0 and CAP_DAC_OVERRIDE may; all others are in its group 0 here. EACCES."""
    task: Any = current().process
    user = (await load(task.user)).uid
    if user == 0 or "CAP_DAC_OVERRIDE" in await load(task.caps):
        return
    way = flags & O_ACCMODE
    need = 4 * (way != O_WRONLY) | 2 * (way != O_RDONLY)
    denied = mode >> 3 & need != need
    verb = {O_RDONLY: "read", O_WRONLY: "write"}.get(way, "read and write")
    why = f"user {user} without CAP_DAC_OVERRIDE may not {verb} a file of user 0 whose mode is 0{mode & 0o7777:o}"
    await refuse_if(denied, Errno.EACCES, "node_permission", why)


def current_files() -> FilesStruct:
    """The descriptor table of the calling process."""
    process: Any = current().process
    files: FilesStruct = process.files
    return files


def caller() -> str:
    """Who makes this call, for people: the process, or its thread by name."""
    thread: Any = current()
    process = thread.process.label
    return process if thread.prefix in ("", process) else f"{thread.prefix} ({process})"


async def private(file: File) -> Any:
    """What the driver keeps behind an open file; set at open and never changed."""
    return await load(file.private_data)
