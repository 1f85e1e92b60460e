"""Queues of page faults and of events for a guest, which a program reads from a file (drivers/iommu/iommufd/eventq.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import *
from ...uapi import (
    IOMMUFD_PAGE_RESP_INVALID,
    IOMMUFD_PAGE_RESP_SUCCESS,
    Errno,
    IommuHwptPageResponse,
    IommuHwptPgfault,
    KernelError,
)
from ..fs.eventfd import POLLIN, POLLOUT
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
from ..fs.read_write import wait_for_readable
from ..fs.syscalls import alloc_file
from ..prototypes import (
    _iommufd_object_alloc,
    iommufd_ctx_get,
    iommufd_ctx_put,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
)
from .iommufd_private import (
    ITS_CONTEXT,
    ITS_VIOMMU,
    IommufdDevice,
    IommufdFault,
    IommufdHwPagetable,
    IommufdObject,
    IommufdVeventq,
    IommufdViommu,
    Ucmd,
    Waiting,
    iommufd_put_object,
    iommufd_viommu_find_veventq,
)

FAULT_SIZE, ANSWER_SIZE = sizeof(IommuHwptPgfault), sizeof(IommuHwptPageResponse)
READABLE = POLLIN | 0x40  # POLLRDNORM
FILLED_BY = "its page faults"
ITS_FILE = "its file"
VEVENTQ_MOST = 1 << 19
HEADER = sizeof(uapi.IommufdVeventHeader)
INT_MAX = 2**31 - 1
LOST = uapi.IOMMU_VEVENTQ_FLAG_LOST_EVENTS


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_auto_response_faults(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """A device leaves a table: nobody can answer its faults any more, so the kernel says that they cannot be solved."""
    fault = await load(hwpt.fault)
    if not isinstance(fault, IommufdFault):
        return
    async with fault.mutex:
        async with fault.lock:
            waiting = await load(fault.deliver)
            await store(fault.deliver, tuple(group for group in waiting if group[:3] != (idev, hwpt, pasid)))
        cookie = await next_slot(fault.response, 1)
        while cookie is not None:
            group = await xa_load(fault.response, cookie)
            if group is not None and group[:3] == (idev, hwpt, pasid):
                await xa_store(fault.response, cookie, None)
            cookie = await next_slot(fault.response, cookie + 1)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_destroy(fault: IommufdFault) -> None:
    """Faults that nobody has answered cannot be solved."""
    await store(fault.deliver, ())


def iommufd_compose_fault_message(group: Waiting, cookie: int) -> bytes:
    """A fault as a program reads it."""
    idev, _, _, flags, pasid, grpid, perm, addr = group
    return bytes(
        IommuHwptPgfault(
            flags=flags, dev_id=idev.id, pasid=pasid, grpid=grpid, perm=perm, addr=addr, length=0, cookie=cookie
        )
    )


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_deliver_fetch(fault: IommufdFault) -> Waiting | None:
    """Take the oldest fault that nobody has read."""
    async with fault.lock:
        waiting = await load(fault.deliver)
        if waiting:
            await store(fault.deliver, waiting[1:])
            return waiting[0]
    return None


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_deliver_restore(fault: IommufdFault, group: Waiting) -> None:
    """It is the next one to be read again."""
    async with fault.lock:
        await store(fault.deliver, (group, *await load(fault.deliver)))


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_fops_read(file: File, size: int, offset: int, address: int | None = None) -> bytes:
    """Read faults, whole ones only (ESPIPE), as many as fit; EINVAL if not one does. Each gets a cookie for the answer.

    EFAULT: one that cannot be copied stays to be read.
    """
    await refuse_if(size % FAULT_SIZE != 0, Errno.ESPIPE, "whole_faults", f"a fault takes {FAULT_SIZE} bytes")
    fault: IommufdFault = await private(file)
    data = b""
    async with fault.mutex:
        while (group := await iommufd_fault_deliver_fetch(fault)) is not None:
            if len(data) >= size:
                await iommufd_fault_deliver_restore(fault, group)
                await refuse_if(not data, Errno.EINVAL, "room_for_fault", "not even one fault fits")
                break
            cookie = await xa_alloc(fault.response, group)
            assert cookie is not None
            message = iommufd_compose_fault_message(group, cookie)
            try:
                if address is not None:
                    await copy_to_user(address + len(data), message)
            except KernelError:
                await xa_store(fault.response, cookie, None)
                await iommufd_fault_deliver_restore(fault, group)
                if not data:
                    raise
                break
            data += message
    return data


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_fops_write(file: File, data: bytes, offset: int, address: int | None = None) -> int:
    """Answer faults, whole answers only (ESPIPE). EFAULT. EINVAL for an unknown answer, or a cookie that nobody waits with.

    What was answered before such a one stays answered, and is what the call returns.
    """
    odd = len(data) % ANSWER_SIZE
    await refuse_if(odd != 0, Errno.ESPIPE, "whole_answers", f"an answer takes {ANSWER_SIZE} bytes")
    fault: IommufdFault = await private(file)
    done = 0
    async with fault.mutex:
        while done < len(data):
            try:
                said = data[done : done + ANSWER_SIZE]
                if address is not None:
                    said = await copy_from_user(address + done, ANSWER_SIZE)
            except KernelError:
                if not done:
                    raise
                break
            answer = IommuHwptPageResponse.from_buffer_copy(said)
            known = answer.code in (IOMMUFD_PAGE_RESP_SUCCESS, IOMMUFD_PAGE_RESP_INVALID)
            waits = known and await xa_store(fault.response, answer.cookie, None) is not None
            if not waits and done:
                break
            await refuse_if(
                not waits, Errno.EINVAL, "fault_waits", "no fault with this cookie waits for such an answer"
            )
            done += ANSWER_SIZE
    return done


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


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_fops_read(file: File, size: int, offset: int, address: int | None = None) -> bytes:
    """Read events, whole ones, as many as fit. EINVAL if not even one fits; nothing if there are none.

    EFAULT: one that cannot be copied stays to be read.
    """
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
            message = bytes(uapi.IommufdVeventHeader(flags=flags, sequence=sequence)) + event
            try:
                if address is not None:
                    await copy_to_user(address + len(data), message)
            except KernelError:
                if not data:
                    raise
                break
            data += message
            await store(queue.deliver, (await load(queue.deliver))[1:])
            await store(queue.num_events, await load(queue.num_events) - (not lost))
    return data


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_eventq_fops_poll(file: File) -> int:
    """Is there anything to read? Answers can be written at any time."""
    fault: IommufdFault = await private(file)
    async with fault.lock:
        waiting = await load(fault.deliver)
    return POLLOUT | READABLE if waiting else POLLOUT


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_fops_poll(file: File) -> int:
    """Is there anything to read? (`iommufd_eventq_fops_poll`)"""
    queue: IommufdVeventq = await private(file)
    async with queue.lock:
        return READABLE if await load(queue.deliver) else 0


async def eventq_wait(file: File, timeout: int) -> bool:
    """Until a fault or an event comes."""
    queue: IommufdFault | IommufdVeventq = await private(file)
    return await wait_for_readable(file, queue.news, timeout)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_eventq_fops_release(file: File) -> None:
    """The file lets go of its queue and of the context."""
    queue: IommufdObject = await private(file)
    await put(queue.users, file, ITS_FILE)
    await iommufd_ctx_put(queue.ictx, file, ITS_CONTEXT)


iommufd_fault_fops = FileOperations(
    "iommufd-pgfault",
    release=iommufd_eventq_fops_release,
    read=iommufd_fault_fops_read,
    write=iommufd_fault_fops_write,
    poll=iommufd_eventq_fops_poll,
    wait=eventq_wait,
    stream=True,
    copies=True,
)


iommufd_veventq_fops = FileOperations(
    "iommufd-viommu-event",
    release=iommufd_eventq_fops_release,
    read=iommufd_veventq_fops_read,
    poll=iommufd_veventq_fops_poll,
    wait=eventq_wait,
    stream=True,
    copies=True,
)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_alloc(ucmd: Ucmd) -> None:
    """IOMMU_FAULT_QUEUE_ALLOC: EOPNOTSUPP (flags), EMFILE, EFAULT; a failed call leaves neither object nor file."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    await refuse_if(cmd.flags != 0, Errno.EOPNOTSUPP, "fault_flags", "IOMMU_FAULT_QUEUE_ALLOC has no flags yet")
    say(Phase.ACQUIRE, "A queue takes the lowest free ID of {}; a file to read it gets a descriptor.", ictx)
    fault = await _iommufd_object_alloc(ictx, IommufdFault)
    ucmd.new_obj = fault
    file = await alloc_file("[iommufd-pgfault]", iommufd_fault_fops, O_RDWR)
    await store(file.private_data, fault)
    await iommufd_ctx_get(ictx, file, ITS_CONTEXT)
    await get(fault.users, file, ITS_FILE)
    async with on_failure(fput_close_sync, file, current(), "being opened"):
        number = await get_unused_fd_flags(O_CLOEXEC)
        async with on_failure(put_unused_fd, number):
            cmd.out_fault_id, cmd.out_fault_fd = fault.id, number
            await copy_to_user(ucmd.address, ucmd.reply())
    await fd_install(number, file)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_iopf_handler(fault: IommufdFault, group: Waiting) -> None:
    """A device has a page fault: put it at the end of the queue."""
    async with fault.lock:
        await store(fault.deliver, (*await load(fault.deliver), group))
    await complete(fault.news)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_alloc(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, reserved, no type), EINVAL (depth), ENOENT, EEXIST (one of this type), EMFILE, EFAULT."""
    cmd = ucmd.cmd
    await refuse_if(cmd.flags != 0, Errno.EOPNOTSUPP, "flags_known", f"the flags {cmd.flags:#x} are not known")
    used = cmd.get("__reserved") != 0
    await refuse_if(used, Errno.EOPNOTSUPP, "veventq_reserved_zero", "reserved fields must be zero")
    bad = cmd.type == uapi.IOMMU_VEVENTQ_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "veventq_has_type", "a queue must have a type, and 0 is none")
    room = 0 < cmd.veventq_depth <= VEVENTQ_MOST
    why = f"a queue has room for 1 to {VEVENTQ_MOST} events, and not for {cmd.veventq_depth}"
    await refuse_if(not room, Errno.EINVAL, "veventq_depth", why)
    viommu = await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)
    async with cleanup(iommufd_put_object, viommu), viommu.veventqs_rwsem:
        await new_veventq(ucmd, viommu)


async def new_veventq(ucmd: Ucmd, viommu: IommufdViommu) -> None:
    """The queue, then its file, then a descriptor; a failure takes all of them back."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    known = await iommufd_viommu_find_veventq(viommu, cmd.type)
    await refuse_if(known is not None, Errno.EEXIST, "one_queue_of_type", f"{viommu.oid} has a queue of this type")
    queue = await _iommufd_object_alloc(ictx, IommufdVeventq, viommu, cmd.type, cmd.veventq_depth)
    say(Phase.ACQUIRE, "{} holds {}; a file to read it gets a descriptor.", queue, viommu)
    await get(viommu.users, queue, ITS_VIOMMU)
    await store(viommu.veventqs, (*await load(viommu.veventqs), queue))
    async with on_failure(iommufd_object_abort_and_destroy, ictx, queue):
        file = await alloc_file("[iommufd-viommu-event]", iommufd_veventq_fops, O_RDWR)
    await store(file.private_data, queue)
    await iommufd_ctx_get(ictx, file, ITS_CONTEXT)
    await get(queue.users, file, ITS_FILE)
    try:
        number = await get_unused_fd_flags(O_CLOEXEC)
        async with on_failure(put_unused_fd, number):
            cmd.out_veventq_id, cmd.out_veventq_fd = queue.id, number
            await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await fput_close_sync(file, current(), "being opened")
        await iommufd_object_abort_and_destroy(ictx, queue)
        raise
    await iommufd_object_finalize(ictx, queue)
    await fd_install(number, file)
