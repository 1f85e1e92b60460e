"""The objects of an iommufd context (drivers/iommu/iommufd/iommufd_private.h, include/linux/iommufd.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ctypes import sizeof
from typing import Any, ClassVar, Final, Literal

from ...engine import *
from ...uapi import Struct
from ..fs.file import File
from ..iommu import IommuGroup
from ..iommu_ops import Domain, IommuOps
from ..prototypes import iommufd_object_put_and_try_destroy
from ..regions import PAGE_SIZE, Sparse
from .io_pagetable_h import ACCOUNT_USER, IOMMU_READ, IOMMU_WRITE, IoptArea

ZERO_ENTRY: Final = "reserved"  # an ID that is taken while nobody can find its object
ITS_CONTEXT: Final = "its context"
LIMIT_31B: Final = 1 << 31


class IommufdCtx(KObject):
    """What an open /dev/iommu stands for: a name space of object IDs.

    * born by opening /dev/iommu;
    * has no count of its own: who needs it holds its *file*;
    * dies with the file, and takes what is left of its objects along.
    """

    kind = "iommufd_ctx"

    # guarded by the lock of the xarray
    objects_lock: Lock = spinlock()
    objects: Table[IommufdObject | Literal["reserved"]] = table(first=1, guard="objects_lock")
    vfio_ioas: Field[IommufdIoas | None] = field(None, guard="objects_lock", link="weak")
    groups_lock: Lock = spinlock()
    groups: Table[IommufdGroup] = table(guard="groups_lock")
    no_iommu_mode: Field[bool] = field(False)
    account_mode: Field[str] = field(ACCOUNT_USER, guard="objects_lock")
    ioas_creation_lock: Lock = rwsem()
    mt_mmap: Table[IommufdObject] = table(link="weak")  # what can be mapped of it, by offset

    def __init__(self, engine: Engine, file: File) -> None:
        super().__init__(engine)
        self.file = file


class IommufdObject(KObject):
    """Anything with an ID in an iommufd context.

    * born with an ID that nobody can find, found by others from `iommufd_object_finalize` on;
    * `users` counts who depends on it: the context 1, long-term holders, running calls; `wait_cnt` the context and the calls;
    * dies by IOMMU_DESTROY if only the context holds it, or when its driver lets go.
    """

    type: ClassVar[str] = ""  # in words; "" for any
    kind = "iommufd_object"
    users: Count = count()
    wait_cnt: Count = count()

    def __init__(self, engine: Engine, ictx: IommufdCtx) -> None:
        super().__init__(engine, engine.label_of_slot(ictx.objects))
        self.ictx = ictx
        self.id = 0  # set when it is reserved, before anybody can find the object


class IommufdGroup(KObject):
    """What a context knows of an iommu_group: held by each of its devices that is bound here.

    * `pasid_attach`: what the group is attached to, by PASID; number 0 is the DMA without PASID, the usual one.
    """

    kind = "iommufd_group"
    ref: Count = count()
    lock: Lock = mutex()
    pasid_attach: Table[IommufdAttach] = table(guard="lock", link="owns")

    def __init__(self, engine: Engine, ictx: IommufdCtx, group: IommuGroup) -> None:
        super().__init__(engine)
        self.ictx = ictx
        self.group = group


class IommufdAttach(KObject):
    """A group on a page table: which devices of it have asked for that.

    * born with the first device that attaches, dies with the last that detaches;
    * the hardware knows the group only: the first device moves all of them, the others must ask for the same page table.
    """

    kind = "iommufd_attach"
    # guarded by igroup.lock
    hwpt: Field[IommufdHwPagetable | None] = field(None, guard="igroup.lock", link="weak")
    device_array: Table[IommufdDevice] = table(guard="igroup.lock")

    def __init__(self, engine: Engine, igroup: IommufdGroup) -> None:
        super().__init__(engine)
        self.igroup = igroup


class IommufdDevice(IommufdObject):
    """A physical device that is bound to the context; what out_devid names.

    * born by BIND, held by the vfio driver until the unbind, and once more by each attachment;
    * holds the context's file, the iommufd_group and a share of the DMA ownership;
    * IOMMU_DESTROY never gets it: the driver always holds it.
    """

    kind = "iommufd_device"
    type = "device"

    # guarded by igroup.lock
    vdev: Field[IommufdObject | None] = field(None, guard="igroup.lock", link="weak")
    destroying: Field[bool] = field(False, guard="igroup.lock")

    def __init__(self, engine: Engine, ictx: IommufdCtx, igroup: IommufdGroup, dev: Any) -> None:
        super().__init__(engine, ictx)
        self.igroup = igroup
        self.dev = dev  # what it stands for: a Device, or a mock device


class IommufdAccess(IommufdObject):
    """An emulated device that is bound to the context: it reads and writes user memory with the CPU, it does no DMA.

    * born by BIND, held by the vfio driver until the unbind; its ID is what out_devid names;
    * holds the context's file, and the address space it is attached to; claims no DMA ownership, has no iommufd_group.

    `ioas` is None while it is attached or moves; `ioas_unpin` still names the old address space then, so that what is
    pinned there can be given back.
    """

    kind = "iommufd_access"
    type = "access"
    ioas_lock: Lock = mutex()
    ioas: Field[IommufdIoas | None] = field(None, guard="ioas_lock")
    ioas_unpin: Field[IommufdIoas | None] = field(None, guard="ioas_lock", link="weak")

    def __init__(
        self,
        engine: Engine,
        ictx: IommufdCtx,
        iova_alignment: int = PAGE_SIZE,
    ) -> None:
        super().__init__(engine, ictx)
        self.iova_alignment = iova_alignment  # a page if it pins, else 1
        self.internal = False  # of iommufd itself: no driver that could be asked, does not hold the context
        self.unmap: Callable[[int, int], Awaitable[None]] | None = None  # asks the driver for what it has pinned there


class IommufdIoas(IommufdObject):
    """An I/O address space (with its io_pagetable): which I/O addresses lead to which memory.

    * born by IOAS_ALLOC, empty; held by the page tables made from it and by the emulated devices attached to it;
    * every page table of it has all of its areas, from the beginning to the end of both;
    * dies by IOMMU_DESTROY when neither is left; mappings do not keep it, they are unmapped.

    Locks are taken in this order: mutex, domains_rwsem, iova_rwsem, then the mutex of the pages.
    """

    kind = "iommufd_ioas"
    type = "ioas"
    mutex: Lock = mutex()
    hwpt_list: Field[tuple[IommufdHwptPaging, ...]] = field((), guard="mutex", link="weak")
    # guarded by domains_rwsem
    domains_rwsem: Lock = rwsem()
    domains: Field[tuple[IommufdHwptPaging, ...]] = field((), guard="domains_rwsem", link="weak")
    access_list: Field[tuple[IommufdAccess, ...]] = field((), guard="domains_rwsem", link="weak")
    # guarded by iova_rwsem
    iova_rwsem: Lock = rwsem()
    areas: Intervals[IoptArea] = intervals(guard="iova_rwsem", link="owns")
    allowed: Field[tuple[tuple[int, int], ...]] = field((), guard="iova_rwsem")
    reserved: Field[tuple[tuple[int, int, KObject], ...]] = field((), guard="iova_rwsem")  # first, last, for whom
    iova_alignment: Field[int] = field(1, guard="iova_rwsem")
    disable_large_pages: Field[bool] = field(False, guard="iova_rwsem")


class IommufdHwPagetable(IommufdObject):
    """A table of the IOMMU: one filled from an address space, or one of a guest over it (with its iommu_domain)."""

    kind = "iommufd_hw_pagetable"
    type = "page table"
    auto_domain: Field[bool] = field(False, guard="ioas.mutex")
    fault: Field[IommufdObject | None] = field(None)

    def __init__(self, engine: Engine, ictx: IommufdCtx, ioas: IommufdIoas, pasid_compat: bool) -> None:
        super().__init__(engine, ictx)
        self.ioas = ioas  # for a table of a guest: that of the table under it
        self.pasid_compat = pasid_compat
        self.domain: Domain | None = None  # set before anybody can find the object

    @property
    def translation(self) -> Domain:
        """What the driver of the IOMMU has made."""
        assert self.domain is not None
        return self.domain


class IommufdHwptPaging(IommufdHwPagetable):
    """A page table of the IOMMU, filled from an address space (with its iommu_domain).

    * born by HWPT_ALLOC, or by an ATTACH to an IOAS that has none which fits (`auto_domain`);
    * held by each attached device; holds its address space, and the fault queue if it has one;
    * pins the memory of all areas of its address space, attached or not;
    * dies by IOMMU_DESTROY; an automatic one by the detach of its last device.
    """

    kind = "iommufd_hwpt_paging"
    tracks_dirty: Field[bool] = field(False, guard="ioas.iova_rwsem")
    dirty: Field[tuple[int, ...]] = field((), guard="ioas.iova_rwsem")  # addresses of pages that were written

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, ioas: IommufdIoas, nest_parent: bool, pasid_compat: bool
    ) -> None:
        super().__init__(engine, ictx, ioas, pasid_compat)
        self.nest_parent = nest_parent

    async def leads_to(self, iova: int, write: bool) -> tuple[KObject, int] | None:
        """Where a device gets by an I/O address: the address space or the file, and the place in it; None if it may not.

        A table that tracks notes each page that is written, as the hardware does.
        """
        area = await first_between(self.ioas.areas, iova, iova)
        pages = await load(area.pages) if area is not None else None
        if area is None or pages is None or not area.iommu_prot & (IOMMU_WRITE if write else IOMMU_READ):
            return None
        if await load(pages.dmabuf_revoked):
            return None
        if write and self.translation.dirty_ops and await load(self.tracks_dirty):
            marked = {*await load(self.dirty), iova - iova % self.translation.page}
            await store(self.dirty, tuple(sorted(marked)))
        place = pages.address + area.byte_at(iova)
        mm = await load(pages.source_mm)
        return mm if pages.file is None else pages.file, place


class Ucmd:
    """One running iommufd call (`struct iommufd_ucmd`): the copied argument, where it goes back to, and what it makes."""

    of_one_call = ("cmd",)  # see Struct

    def __init__(self, ictx: IommufdCtx, address: int, user_size: int, cmd: Struct) -> None:
        self.ictx = ictx
        self.address = address
        self.user_size = user_size
        self.cmd: Any = cmd
        self.new_obj: IommufdObject | None = None

    def reply(self) -> bytes:
        """What goes back: as much of the argument as both sides know."""
        return bytes(self.cmd)[: min(self.user_size, sizeof(self.cmd))]


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_lock_obj(obj: IommufdObject) -> bool:
    """Hold an object for the running call; False if it is being destroyed."""
    if not await get_unless_zero(obj.users, current(), "running call"):
        return False
    if not await get_unless_zero(obj.wait_cnt, current(), "running call"):
        await put(obj.users, current(), "running call")
        return False
    return True


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_put_object(obj: IommufdObject) -> None:
    """The running call is done with an object. Users first: who waits for wait_cnt must not see a user left over."""
    await put(obj.users, current(), "running call")
    await put(obj.wait_cnt, current(), "running call")


NO_PASID: Final = 0  # DMA without a PASID, the usual one (IOMMU_NO_PASID)


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_hw_pagetable_put(ictx: IommufdCtx, hwpt: IommufdHwPagetable, holder: KObject, reason: str) -> None:
    """Let go of a page table; one that was made automatically goes with its last device."""
    say(Phase.RELEASE, "{} is given back; an automatic page table without devices is destroyed.", hwpt)
    if await load(hwpt.auto_domain):
        await iommufd_object_put_and_try_destroy(ictx, hwpt, holder, reason)
    else:
        await put(hwpt.users, holder, reason)


IN_IOMMUFD = "in this iommufd"


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_put_group(igroup: IommufdGroup, holder: KObject) -> None:
    """Let go of an iommufd_group; the last one takes it out of the context and lets go of the iommu_group."""
    if await put(igroup.ref, holder, IN_IOMMUFD):
        async with igroup.ictx.groups_lock:
            if await xa_load(igroup.ictx.groups, igroup.group.id) is igroup:
                await xa_store(igroup.ictx.groups, igroup.group.id, None)
        await put(igroup.group.kobj, igroup, "of this group")
        await free(igroup)


# A page fault that waits: the device, its table and PASID (the attachment), then flags, PASID, group, permissions, address.
Waiting = tuple[IommufdDevice, IommufdHwPagetable, int, int, int, int, int, int]


class IommufdFault(IommufdObject):
    """A queue of page faults that devices report and a program answers.

    * born by FAULT_QUEUE_ALLOC together with a file; held by the file and by each page table that reports to it;
    * its file holds the context, so closing /dev/iommu releases nothing while the file is open;
    * dies by IOMMU_DESTROY, when the file is closed and no page table reports to it.
    """

    kind = "iommufd_fault"
    type = "fault queue"
    mutex: Lock = mutex()
    response: Table[Waiting] = table(first=1, guard="mutex")  # were read, and wait for an answer, by cookie
    lock: Lock = spinlock()
    deliver: Field[tuple[Waiting, ...]] = field((), guard="lock")  # wait to be read
    news: Completion = completion()


class IommufdHwQueue(IommufdObject):
    """A queue of a guest: its memory is pinned, and cannot be unmapped, as long as the hardware may read it.

    * born by HW_QUEUE_ALLOC; holds the virtual IOMMU, the queue before it, and an access object of its own (with an ID);
    * dies by IOMMU_DESTROY.
    """

    kind = "iommufd_hw_queue"
    type = "hardware queue"
    access: Field[IommufdAccess | None] = field(None)
    prev: Field[IommufdHwQueue | None] = field(None, guard="viommu.queue_mutex", link="weak")

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, index: int, page: int, length: int
    ) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.index = index
        self.page, self.length = page, length  # where it lies: whole pages


class IommufdHwptNested(IommufdHwPagetable):
    """A table that a guest fills by itself: its addresses are those of the guest, the table under it translates them on.

    * born by HWPT_ALLOC over a page table that was made to carry it, or over a virtual IOMMU; holds the one or the other;
    * held by each attached device;
    * `iotlb`: what the hardware has cached of it, a word each; INVALIDATE makes it forget them.
    """

    kind = "iommufd_hwpt_nested"
    iotlb: Field[tuple[int, ...]] = field(())

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, parent: IommufdHwptPaging, viommu: IommufdViommu | None, pasid: bool
    ) -> None:
        super().__init__(engine, ictx, parent.ioas, pasid)
        self.parent = parent
        self.viommu = viommu

    @property
    def under(self) -> IommufdObject:
        """What it holds: the virtual IOMMU, or the page table under it."""
        return self.viommu or self.parent


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
    news: Completion = completion()

    def __init__(self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, kind: int, depth: int) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.event_type = kind
        self.depth = depth


async def iommufd_viommu_find_veventq(viommu: IommufdViommu, kind: int) -> IommufdVeventq | None:
    """The queue for events of a type; the caller has the lock of the queues."""
    for queue in await load(viommu.veventqs):
        if isinstance(queue, IommufdVeventq) and queue.event_type == kind:
            return queue
    return None


ITS_VIOMMU = "its virtual IOMMU"


class IommufdViommu(IommufdObject):
    """A share of an IOMMU for one guest.

    * born by VIOMMU_ALLOC with a page table that carries tables of guests, and holds it; does not hold the device;
    * held by its devices, its event queues, the tables of the guest over it, its hardware queues;
    * `vdevs`: its devices by the number that the guest knows them by.
    """

    kind = "iommufd_viommu"
    type = "virtual IOMMU"
    vdevs: Table[IommufdVdevice] = table(guard="igroup.lock", link="weak")
    veventqs_rwsem: Lock = rwsem()
    veventqs: Field[tuple[IommufdObject, ...]] = field((), guard="veventqs_rwsem", link="weak")
    # of the mock driver
    queue_mutex: Lock = mutex()
    hw_queue: Table[IommufdObject] = table(guard="queue_mutex", link="weak")
    mmap_offset: Field[int] = field(0)  # where a program can map its page; 0: nowhere

    def __init__(self, engine: Engine, ictx: IommufdCtx, hwpt: IommufdHwptPaging, ops: IommuOps) -> None:
        super().__init__(engine, ictx)
        self.hwpt = hwpt
        self.ops = ops
        self.pages: Sparse | None = None  # of the mock driver: what a program can map


class IommufdVdevice(IommufdObject):
    """A device as a guest knows it: a number in a virtual IOMMU.

    * born by VDEVICE_ALLOC, one for a device at most; holds the virtual IOMMU, and the device as a running call does;
    * dies by IOMMU_DESTROY; if the device goes first it takes this along, and the ID stays taken for ever (a tombstone).
    """

    kind = "iommufd_vdevice"
    type = "virtual device"

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, idev: IommufdDevice, virt_id: int
    ) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.idev = idev
        self.virt_id = virt_id


def device_of(vdev: KObject | None) -> KObject | None:
    """The device behind a virtual one."""
    return vdev.idev.dev if isinstance(vdev, IommufdVdevice) else None
