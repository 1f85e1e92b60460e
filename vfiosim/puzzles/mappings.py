"""Hazards of mapped memory: unmapped while it is being mapped, pinned while its user moves to another address space."""

from __future__ import annotations

from .. import uapi
from ..kernel.iommufd.device import iommufd_access_change_ioas
from ..kernel.iommufd.io_pagetable import iopt_insert_area
from ..machine import Machine
from .changed import changed
from .programs import IOMMU, ask, make
from .puzzle import Puzzle, can_end

PAGE, HERE = 4096, 0x100000  # HERE: memory of the program
CTX, IOAS, OTHER = 3, 1, 2  # the descriptor of the iommufd, and IDs in it
READ_WRITE = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA


def _two_address_spaces(trace: bool = True) -> Machine:
    """A program with a page of memory, and an iommufd with two address spaces."""
    machine = Machine("small", trace=trace)
    process = machine.process("vmm")
    process.open(IOMMU)
    process.mmap(PAGE, address=HERE)
    made = ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc(), CTX)
    return make(machine, made, made)


def _map_page() -> tuple[object, ...]:
    wanted = uapi.IommuIoasMap(flags=READ_WRITE, ioas_id=IOAS, user_va=HERE, length=PAGE, iova=16 * PAGE)
    return ask(uapi.IOMMU_IOAS_MAP, wanted, CTX)


# ---- R22


@changed(iopt_insert_area)
def insert_with_its_pages() -> None:
    """An area that looks complete from the beginning.

      await xa_store(iopt.areas, iova, area)
    + await store(area.pages, pages)
    """


R22 = Puzzle(
    name="R22",
    title="memory is unmapped while it is being mapped",
    story="One thread maps a page: it takes the place in the address space, lets go of the lock, and fills the page tables. "
    "Another thread unmaps just that page meanwhile. The place has no pages yet, and that tells it: not now (EBUSY). "
    "Otherwise it frees what the first thread still works on.",
    setup=_two_address_spaces,
    calls={
        "A": [_map_page()],
        "B": [ask(uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap(ioas_id=IOAS, iova=16 * PAGE, length=PAGE), CTX)],
    },
    properties=(
        "pinned_memory_is_counted",
        can_end("an unmap that comes first finds nothing", A="0", B="ENOENT"),
        can_end("the place is taken, and belongs to nobody yet", A="0", B="EBUSY"),
        can_end("an unmap that comes last takes the mapping away again", A="0", B="0"),
    ),
    faulty={"iopt_insert_area": insert_with_its_pages},
    happens="use after free: A touches iopt_area",
    shortest=(92,),
    leaves_out=("page_tables_have_every_area",),
    source="drivers/iommu/iommufd/io_pagetable.c: iopt_alloc_area_pages, iopt_map_pages, iopt_unmap_iova_range (v7.2)",
)

# ---- R21

DRIVER = 4  # the descriptor of the file that plays the driver of an emulated device


def _test(operation: int, number: int, **fields: int) -> tuple[object, ...]:
    """A request to the kernel's own test device."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return ask(uapi.IOMMU_TEST_CMD, uapi.IommuTestCmd(op=operation, id=number, **named), CTX)


def _pin_page() -> tuple[object, ...]:
    where = {"access_pages__iova": 16 * PAGE, "access_pages__length": PAGE}
    return _test(uapi.IOMMU_TEST_OP_ACCESS_PAGES, DRIVER, **where)


def _a_driver_that_pins(trace: bool = True) -> Machine:
    """The same with a mapping in the first address space, and an emulated device there whose driver has pinned the page."""
    pins = uapi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES
    made = _test(uapi.IOMMU_TEST_OP_CREATE_ACCESS, IOAS, create_access__flags=pins)
    return make(_two_address_spaces(trace), _map_page(), made)


@changed(iommufd_access_change_ioas)
def move_before_asking() -> None:
    """The device is in the new address space before its driver is asked for what it has pinned in the old one.

    - await store(access.ioas, None)

    + await store(access.ioas, new)
    + await store(access.ioas_unpin, new)
      if now is not None:

          await put(now.users, access, ATTACHED)
    - await store(access.ioas, new)
    - await store(access.ioas_unpin, new)
    """


R21 = Puzzle(
    name="R21",
    title="a device moves while its driver pins memory",
    story="An emulated device moves to another address space. Its driver is asked to give back what it has pinned in the old one, "
    "and may pin more in another thread just then. While it moves the device is in no address space, so nothing more can be "
    "pinned, and a second pointer remembers where to unpin. Otherwise the driver looks in the wrong address space: what it "
    "pinned stays pinned for ever.",
    setup=_a_driver_that_pins,
    calls={
        "A": [_test(uapi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, DRIVER, access_replace_ioas__ioas_id=OTHER)],
        "B": [_pin_page()],
    },
    properties=(
        "pinned_memory_is_counted",
        can_end("the driver pins in time, and is asked to give it back", A="0", B="0"),
        can_end("the device is on its way, or nothing is mapped where it is now", A="0", B="ENOENT"),
    ),
    faulty={"iommufd_access_change_ioas": move_before_asking},
    happens="was not pinned there",
    shortest=(126,),
    source="drivers/iommu/iommufd/device.c: iommufd_access_change_ioas, iommufd_access_unpin_pages (v7.2)",
)

PUZZLES = (R21, R22)
