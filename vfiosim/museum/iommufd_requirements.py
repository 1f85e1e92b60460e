"""What must still work in the rooms about iommufd when they are mended."""

from __future__ import annotations

from .. import uapi
from ..kernel.fs.file import O_RDWR
from ..kernel.iommufd.io_pagetable_h import IoptArea, IoptPages
from ..kernel.iommufd.iommufd_private import IommufdCtx
from ..kernel.regions import PAGE_SIZE
from ..machine import Machine
from ..puzzles.programs import CTX, DEV, Call, ask, bind, make, ready_to_bind
from ..uapi.iommufd_test import IOMMU_TEST_CMD, IOMMU_TEST_OP_DMABUF_GET, IommuTestCmd
from .requirements import AN_ERROR, Requirement, close

ATTACH, DETACH = uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT
READ_ONLY_AT, WRITEABLE_AT = 0x10_0000, 0x20_0000  # where a struct lies that cannot be written, and one that can


def destroy(number: int) -> Call:
    """The program "vmm" destroys an object of its iommufd."""
    return ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=number))


def attach(pt_id: int, pasid: int | None = None) -> Call:
    """ATTACH of the device, for all of its DMA or for that with one PASID."""
    flags = uapi.VFIO_DEVICE_ATTACH_PASID if pasid is not None else 0
    size = 12 if pasid is None else 16
    return ask(ATTACH, uapi.VfioDeviceAttachIommufdPt(argsz=size, flags=flags, pt_id=pt_id, pasid=pasid or 0), DEV)


def detach(pasid: int | None = None) -> Call:
    """DETACH of the device, from all of its DMA or from that with one PASID."""
    flags = uapi.VFIO_DEVICE_DETACH_PASID if pasid is not None else 0
    size = 8 if pasid is None else 12
    return ask(DETACH, uapi.VfioDeviceDetachIommufdPt(argsz=size, flags=flags, pasid=pasid or 0), DEV)


def written(machine: Machine, offset: int) -> int:
    """A field of the struct at WRITEABLE_AT."""
    return int.from_bytes(machine.processes["vmm"].memory.read(WRITEABLE_AT + offset, 4), "little")


# ---- the file that is mapped into itself

WRITEABLE = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE
HERE = uapi.IOMMU_IOAS_MAP_FIXED_IOVA | WRITEABLE


def map_file(fd: int, length: int = PAGE_SIZE, start: int = 0) -> Call:
    """MAP_FILE of a descriptor into address space 2, at 64 KiB."""
    size, iova = 40, 0x10000
    wish = uapi.IommuIoasMapFile(size=size, flags=HERE, ioas_id=2, fd=fd, start=start, length=length, iova=iova)
    return ask(uapi.IOMMU_IOAS_MAP_FILE, wish)


def unmap() -> Call:
    """UNMAP of two pages at 64 KiB in address space 2."""
    return ask(uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap(ioas_id=2, iova=0x10000, length=2 * PAGE_SIZE))


def ready_to_map(trace: bool = True) -> Machine:
    """Address space 2; at WRITEABLE_AT the struct for mapping the second and third page of descriptor 5, anywhere."""
    space = ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    machine = make(ready_to_bind("vmm", trace=trace), bind("vmm"), space)
    wish = uapi.IommuIoasMapFile(size=40, flags=WRITEABLE, ioas_id=2, fd=5, start=PAGE_SIZE, length=2 * PAGE_SIZE)
    machine.processes["vmm"].memory.map(PAGE_SIZE, bytes(wish), address=WRITEABLE_AT)
    return machine


def mapped_as_wished(machine: Machine) -> bool:
    """Are these pages mapped, at the address that has been written into the struct?"""
    areas = list(machine.engine.objects.of(IoptArea))
    return [(area.iova, _part(area.pages.value)) for area in areas] == [(written(machine, 32), (PAGE_SIZE, 2, True))]


def no_iommufd_is_left(machine: Machine) -> bool:
    """Has every iommufd gone?"""
    return not list(machine.engine.objects.of(IommufdCtx))


def _part(pages: IoptPages | None) -> tuple[int, int, bool] | None:
    """Which part of a file these pages are, and may it be written; None if they are of no file."""
    return None if pages is None or pages.file is None else (pages.address, pages.npages, pages.writable)


LENT = IommuTestCmd(op=IOMMU_TEST_OP_DMABUF_GET, dmabuf_get={"length": PAGE_SIZE, "open_flags": O_RDWR})
DMA_BUF = ask(IOMMU_TEST_CMD, LENT)
MEMFD = ("vmm", "memfd", 4 * PAGE_SIZE)
MAPPED = (
    Requirement(
        "MAP_FILE of a file of memory must still succeed, and UNMAP give its pages back.",
        (MEMFD, map_file(5, 2 * PAGE_SIZE, PAGE_SIZE), unmap(), unmap(), close(5)),
        "5, 0, 0, ENOENT, 0",
    ),
    Requirement(
        "MAP_FILE of a dma-buf, which is memory that a driver shares, must still succeed.",
        (DMA_BUF, map_file(5)),
        "5, 0",
    ),
    Requirement(
        "The address that MAP_FILE tells must still lead to the pages of the file that were asked for.",
        (MEMFD, ask(uapi.IOMMU_IOAS_MAP_FILE, WRITEABLE_AT), close(5)),
        "5, 0, 0",
        ready_to_map,
        mapped_as_wished,
    ),
    Requirement(
        "MAP_FILE must still refuse what it refused: no bytes (EINVAL), a descriptor that is not open (EBADF).",
        (MEMFD, map_file(5, 0), map_file(777)),
        "5, EINVAL, EBADF",
    ),
    Requirement(
        "MAP_FILE must not answer 0 where it has mapped nothing.",
        (map_file(DEV), unmap()),
        f"{AN_ERROR}, ENOENT or 0, 0",
    ),
    Requirement(
        "Whatever file is mapped into an iommufd, the iommufd must go with its last descriptor.",
        (map_file(CTX), close(DEV), close(CTX)),
        f"{AN_ERROR}, 0, 0 or 0, 0, 0",
        seen=no_iommufd_is_left,
    ),
)

# ---- PASID 0

FOR_PASIDS = ask(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(flags=uapi.IOMMU_HWPT_ALLOC_PASID, dev_id=1, pt_id=2))
PASIDS = (
    Requirement(
        "ATTACH with another PASID must still work, and move what is attached already; DETACH must still undo it.",
        (attach(4, 5), FOR_PASIDS, attach(5, 5), destroy(4), destroy(5), detach(5), destroy(5)),
        "0, 0, 0, 0, EBUSY, 0, 0",
    ),
    Requirement(
        "ATTACH without a PASID and ATTACH with one must still work side by side.",
        (attach(4), attach(4, 5), detach(), destroy(4), detach(5), destroy(4)),
        "0, 0, 0, EBUSY, 0, 0",
    ),
    Requirement(
        "A PASID of 2³¹ or more must still be ENOSPC, a page table that is not there ENOENT, with nothing attached then.",
        (attach(4, 1 << 31), attach(99, 5), attach(4, 5), detach(5), destroy(4)),
        "ENOSPC, ENOENT, 0, 0, 0",
    ),
    Requirement(
        "ATTACH with PASID 0 must do what it says: where it answers 0, the page table is in use.",
        (attach(4, 0), destroy(4)),
        f"{AN_ERROR}, 0 or 0, EBUSY",
    ),
)

# ---- the replace that cannot tell its result

MOVE = ask(ATTACH, READ_ONLY_AT, DEV)
MOVES = (
    Requirement(
        "ATTACH with a struct that can be written must still move the device, and write the number of its page table.",
        (ask(ATTACH, WRITEABLE_AT, DEV), destroy(2), destroy(3)),
        "0, 0, EBUSY",
        seen=lambda machine: written(machine, 8) == 5,
    ),
    Requirement(
        "An ATTACH whose struct cannot be written must be EFAULT, and leave the device where it is, or nowhere.",
        (MOVE, destroy(2), detach(), MOVE, destroy(2), destroy(3)),
        "EFAULT, EBUSY, 0, EFAULT, 0, 0",
    ),
    Requirement(
        "ATTACH of a device that is attached to nothing must still work, with a PASID too.",
        (detach(), attach(3), destroy(3), detach(), FOR_PASIDS, attach(4, 7), destroy(4), detach(7), destroy(4)),
        "0, 0, EBUSY, 0, 0, 0, EBUSY, 0, 0",
    ),
)

# ---- the queue that fails half-way

QUEUE = ask(uapi.IOMMU_FAULT_QUEUE_ALLOC, WRITEABLE_AT)
QUEUES = (
    Requirement(
        "With a struct that can be written there must still be a queue and its file, and their numbers in the struct.",
        (QUEUE, destroy(1), close(5), destroy(1), QUEUE),
        "0, EBUSY, 0, 0, 0",
        seen=lambda machine: (written(machine, 8), written(machine, 12)) == (1, 5),
    ),
    Requirement(
        "With one that cannot be written the answer must be EFAULT, with neither a queue nor a file left.",
        (ask(uapi.IOMMU_FAULT_QUEUE_ALLOC, READ_ONLY_AT), destroy(1), close(5), QUEUE, close(5), destroy(1)),
        "EFAULT, ENOENT, EBADF, 0, 0, 0",
    ),
    Requirement(
        "Flags must still be EOPNOTSUPP.",
        (ask(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.IommuFaultAlloc(flags=1)), close(5)),
        "EOPNOTSUPP, EBADF",
    ),
)
