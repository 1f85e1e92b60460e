"""Queues of page faults, which a program reads from a file (drivers/iommu/iommufd/eventq.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof

from ...engine import Phase, copy_to_user, current, get, kernel, put, refuse_if, say, store
from ...uapi import Errno, IommuHwptPageResponse, IommuHwptPgfault, KernelError
from ..fs.eventfd import POLLOUT
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
from .main import _iommufd_object_alloc
from .private import IommufdObject, Ucmd, iommufd_ctx_get, iommufd_ctx_put

FAULT_SIZE, ANSWER_SIZE = sizeof(IommuHwptPgfault), sizeof(IommuHwptPageResponse)
FILLED_BY = "its page faults"
ITS_FILE = "its file"


class IommufdFault(IommufdObject):
    """A queue of page faults that devices report and a program answers.

    * born by FAULT_QUEUE_ALLOC together with a file; held by the file and by each page table that reports to it;
    * its file holds the context, so closing /dev/iommu releases nothing while the file is open;
    * dies by IOMMU_DESTROY, when the file is closed and no page table reports to it.
    """

    kind = "iommufd_fault"
    type = "fault queue"


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_eventq_fops_release(file: File) -> None:
    """The file lets go of its queue and of the context."""
    fault: IommufdFault = await private(file)
    await put(fault.users, file, ITS_FILE)
    await iommufd_ctx_put(fault.ictx, file, "its context")


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_fops_read(file: File, size: int, offset: int) -> bytes:
    """Read faults, whole ones only (ESPIPE). There are none: no modelled device can report page faults."""
    await refuse_if(size % FAULT_SIZE != 0, Errno.ESPIPE, "whole_faults", f"a fault takes {FAULT_SIZE} bytes")
    return b""


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_fops_write(file: File, data: bytes, offset: int) -> int:
    """Answer faults, whole answers only (ESPIPE). EINVAL: nobody waits for an answer."""
    odd = len(data) % ANSWER_SIZE
    await refuse_if(odd != 0, Errno.ESPIPE, "whole_answers", f"an answer takes {ANSWER_SIZE} bytes")
    await refuse_if(bool(data), Errno.EINVAL, "fault_waits", "no fault with this cookie waits for an answer")
    return 0


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_eventq_fops_poll(file: File) -> int:
    """There is never anything to read; answers can be written at any time."""
    return POLLOUT


iommufd_fault_fops = FileOperations(
    "iommufd-pgfault",
    release=iommufd_eventq_fops_release,
    read=iommufd_fault_fops_read,
    write=iommufd_fault_fops_write,
    poll=iommufd_eventq_fops_poll,
    stream=True,
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
    await iommufd_ctx_get(ictx, file, "its context")
    await get(fault.users, file, ITS_FILE)
    try:
        number = await get_unused_fd_flags(O_CLOEXEC)
        try:
            cmd.out_fault_id, cmd.out_fault_fd = fault.id, number
            await copy_to_user(ucmd.address, ucmd.reply())
        except KernelError:
            await put_unused_fd(number)
            raise
    except KernelError:
        await fput_close_sync(file, current(), "being opened")
        raise
    await fd_install(number, file)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_fault_destroy(fault: IommufdFault) -> None:
    """Nothing waits for an answer: no modelled device can report page faults."""
