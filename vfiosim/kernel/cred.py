"""What a process may do, and how much of it (kernel/sys.c, kernel/capability.c, v7.2)."""

from __future__ import annotations

from ..engine import *
from ..uapi import Errno
from .task import ITS_USER, alloc_uid, capable, current_task, free_uid
from .unsupported import Unsupported

RLIMIT_NOFILE, RLIMIT_MEMLOCK = 7, 8


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
async def do_prlimit(resource: int, soft: int, hard: int) -> int:
    """Set a limit: EINVAL if the soft one is above the hard one, EPERM to raise the hard one without CAP_SYS_RESOURCE."""
    task = current_task()
    if resource not in (RLIMIT_NOFILE, RLIMIT_MEMLOCK):
        raise Unsupported(f"the limit {resource}")
    await refuse_if(soft > hard, Errno.EINVAL, "soft_below_hard", "the soft limit is above the hard one")
    files = resource == RLIMIT_NOFILE
    most = task.nofile_max if files else task.memlock_max
    raised = hard > await load(most) and not await capable("CAP_SYS_RESOURCE")
    await refuse_if(raised, Errno.EPERM, "may_raise_limit", "only CAP_SYS_RESOURCE may raise a hard limit")
    await store(task.files.limit if files else task.memlock, soft)
    await store(most, hard)
    return 0
