"""The objects of an iommufd context (drivers/iommu/iommufd/iommufd_private.h, include/linux/iommufd.h, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Any, ClassVar, Final, Literal

from ...engine import (
    Count,
    Field,
    KObject,
    Lock,
    Table,
    count,
    current,
    field,
    get,
    get_unless_zero,
    kernel,
    mutex,
    put,
    spinlock,
    table,
)
from ...engine.engine import Engine
from ...uapi import Struct
from ..fs.file import File, fput
from ..iommu import IommuGroup

ZERO_ENTRY: Final = "reserved"  # an ID that is taken while nobody can find its object
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
    vfio_ioas: Field[KObject | None] = field(None, guard="objects_lock", link="weak")
    groups_lock: Lock = spinlock()
    groups: Table[IommufdGroup] = table(guard="groups_lock")
    no_iommu_mode: Field[bool] = field(False)

    def __init__(self, engine: Engine, file: File) -> None:
        super().__init__(engine)
        self.file = file


class IommufdObject(KObject):
    """Anything with an ID in an iommufd context.

    * born with an ID that nobody can find, found by others from `iommufd_object_finalize` on;
    * `users` counts who depends on it: the context 1, long-term holders, running calls; `wait_cnt` the context and the calls;
    * dies by IOMMU_DESTROY if only the context holds it, or when its driver lets go.
    """

    type: ClassVar[str] = "any"
    users: Count = count()
    wait_cnt: Count = count()

    def __init__(self, engine: Engine, ictx: IommufdCtx) -> None:
        super().__init__(engine)
        self.ictx = ictx
        self.id = 0  # set when it is reserved, before anybody can find the object


class IommufdGroup(KObject):
    """What a context knows of an iommu_group: held by each of its devices that is bound here."""

    kind = "iommufd_group"
    ref: Count = count()
    lock: Lock = mutex()

    def __init__(self, engine: Engine, ictx: IommufdCtx, group: IommuGroup) -> None:
        super().__init__(engine)
        self.ictx = ictx
        self.group = group


class IommufdDevice(IommufdObject):
    """A physical device that is bound to the context; what out_devid names.

    * born by BIND, held by the vfio driver until the unbind, and once more by each attachment;
    * holds the context's file, the iommufd_group and a share of the DMA ownership;
    * IOMMU_DESTROY never gets it: the driver always holds it.
    """

    kind = "iommufd_device"
    type = "device"

    def __init__(self, engine: Engine, ictx: IommufdCtx, igroup: IommufdGroup) -> None:
        super().__init__(engine, ictx)
        self.igroup = igroup


class IommufdAccess(IommufdObject):
    """An emulated device that is bound to the context: it reads and writes user memory with the CPU, it does no DMA.

    * born by BIND, held by the vfio driver until the unbind; its ID is what out_devid names;
    * holds the context's file; claims no DMA ownership and has no iommufd_group.
    """

    kind = "iommufd_access"
    type = "access"
    ioas_lock: Lock = mutex()
    ioas: Field[KObject | None] = field(None, guard="ioas_lock")


class IommufdIoas(IommufdObject):
    """An I/O address space; held by the page tables and accesses that use it."""

    kind = "iommufd_ioas"
    type = "ioas"


class Ucmd:
    """One running iommufd call (`struct iommufd_ucmd`): the copied argument, where it goes back to, and what it makes."""

    def __init__(self, ictx: IommufdCtx, address: int, user_size: int, cmd: Struct) -> None:
        self.ictx = ictx
        self.address = address
        self.user_size = user_size
        self.cmd: Any = cmd
        self.new_obj: IommufdObject | None = None

    def reply(self) -> bytes:
        """What goes back: as much of the argument as both sides know."""
        return bytes(self.cmd)[: min(self.user_size, sizeof(self.cmd))]


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_get(ictx: IommufdCtx, holder: KObject, reason: str) -> None:
    """Hold the context: one reference more on its file."""
    await get(ictx.file.f_ref, holder, reason)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_put(ictx: IommufdCtx, holder: KObject, reason: str) -> None:
    """Let go of the context; its release, if this was the last reference, waits for the return to user space."""
    await fput(ictx.file, holder, reason)


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
