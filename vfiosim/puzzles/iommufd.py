"""Hazards among the objects of an iommufd: found by one call while another one destroys them."""

from __future__ import annotations

from .. import uapi
from ..engine import Engine
from ..invariants.rules import Broken, rule
from ..kernel.iommufd.device import iommufd_device_auto_get_domain
from ..kernel.iommufd.iommufd_private import (
    IommufdHwptPaging,
    iommufd_put_object,
)
from ..kernel.iommufd.main import iommufd_object_put_and_try_destroy
from ..machine import Machine
from .changed import changed
from .programs import DEV, ask, bind, make, ready_to_bind
from .puzzle import Puzzle, can_end

DEVICE, IOAS, TABLE = 1, 2, 3  # IDs in the iommufd, in the order in which they are given out
HERE = 0x100000  # memory of the program
ATTACH = ask(uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(argsz=12, pt_id=IOAS), DEV)


def _bound(trace: bool = True) -> Machine:
    """A program with a bound device, an address space without mappings, and a page of memory."""
    machine = ready_to_bind("vmm", trace=trace)
    machine.processes["vmm"].mmap(4096, address=HERE)
    return make(machine, bind("vmm"), ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc()))


def _attached(trace: bool = True) -> Machine:
    """The same, where the device is attached to the address space, by a page table that the kernel has made."""
    return make(_bound(trace), ATTACH)


# ---- R12


R12 = Puzzle(
    name="R12",
    title="used while the address space is destroyed",
    story="One thread destroys an address space while another one asks about it and attaches a device to it. "
    "The look-up by its ID and the count of one more user must be one step for a thread that checks the count and takes "
    "the ID away. Otherwise a device is attached to an address space that is gone.",
    setup=_bound,
    calls={
        "A": [ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=IOAS))] * 2,
        "B": [
            ask(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IommuIoasIovaRanges(ioas_id=IOAS, num_iovas=4, allowed_iovas=HERE)),
            ATTACH,
        ],
    },
    properties=(
        "published_object_is_held",
        can_end("a question keeps no address space that has been answered", A="0, ENOENT", B="0, ENOENT"),
        can_end("a call after the destroy finds nothing: ENOENT", A="0, ENOENT", B="ENOENT, ENOENT"),
        can_end(
            "the destroy is refused with EBUSY only because a call asks something; the next one succeeds",
            A="EBUSY, 0",
            B="0, ENOENT",
        ),
        can_end("a device is attached, and its page table keeps the address space", A="EBUSY, EBUSY", B="0, 0"),
    ),
    without=("objects_lock",),
    happens="use after free: B touches iommufd_ioas",
    shortest=(41,),
    leaves_out=("page_table_holds_its_address_space",),
    source="drivers/iommu/iommufd/main.c: iommufd_get_object, iommufd_object_remove (v7.2)",
)

# ---- R14


@changed(iommufd_put_object)
def put_the_wait_first() -> None:
    """With its two lines swapped: a thread that waits for `wait_cnt` goes on while `users` still counts the call.

    - await put(obj.users, current(), "running call")
      await put(obj.wait_cnt, current(), "running call")
    + await put(obj.users, current(), "running call")
    """


R14 = Puzzle(
    name="R14",
    title="closed while a call uses the device",
    story="One thread closes a device, another one asks the iommufd about it by its ID and makes a page table for it. The close "
    "cannot fail, so it lets no new call begin and waits until those that run are done (wait_cnt). If it met a call that still "
    "holds the device, it would have to leave the device behind, bound for ever. A call that holds nothing would go on with a "
    "freed device.",
    setup=_bound,
    calls={
        "A": [("vmm", "close", DEV)],
        "B": [
            ask(uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo(dev_id=DEVICE)),
            ask(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=DEVICE, pt_id=IOAS)),
        ],
    },
    properties=(
        "published_object_is_held",
        can_end("a call that has found the device gets what it wants, and the close waits for it", A="0", B="0, 0"),
        can_end("a call that begins while the close waits no longer finds the device: ENOENT", A="0", B="0, ENOENT"),
        can_end("the device is gone before the first call", A="0", B="ENOENT, ENOENT"),
    ),
    without=("wait_cnt",),
    vast={"running call": ("use after free: B touches iommufd_device 1.dev", 62)},
    faulty={"iommufd_put_object": put_the_wait_first},
    happens="iommufd_device 1",  # is left behind, or touched when it is gone
    shortest=(46, 51),
    source="drivers/iommu/iommufd/main.c: iommufd_object_dec_wait; iommufd_private.h: iommufd_put_object (v7.2)",
)

# ---- R18


@rule(
    IommufdHwptPaging,
    "iommufd_hwpt_paging.users",
    "iommufd_hwpt_paging.auto_domain",
    lock=lambda hwpt: hwpt.ictx.objects_lock,
    guard="iommufd_ctx.objects_lock",
)
def automatic_table_has_a_device(engine: Engine, hwpt: IommufdHwptPaging) -> Broken:
    """An automatic page table has a device, or a call that uses it at this moment; otherwise nobody ever destroys it."""
    nobody_else = all(holder is hwpt.ictx for holder, _ in hwpt.users.held)
    if hwpt.auto_domain.value and hwpt.users.value and nobody_else:
        yield f"{hwpt.oid} was made automatically and has no device any more, yet it holds {hwpt.ioas.oid}: that stays busy"


@changed(iommufd_put_object, iommufd_object_put_and_try_destroy=iommufd_object_put_and_try_destroy)
def the_last_one_destroys() -> None:
    """A call gives back an automatic page table as a device does: the last one destroys it.

    `wait_cnt` goes first then: nobody waits for it before `users` is at one.

    + if isinstance(obj, IommufdHwptPaging) and await load(obj.auto_domain):
    +     await put(obj.wait_cnt, current(), "running call")
    +     await iommufd_object_put_and_try_destroy(obj.ictx, obj, current(), "running call")
    +     return
      await put(obj.users, current(), "running call")
    """


async def put_all(tables: list[IommufdHwptPaging]) -> None:
    """The running call is done with these."""
    for hwpt in tables:
        await iommufd_put_object(hwpt)


@changed(iommufd_device_auto_get_domain)
def let_go_without_the_mutex() -> None:
    """The page tables that were tried are given back after the mutex.

    The last one to give a page table back destroys it, and that takes the mutex of the address space.

    - async with ioas.mutex:
    + tried: list[IommufdHwptPaging] = []
    + async with cleanup(put_all, tried), ioas.mutex:

              continue
    +     tried.append(hwpt)
          try:

          except KernelError as error:
    -         await iommufd_put_object(hwpt)

    -     await iommufd_put_object(hwpt)
          return hwpt, old
    """


R18 = Puzzle(
    name="R18",
    title="an automatic page table is named while it goes",
    story="One thread detaches the last device of a page table that the kernel made by itself, and that should go with "
    "it. If another thread names the table by its ID just then, in whatever call, the detach gives up silently. "
    "Nobody tries again, and the address space stays busy until somebody destroys the table by its ID or closes the "
    "iommufd.",
    setup=_attached,
    calls={
        "A": [ask(uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt(argsz=8), DEV)],
        "B": [ask(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.IommuHwptSetDirtyTracking(hwpt_id=TABLE))],
    },
    properties=(
        automatic_table_has_a_device,
        can_end(
            "a call can name the automatic page table by its ID; here it says that the table cannot track: EOPNOTSUPP",
            A="0",
            B="EOPNOTSUPP",
        ),
        can_end("after the detach the automatic page table is gone: ENOENT", A="0", B="ENOENT"),
    ),
    fixes={
        "iommufd_put_object": the_last_one_destroys,
        "iommufd_device_auto_get_domain": let_go_without_the_mutex,
    },
    happens="that stays busy",
    shortest=(59,),
    leaves_out=("attached_devices_hold_their_table",),
    source="drivers/iommu/iommufd/iommufd_private.h: iommufd_object_put_and_try_destroy (v7.2)",
)

PUZZLES = (R12, R14, R18)
