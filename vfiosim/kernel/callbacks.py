"""Functions that may fail as a whole, for faults on purpose: what drivers may answer, and allocations that are no objects here.

Each entry stands for what may fail inside the C function of that name. What the model itself allocates and copies needs no entry.
"""

from __future__ import annotations

from typing import Any, Final

from ..engine import Callback
from ..uapi import Errno


def _to_a_table(table: Any, *_rest: Any) -> bool:
    """Attaching to nothing, that is detaching, must not fail (IOMMU_SET_DOMAIN_MUST_SUCCEED, drivers/iommu/iommu.c)."""
    return table is not None


# What attach_dev may answer is written at `struct iommu_domain_ops` (include/linux/iommu.h, v7.2).
_ATTACH: Final = Callback((Errno.EBUSY, Errno.EINVAL, Errno.ENOMEM), _to_a_table)
_OPEN: Final = Callback((Errno.EIO, Errno.ENODEV))
_NO_MEMORY: Final = Callback((Errno.ENOMEM,))

CALLBACKS: Final[dict[str, Callback]] = {
    # vfio_device_ops.open_device: pci_enable_device (vfio_pci_core_enable), or whatever a driver says
    "vfio_pci_open_device": _OPEN,
    "mtty_open_device": _OPEN,
    # vfio_device_ops.bind_iommufd (drivers/vfio/vfio.h): a driver may have one of its own
    "vfio_iommufd_physical_bind": Callback((Errno.ENODEV,)),
    "vfio_iommufd_emulated_bind": Callback((Errno.ENODEV,)),
    # vfio_device_ops.attach_ioas and pasid_attach_ioas: likewise
    "vfio_iommufd_physical_attach_ioas": Callback((Errno.ENODEV,)),
    "vfio_iommufd_emulated_attach_ioas": Callback((Errno.ENODEV,)),
    "vfio_iommufd_physical_pasid_attach_ioas": _NO_MEMORY,
    # vfio_device_ops.mmap: the registers may be requested by somebody else (pci_request_selected_regions)
    "vfio_pci_core_mmap": Callback((Errno.EBUSY, Errno.ENOMEM)),
    # iommu_domain_ops.attach_dev and set_dev_pasid
    "intel_iommu_attach_device": _ATTACH,
    "mock_domain_nop_attach": _ATTACH,
    "mock_domain_set_dev_pasid_nop": _ATTACH,
    "iommu_attach_group": _ATTACH,
    # iommu_ops.domain_alloc_paging_flags, domain_alloc_nested, viommu_init, hw_queue_init_phys
    "intel_iommu_domain_alloc_paging_flags": _NO_MEMORY,
    "mock_domain_alloc_paging_flags": _NO_MEMORY,
    "mock_domain_alloc_nested": _NO_MEMORY,
    "mock_viommu_init": _NO_MEMORY,
    "mock_hw_queue_init_phys": _NO_MEMORY,
    # __iommu_group_alloc_blocking_domain (drivers/iommu/iommu.c)
    "__iommu_take_dma_ownership": _NO_MEMORY,
    # xa_alloc in the list of accesses (drivers/iommu/iommufd/io_pagetable.c)
    "iopt_add_access": _NO_MEMORY,
    # the group's entry in its list (drivers/vfio/vfio_iommu_type1.c)
    "vfio_iommu_type1_attach_group": _NO_MEMORY,
}
