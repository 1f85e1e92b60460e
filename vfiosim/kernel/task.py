"""Processes: what they own, how they begin and how they end (kernel/fork.c, kernel/exit.c, kernel/task_work.c, v7.2)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..engine import *
from ..uapi import KernelError
from .fs.file import PLAIN_FILE, RESERVED, File, FilesStruct, fput
from .mm import MmStruct, mmput

if TYPE_CHECKING:
    from .af_unix import UnixSock

R = TypeVar("R")
ALL_CAPABILITIES = (
    "CAP_DAC_OVERRIDE",
    "CAP_IPC_LOCK",
    "CAP_SYS_ADMIN",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
)


MEMLOCK = 8 << 20  # RLIMIT_MEMLOCK that processes begin with, in bytes
LIVES = "lives"
USES = "runs in it"
ITS_USER = "runs as it"


class UserStruct(KObject):
    """A user: all processes of the same user ID.

    * user 0 is there from the start, and stays; the others from the first process that becomes them (`alloc_uid`);
    * held by its processes, and by memory that is charged to it; goes with the last of them (`free_uid`).
    """

    kind = "user_struct"
    root = "a user"
    refs: Count = count()  # `__count`
    uidhash_lock: Lock = spinlock()  # only that of user 0 is used
    locked_vm: Field[int] = field(0)  # pages that are charged to the user
    others: Table[UserStruct] = table(guard="uidhash_lock")  # by ID; only user 0 keeps it
    tasklist_lock: Lock = spinlock()  # this, too, and what it guards
    tasks: Table[TaskStruct] = table(guard="tasklist_lock")  # all processes, by name
    unix_inflight: Field[int] = field(0)  # its files in messages that nobody has received
    unix_gc_lock: Lock = (
        spinlock()
    )  # and this, with what follows: sockets in messages, and whether some may hold each other
    unix_vertices: Field[tuple[UnixSock, ...]] = field((), guard="unix_gc_lock", link="weak")
    unix_graph_cyclic: Field[bool] = field(False)
    gc_in_progress: Field[bool] = field(False)

    def __init__(self, engine: Engine, uid: int, root: UserStruct | None = None) -> None:
        super().__init__(engine, str(uid))
        self.uid = uid
        self.user_0 = root or self


@kernel("kernel/user.c")
async def free_uid(user: UserStruct, holder: KObject, reason: str) -> None:
    """Let go of a user; it goes with the last reference, and nobody can find it in between."""
    if user.uid == 0:
        await put(user.refs, holder, reason)
        return
    async with user.user_0.uidhash_lock:
        last = await put(user.refs, holder, reason)
        if last:
            await xa_store(user.user_0.others, user.uid, None)
    if last:
        await free(user)


@kernel("kernel/user.c")
async def alloc_uid(user: UserStruct, uid: int, task: TaskStruct) -> UserStruct:
    """The user with this ID, held by a process from now on; `user` is any other."""
    zero = user.user_0
    if uid == 0:
        await get(zero.refs, task, ITS_USER)
        return zero
    async with zero.uidhash_lock:
        known = await xa_load(zero.others, uid)
        if known is None:
            known = await alloc(UserStruct, uid, zero)
            await xa_store(zero.others, uid, known)
        await get(known.refs, task, ITS_USER)
    return known


class TaskStruct(KObject):
    """A process, as the kernel sees it.

    * born empty or by fork;
    * owns a descriptor table and an address space;
    * at its end the address space goes first, then the files in ascending order of their numbers;
    * what is left is kept by who still charges memory to it (`usage`).
    """

    kind = "process"
    root = "a process"

    alive: Field[bool] = field(True)
    caps: Field[tuple[str, ...]] = field(ALL_CAPABILITIES)
    mm: Field[MmStruct] = field(None)  # type: ignore[arg-type]
    usage: Count = count()
    user: Field[UserStruct] = field(None)  # type: ignore[arg-type]
    memlock: Field[int] = field(MEMLOCK)  # RLIMIT_MEMLOCK in bytes: how much memory may be locked
    memlock_max: Field[int] = field(MEMLOCK)
    nofile_max: Field[int] = field(4096)  # RLIMIT_NOFILE, the hard limit; the soft one is with the files

    def __init__(
        self, engine: Engine, label: str, files: FilesStruct, mm: MmStruct, caps: tuple[str, ...] = ALL_CAPABILITIES
    ) -> None:
        super().__init__(engine, label)
        self.name = label
        self.caps.value = caps
        self.files = files
        self.mm.value = mm


async def begin_mm(task: TaskStruct, mm: MmStruct) -> None:
    """A new address space is in use by one process."""
    await get(mm.mm_count, mm, "in use")
    await get(mm.mm_users, task, USES)


async def begin_task(task: TaskStruct, user: UserStruct, parent: TaskStruct | None) -> None:
    """What a new process counts on: its address space, itself and its user."""
    await get(task.usage, task, LIVES)
    await begin_mm(task, await load(task.mm))
    mine = user if parent is None else await load(parent.user)
    await get(mine.refs, task, ITS_USER)
    await store(task.user, mine)


@kernel("include/linux/sched/task.h")
async def put_task_struct(task: TaskStruct, holder: KObject, reason: str) -> None:
    """Let go of a process; its remains go with the last reference."""
    if await put(task.usage, holder, reason):
        await free_uid(await load(task.user), task, ITS_USER)
        await free(task)


def current_task() -> TaskStruct:
    """The calling process."""
    task = current().process
    assert isinstance(task, TaskStruct)
    return task


async def mm_of(task: TaskStruct) -> MmStruct:
    """Its address space, until the next exec."""
    return await load(task.mm)


async def current_mm() -> MmStruct | None:
    """The address space of the calling process; None if it is exiting, or for a worker of the kernel."""
    task = current().process
    return await mm_of(task) if isinstance(task, TaskStruct) and await load(task.alive) else None


async def open_standard_files(files: FilesStruct) -> None:
    """What every program finds open: descriptors 0, 1 and 2, here all of one terminal."""
    terminal = await alloc(File, "terminal", PLAIN_FILE)
    for number in range(3):
        await get(terminal.f_ref, files, f"fd {number}")
        await xa_store(files.fd, number, terminal)


async def system_call(body: Coroutine[Any, Any, R]) -> R:
    """What surrounds every system call: the call itself, deferred work, and the return to user space."""
    try:
        result = await body
    except KernelError as error:
        await task_work_run()
        say(Phase.UNWIND, f"The call returns −1, errno {error.name}.")
        await return_to_user(-error.errno)
        raise
    await task_work_run()
    say(returning(), f"The call returns {result}." if isinstance(result, int) else "The call returns.")
    await return_to_user(result)
    return result


@kernel("kernel/task_work.c")
async def task_work_run() -> None:
    """Do what was put off until the return to user space; what was queued last comes first."""
    thread = current()
    while queued := thread.take_task_work():
        for work in queued:
            await work()


async def capable(name: str) -> bool:
    """Does the calling process have this capability? A thread of the kernel has all."""
    return current().process is None or name in await load(current_task().caps)


@kernel("kernel/fork.c")
async def copy_files(parent: TaskStruct, child: TaskStruct) -> None:
    """The child gets every open file of the parent, under the same numbers."""
    say(Phase.ACQUIRE, "{} gets the descriptors of {}: each leads to the same file, and holds it, too.", child, parent)
    number = await next_slot(parent.files.fd, 0)
    while number is not None:
        file = await xa_load(parent.files.fd, number)
        if file is not None and file != RESERVED:
            await get(file.f_ref, child.files, f"fd {number}")
            await xa_store(child.files.fd, number, file)
            if await xa_load(parent.files.close_on_exec, number):
                await xa_store(child.files.close_on_exec, number, True)
        number = await next_slot(parent.files.fd, number + 1)


@kernel("kernel/fork.c")
async def copy_process(parent: TaskStruct, name: str) -> TaskStruct:
    """A child with a copy of its parent's memory, rights and limits; its files come by `copy_files`."""
    files = await alloc(FilesStruct, name, await load(parent.files.limit))
    mm = await alloc((await load(parent.mm)).copy, name)
    child = await alloc(TaskStruct, name, files, mm, await load(parent.caps))
    await store(child.memlock, await load(parent.memlock))
    await store(child.memlock_max, await load(parent.memlock_max))
    await store(child.nofile_max, await load(parent.nofile_max))
    return child


@kernel("fs/exec.c")
async def begin_new_exec(task: TaskStruct) -> int:
    """Another program takes over: it begins with memory of its own, and without the files opened with O_CLOEXEC."""
    say(
        Phase.RELEASE,
        "{} gets empty memory; what was mapped for devices from the old one cannot be reached any more.",
        task,
    )
    old, fresh = await load(task.mm), await alloc(MmStruct, task.name)
    await begin_mm(task, fresh)
    await store(task.mm, fresh)
    await mmput(old, task, USES)
    number = await next_slot(task.files.fd, 0)
    while number is not None:
        if await xa_store(task.files.close_on_exec, number, None):
            file = await xa_store(task.files.fd, number, None)
            if file is not None and file != RESERVED:
                await fput(file, task.files, f"fd {number}")
        number = await next_slot(task.files.fd, number + 1)
    return 0


@kernel("kernel/exit.c")
async def do_exit(task: TaskStruct) -> None:
    """The process ends: its memory goes, then its files, lowest number first; the releases this causes run later."""
    say(Phase.RELEASE, "{} exits: its descriptors are closed in ascending order.", task)
    await store(task.alive, False)
    await mmput(await load(task.mm), task, USES)
    number = await next_slot(task.files.fd, 0)
    while number is not None:
        file = await xa_store(task.files.fd, number, None)
        if file is not None and file != RESERVED:
            await fput(file, task.files, f"fd {number}")
        number = await next_slot(task.files.fd, number + 1)
    await task_work_run()
    say(Phase.RELEASE, "The files of {} are closed; now the process itself goes.", task)
    zero = (await load(task.user)).user_0
    async with zero.tasklist_lock:
        if await xa_load(zero.tasks, task.name) is task:  # and not one that has the name by now
            await xa_store(zero.tasks, task.name, None)
    await free(task.files)
    await put_task_struct(task, task, LIVES)
