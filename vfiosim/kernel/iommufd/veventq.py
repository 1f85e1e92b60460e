"""Events that a virtual IOMMU has for its guest (the other half of drivers/iommu/iommufd/eventq.c, and driver.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import (
    Field,
    Lock,
    Phase,
    copy_to_user,
    current,
    field,
    get,
    kernel,
    load,
    put,
    refuse_if,
    require,
    say,
    shared,
    spinlock,
    store,
)
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from ..fs.file import (
    O_CLOEXEC,
    O_RDWR,
    File,
    FileOperations,
    fd_install,
    fput_close_sync,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from ..fs.syscalls import alloc_file
from .eventq import ITS_FILE, READABLE, iommufd_eventq_fops_release
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_abort_and_destroy, iommufd_object_finalize
from .private import ITS_CONTEXT, IommufdCtx, IommufdObject, Ucmd, iommufd_ctx_get, iommufd_put_object
from .viommu import ITS_VIOMMU, IommufdViommu

VEVENTQ_MOST = 1 << 19
HEADER = sizeof(uapi.IommufdVeventHeader)
INT_MAX = 2**31 - 1
LOST = uapi.IOMMU_VEVENTQ_FLAG_LOST_EVENTS
Event = tuple[int, int, bytes]  # flags, sequence, data


class IommufdVeventq(IommufdObject):
    """A queue of events of one type, for a program that plays the IOMMU of its guest.

    * born by VEVENTQ_ALLOC together with a file, one of each type for a virtual IOMMU, which it holds;
    * at most `depth` events wait; where others were lost, a header without an event stands at the end;
    * its file holds it and the context; dies by IOMMU_DESTROY when the file is closed.
    """

    kind = "iommufd_veventq"
    type = "event queue"
    lock: Lock = spinlock()
    deliver: Field[tuple[Event, ...]] = field((), guard="lock")
    num_events: Field[int] = field(0, guard="lock")
    sequence: Field[int] = field(0, guard="lock")

    def __init__(self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, kind: int, depth: int) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.event_type = kind
        self.depth = depth


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_abort(queue: IommufdVeventq) -> None:
    """Leave the virtual IOMMU; the caller has its lock."""
    viommu = queue.viommu
    await put(viommu.users, queue, ITS_VIOMMU)
    await store(viommu.veventqs, tuple(other for other in await load(viommu.veventqs) if other is not queue))


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_destroy(queue: IommufdVeventq) -> None:
    """The same for one that could be found."""
    async with queue.viommu.veventqs_rwsem:
        await iommufd_veventq_abort(queue)


async def iommufd_viommu_find_veventq(viommu: IommufdViommu, kind: int) -> IommufdVeventq | None:
    """The queue for events of a type; the caller has the lock of the queues."""
    for queue in await load(viommu.veventqs):
        if isinstance(queue, IommufdVeventq) and queue.event_type == kind:
            return queue
    return None


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_fops_read(file: File, size: int, offset: int) -> bytes:
    """Read events, whole ones, as many as fit. EINVAL if not even one fits; nothing if there are none."""
    queue: IommufdVeventq = await private(file)
    await refuse_if(size < HEADER, Errno.EINVAL, "room_for_header", f"an event takes at least {HEADER} bytes")
    data = b""
    async with queue.lock:
        for flags, sequence, event in await load(queue.deliver):
            lost = bool(flags & LOST)
            if size - len(data) < HEADER:
                break
            if not lost and size - len(data) < HEADER + len(event):
                await refuse_if(not data, Errno.EINVAL, "room_for_event", "the first event is larger than the buffer")
                break
            data += bytes(uapi.IommufdVeventHeader(flags=flags, sequence=sequence)) + event
            await store(queue.deliver, (await load(queue.deliver))[1:])
            await store(queue.num_events, await load(queue.num_events) - (not lost))
    return data


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_fops_poll(file: File) -> int:
    """Is there anything to read? (`iommufd_eventq_fops_poll`)"""
    queue: IommufdVeventq = await private(file)
    async with queue.lock:
        return READABLE if await load(queue.deliver) else 0


iommufd_veventq_fops = FileOperations(
    "iommufd-viommu-event",
    release=iommufd_eventq_fops_release,
    read=iommufd_veventq_fops_read,
    poll=iommufd_veventq_fops_poll,
    stream=True,
)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_alloc(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, reserved, no type), EINVAL (depth), ENOENT, EEXIST (one of this type), EMFILE, EFAULT."""
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.get("__reserved") != 0 or cmd.type == uapi.IOMMU_VEVENTQ_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "veventq_has_type", "a queue has no flags and must have a type")
    room = 0 < cmd.veventq_depth <= VEVENTQ_MOST
    await refuse_if(not room, Errno.EINVAL, "veventq_depth", f"a queue has room for 1 to {VEVENTQ_MOST} events")
    viommu = await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)
    try:
        async with viommu.veventqs_rwsem:
            await new_veventq(ucmd, viommu)
    except KernelError:
        await iommufd_put_object(viommu)
        raise
    await iommufd_put_object(viommu)


async def new_veventq(ucmd: Ucmd, viommu: IommufdViommu) -> None:
    """The queue, then its file, then a descriptor; a failure takes all of them back."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    known = await iommufd_viommu_find_veventq(viommu, cmd.type)
    await refuse_if(known is not None, Errno.EEXIST, "one_queue_of_type", f"{viommu.oid} has a queue of this type")
    queue = await _iommufd_object_alloc(ictx, IommufdVeventq, viommu, cmd.type, cmd.veventq_depth)
    say(Phase.ACQUIRE, "{} holds {}; a file to read it gets a descriptor.", queue, viommu)
    await get(viommu.users, queue, ITS_VIOMMU)
    await store(viommu.veventqs, (*await load(viommu.veventqs), queue))
    try:
        file = await alloc_file("[iommufd-viommu-event]", iommufd_veventq_fops, O_RDWR)
    except KernelError:
        await iommufd_object_abort_and_destroy(ictx, queue)
        raise
    await store(file.private_data, queue)
    await iommufd_ctx_get(ictx, file, ITS_CONTEXT)
    await get(queue.users, file, ITS_FILE)
    try:
        number = await get_unused_fd_flags(O_CLOEXEC)
        try:
            cmd.out_veventq_id, cmd.out_veventq_fd = queue.id, number
            await copy_to_user(ucmd.address, ucmd.reply())
        except KernelError:
            await put_unused_fd(number)
            raise
    except KernelError:
        await fput_close_sync(file, current(), "being opened")
        await iommufd_object_abort_and_destroy(ictx, queue)
        raise
    await iommufd_object_finalize(ictx, queue)
    await fd_install(number, file)


@kernel("drivers/iommu/iommufd/driver.c")
async def iommufd_viommu_report_event(viommu: IommufdViommu, kind: int, data: bytes) -> None:
    """An event for the guest. EOPNOTSUPP if nobody waits for events of this type; a full queue notes that one was lost."""
    async with shared(viommu.veventqs_rwsem):
        queue = await require(
            await iommufd_viommu_find_veventq(viommu, kind), Errno.EOPNOTSUPP, "events_wanted", "there is no queue"
        )
        async with queue.lock:
            events, sequence = await load(queue.num_events), await load(queue.sequence)
            full = events == queue.depth
            event = (LOST if full else 0, sequence, b"" if full else data)
            before = tuple(other for other in await load(queue.deliver) if not other[0] & LOST)
            await store(queue.deliver, (*before, event))
            await store(queue.num_events, events + (not full))
            await store(queue.sequence, (sequence + 1) & INT_MAX)
