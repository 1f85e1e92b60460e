"""I/O address spaces, as far as their life goes (drivers/iommu/iommufd/ioas.c, v7.2)."""

from __future__ import annotations

from ...engine import Phase, copy_to_user, kernel, refuse_if, say
from ...uapi import Errno
from .main import _iommufd_object_alloc
from .private import IommufdIoas, Ucmd


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_alloc_ioctl(ucmd: Ucmd) -> None:
    """A new, empty address space. EOPNOTSUPP for flags, EFAULT where its ID cannot be written."""
    await refuse_if(ucmd.cmd.flags != 0, Errno.EOPNOTSUPP, "no_flags_known", "IOMMU_IOAS_ALLOC has no flags yet")
    say(Phase.ACQUIRE, "A new address space takes the lowest free ID of {}.", ucmd.ictx)
    ioas = await _iommufd_object_alloc(ucmd.ictx, IommufdIoas)
    ucmd.new_obj = ioas  # published if the call succeeds, undone if it fails
    ucmd.cmd.out_ioas_id = ioas.id
    await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_destroy(ioas: IommufdIoas) -> None:
    """Give back what the address space holds: its mappings, of which there are none yet."""
