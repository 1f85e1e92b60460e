"""Functions that are called by files which come before the one that defines them: what the kernel's headers declare.

`iommufd/main.py`, for one, stands on every file of iommufd, and each of them makes its objects by functions of main.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import prototype

if TYPE_CHECKING:
    from .af_unix import drop_message
    from .iommufd.device import iommufd_access_notify_unmap, iommufd_hw_pagetable_attach, iommufd_hw_pagetable_detach
    from .iommufd.main import (
        _iommufd_object_alloc,
        iommufd_ctx_get,
        iommufd_ctx_put,
        iommufd_get_object,
        iommufd_object_abort,
        iommufd_object_abort_and_destroy,
        iommufd_object_destroy_user,
        iommufd_object_finalize,
        iommufd_object_put_and_try_destroy,
        iommufd_object_tombstone_user,
        iommufd_try_inc_users,
    )
    from .iommufd.selftest.mock_iommu import mock_hw_queue_init_phys
    from .vfio.device_cdev import (
        vfio_df_ioctl_attach_pt,
        vfio_df_ioctl_bind_iommufd,
        vfio_df_ioctl_detach_pt,
        vfio_df_unbind_iommufd,
    )
    from .vfio.group import (
        vfio_device_group_register,
        vfio_device_group_unregister,
        vfio_device_group_unuse_iommu,
        vfio_device_group_use_iommu,
        vfio_device_remove_group,
        vfio_device_set_group,
        vfio_df_group_close,
    )
    from .vfio.pci.vfio_pci_dmabuf import vfio_pci_dma_buf_move
    from .vfio.pci.vfio_pci_intrs import vfio_intx_handler, vfio_msihandler
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return prototype(name)
