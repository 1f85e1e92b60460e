"""The numbers, flags and structs through which user space and the kernel talk: VFIO, iommufd and KVM of Linux 7.2.

All requests of VFIO and iommufd are here; of structs and flags those that are modelled, recorded, or next to be modelled.

Everything has the kernel's name (`uapi.VFIO_DEVICE_BIND_IOMMUFD`), structs in the spelling of Python classes:
`uapi.VfioDeviceBindIommufd` is `struct vfio_device_bind_iommufd`. Files follow the kernel's headers.

* `REQUESTS`, `STRUCTS`, `CONSTANTS`: the same by name; `request_name` and `request_names` by number.
* `FD_FIELDS_IN`, `FD_FIELDS_OUT`, `PTR_FIELDS`: which fields ("struct.field") hold file descriptors and addresses.
* `Errno`, `KernelError`: how calls fail.
"""

# ruff: noqa: F403

from . import _requests
from ._requests import REQUESTS as REQUESTS
from ._requests import Request as Request
from ._requests import request_name as request_name
from ._requests import request_names as request_names
from ._struct import STRUCTS as STRUCTS
from ._struct import Member as Member
from ._struct import Role as Role
from ._struct import Struct as Struct
from .errno import Errno as Errno
from .errno import KernelError as KernelError
from .iommufd import *
from .iommufd_hwpt import *
from .iommufd_test import *
from .iommufd_viommu import *
from .kvm import *
from .vfio import *
from .vfio_device import *
from .vfio_feature import *
from .vfio_pci import *
from .vfio_type1 import *
from .vfio_v5 import VFIO_DEVICE_BIND_IOMMUFD_V5 as VFIO_DEVICE_BIND_IOMMUFD_V5
from .vfio_v5 import VfioDeviceBindIommufdV5 as VfioDeviceBindIommufdV5

CONSTANTS: dict[str, int] = {
    name: value
    for module in _requests.MODULES
    for name, value in vars(module).items()
    if name.startswith(("VFIO_", "IOMMU_", "IOMMUFD_", "KVM_", "MOCK_")) and isinstance(value, int)
    if name not in REQUESTS
}


def _with_role(role: Role) -> frozenset[str]:
    return frozenset(
        f"{name}.{field.name}" for name, cls in STRUCTS.items() for field in cls.fields() if field.role == role
    )


FD_FIELDS_IN = _with_role("fd_in")
FD_FIELDS_OUT = _with_role("fd_out")
PTR_FIELDS = _with_role("ptr")
