"""What a process may do, and how much of it (kernel/sys.c, kernel/capability.c, v7.2)."""

from __future__ import annotations

from ..engine import *
from ..uapi import Errno
from .task import ITS_USER, TaskStruct, UserStruct, alloc_uid, capable, current_task, free_uid
from .unsupported import Unsupported

RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIM_NLIMITS = 7, 8, 16
NR_OPEN = 1 << 20  # fs.nr_open, as it is unless somebody changes it


@kernel("kernel/sys.c")
async def sys_setuid(uid: int) -> int:
    """Become another user: user 0 may become anybody and loses all capabilities by it; others get EPERM."""
    task = current_task()
    user = await load(task.user)
    await refuse_if(user.uid not in (0, uid), Errno.EPERM, "may_change_user", "only user 0 can become another user")
    if user.uid == 0 and uid != 0:
        await store(task.caps, ())
    await store(task.user, await alloc_uid(user, uid, task))
    await free_uid(user, task, ITS_USER)
    return 0


@kernel("kernel/capability.c")
async def sys_capset(without: tuple[str, ...]) -> int:
    """Give capabilities away, for ever."""
    task = current_task()
    await store(task.caps, tuple(name for name in await load(task.caps) if name not in without))
    return 0


@kernel("kernel/sys.c")
async def do_prlimit(task: TaskStruct, resource: int, soft: int | None = None, hard: int = 0) -> tuple[int, int]:
    """Tell the soft and the hard limit of a process, and set them; `soft` None: only tell.

    EINVAL (no such limit, soft above hard), EPERM (more descriptors than a process can have, raising the hard one
    without CAP_SYS_RESOURCE).
    """
    none = not 0 <= resource < RLIM_NLIMITS
    await refuse_if(none, Errno.EINVAL, "limit_exists", f"limits have numbers from 0 to {RLIM_NLIMITS - 1}")
    if resource not in (RLIMIT_NOFILE, RLIMIT_MEMLOCK):
        raise Unsupported(f"the limit {resource}")
    files = resource == RLIMIT_NOFILE
    now, most = (task.files.limit, task.nofile_max) if files else (task.memlock, task.memlock_max)
    before = await load(now), await load(most)
    if soft is not None:
        await refuse_if(
            soft > hard, Errno.EINVAL, "soft_below_hard", f"the soft limit {soft} is above the hard one, {hard}"
        )
        many = files and hard > NR_OPEN
        await refuse_if(
            many, Errno.EPERM, "nr_open", f"no process can have more than {NR_OPEN} descriptors (fs.nr_open)"
        )
        raised = hard > before[1] and not await capable("CAP_SYS_RESOURCE")
        why = f"only CAP_SYS_RESOURCE may raise a hard limit; this one is {before[1]}, and {hard} is asked for"
        await refuse_if(raised, Errno.EPERM, "may_raise_limit", why)
        await store(now, soft)
        await store(most, hard)
    return before


@kernel("kernel/sys.c")
async def check_prlimit_permission(task: TaskStruct) -> None:
    """EPERM for the limits of a process that runs as somebody else; with CAP_SYS_RESOURCE they are everybody's."""
    caller = current_task()
    if caller is task:
        return
    mine, theirs = (await load(caller.user)).uid, (await load(task.user)).uid
    foreign = mine != theirs and not await capable("CAP_SYS_RESOURCE")
    await refuse_if(
        foreign,
        Errno.EPERM,
        "limits_of_own_user",
        f"{task.oid} runs as user {theirs}, the caller as {mine}, without CAP_SYS_RESOURCE",
    )


@kernel("kernel/sys.c")
async def sys_prlimit64(
    zero: UserStruct, name: str, resource: int, soft: int | None = None, hard: int = 0
) -> tuple[int, int]:
    """Tell and set the limits of any process: ESRCH, EPERM for one of another user, then as `do_prlimit`."""
    if not name:
        return await do_prlimit(current_task(), resource, soft, hard)
    async with zero.tasklist_lock:  # RCU and a reference in the kernel: the process does not go meanwhile
        task = await xa_load(zero.tasks, name)
        found = await require(task, Errno.ESRCH, "process_exists", f"there is no process {name}")
        await check_prlimit_permission(found)
        return await do_prlimit(found, resource, soft, hard)


@kernel("kernel/sys.c")
async def sys_setrlimit(resource: int, soft: int, hard: int) -> int:
    """Set a limit of the calling process."""
    await do_prlimit(current_task(), resource, soft, hard)
    return 0
