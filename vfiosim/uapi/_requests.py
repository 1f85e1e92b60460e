"""All ioctl requests: what each one takes and on which kind of file, found by name or by number."""

from dataclasses import dataclass
from typing import Literal

from . import (
    iommufd,
    iommufd_hwpt,
    iommufd_test,
    iommufd_viommu,
    kvm,
    vfio,
    vfio_device,
    vfio_feature,
    vfio_pci,
    vfio_type1,
)
from ._struct import Struct

Argument = Literal["struct", "s32", "cstr", "int"]  # address of a struct, number or string; or a number itself
FileKind = Literal["container", "group", "device", "migration", "iommufd", "kvm", "vm", "kvm-device"]


@dataclass(frozen=True, slots=True)
class Request:
    """An ioctl request. Two requests may have one number; then the kind of file tells which is meant."""

    name: str
    number: int
    struct: type[Struct] | None
    argument: Argument | None  # None: the argument is not used
    file: FileKind


Takes = type[Struct] | Literal["s32", "cstr", "int"] | None

_CONTAINER: dict[str, Takes] = {
    "VFIO_GET_API_VERSION": None,
    "VFIO_CHECK_EXTENSION": "int",
    "VFIO_SET_IOMMU": "int",
    "VFIO_IOMMU_GET_INFO": vfio_type1.VfioIommuType1Info,
    "VFIO_IOMMU_MAP_DMA": vfio_type1.VfioIommuType1DmaMap,
    "VFIO_IOMMU_UNMAP_DMA": vfio_type1.VfioIommuType1DmaUnmap,
    "VFIO_IOMMU_ENABLE": None,
    "VFIO_IOMMU_DISABLE": None,
    "VFIO_IOMMU_DIRTY_PAGES": vfio_type1.VfioIommuType1DirtyBitmap,
}
_GROUP: dict[str, Takes] = {
    "VFIO_GROUP_GET_STATUS": vfio.VfioGroupStatus,
    "VFIO_GROUP_SET_CONTAINER": "s32",
    "VFIO_GROUP_UNSET_CONTAINER": None,
    "VFIO_GROUP_GET_DEVICE_FD": "cstr",
}
_DEVICE: dict[str, Takes] = {
    "VFIO_DEVICE_GET_INFO": vfio_device.VfioDeviceInfo,
    "VFIO_DEVICE_GET_REGION_INFO": vfio_device.VfioRegionInfo,
    "VFIO_DEVICE_GET_IRQ_INFO": vfio_device.VfioIrqInfo,
    "VFIO_DEVICE_SET_IRQS": vfio_device.VfioIrqSet,
    "VFIO_DEVICE_RESET": None,
    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO": vfio_pci.VfioPciHotResetInfo,
    "VFIO_DEVICE_PCI_HOT_RESET": vfio_pci.VfioPciHotReset,
    "VFIO_DEVICE_QUERY_GFX_PLANE": vfio_device.VfioDeviceGfxPlaneInfo,
    "VFIO_DEVICE_GET_GFX_DMABUF": "s32",
    "VFIO_DEVICE_IOEVENTFD": vfio_device.VfioDeviceIoeventfd,
    "VFIO_DEVICE_FEATURE": vfio_feature.VfioDeviceFeature,
    "VFIO_DEVICE_BIND_IOMMUFD": vfio_device.VfioDeviceBindIommufd,
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT": vfio_device.VfioDeviceAttachIommufdPt,
    "VFIO_DEVICE_DETACH_IOMMUFD_PT": vfio_device.VfioDeviceDetachIommufdPt,
}
_MIGRATION: dict[str, Takes] = {"VFIO_MIG_GET_PRECOPY_INFO": vfio_feature.VfioPrecopyInfo}
_IOMMUFD: dict[str, Takes] = {
    "IOMMU_DESTROY": iommufd.IommuDestroy,
    "IOMMU_IOAS_ALLOC": iommufd.IommuIoasAlloc,
    "IOMMU_IOAS_ALLOW_IOVAS": iommufd.IommuIoasAllowIovas,
    "IOMMU_IOAS_COPY": iommufd.IommuIoasCopy,
    "IOMMU_IOAS_IOVA_RANGES": iommufd.IommuIoasIovaRanges,
    "IOMMU_IOAS_MAP": iommufd.IommuIoasMap,
    "IOMMU_IOAS_UNMAP": iommufd.IommuIoasUnmap,
    "IOMMU_OPTION": iommufd.IommuOption,
    "IOMMU_VFIO_IOAS": iommufd.IommuVfioIoas,
    "IOMMU_HWPT_ALLOC": iommufd_hwpt.IommuHwptAlloc,
    "IOMMU_GET_HW_INFO": iommufd_hwpt.IommuHwInfo,
    "IOMMU_HWPT_SET_DIRTY_TRACKING": iommufd_hwpt.IommuHwptSetDirtyTracking,
    "IOMMU_HWPT_GET_DIRTY_BITMAP": iommufd_hwpt.IommuHwptGetDirtyBitmap,
    "IOMMU_HWPT_INVALIDATE": iommufd_hwpt.IommuHwptInvalidate,
    "IOMMU_FAULT_QUEUE_ALLOC": iommufd_hwpt.IommuFaultAlloc,
    "IOMMU_IOAS_MAP_FILE": iommufd.IommuIoasMapFile,
    "IOMMU_VIOMMU_ALLOC": iommufd_viommu.IommuViommuAlloc,
    "IOMMU_VDEVICE_ALLOC": iommufd_viommu.IommuVdeviceAlloc,
    "IOMMU_IOAS_CHANGE_PROCESS": iommufd.IommuIoasChangeProcess,
    "IOMMU_VEVENTQ_ALLOC": iommufd_viommu.IommuVeventqAlloc,
    "IOMMU_HW_QUEUE_ALLOC": iommufd_viommu.IommuHwQueueAlloc,
    "IOMMU_TEST_CMD": iommufd_test.IommuTestCmd,
}
_KVM: dict[str, Takes] = {
    "KVM_GET_API_VERSION": None,
    "KVM_CREATE_VM": "int",
    "KVM_CHECK_EXTENSION": "int",
}
_VM: dict[str, Takes] = {
    "KVM_CREATE_VCPU": "int",
    "KVM_CREATE_DEVICE": kvm.KvmCreateDevice,
}
_KVM_DEVICE: dict[str, Takes] = {
    "KVM_SET_DEVICE_ATTR": kvm.KvmDeviceAttr,
    "KVM_GET_DEVICE_ATTR": kvm.KvmDeviceAttr,
    "KVM_HAS_DEVICE_ATTR": kvm.KvmDeviceAttr,
}
_BY_FILE: dict[FileKind, dict[str, Takes]] = {
    "container": _CONTAINER,
    "group": _GROUP,
    "device": _DEVICE,
    "migration": _MIGRATION,
    "iommufd": _IOMMUFD,
    "kvm": _KVM,
    "vm": _VM,
    "kvm-device": _KVM_DEVICE,
}
MODULES = (
    *(vfio, vfio_device, vfio_pci, vfio_feature, vfio_type1),
    *(iommufd, iommufd_hwpt, iommufd_viommu, iommufd_test, kvm),
)
_NUMBERS: dict[str, int] = {name: value for module in MODULES for name, value in vars(module).items()}


def _request(name: str, takes: Takes, file: FileKind) -> Request:
    if isinstance(takes, type):
        return Request(name, _NUMBERS[name], takes, "struct", file)
    return Request(name, _NUMBERS[name], None, takes, file)


REQUESTS: dict[str, Request] = {
    name: _request(name, takes, file) for file, table in _BY_FILE.items() for name, takes in table.items()
}
_BY_NUMBER: dict[int, tuple[Request, ...]] = {}
for _each in REQUESTS.values():
    _BY_NUMBER[_each.number] = (*_BY_NUMBER.get(_each.number, ()), _each)


def request_names(number: int) -> tuple[str, ...]:
    """The names of all requests that have this number, on any kind of file; usually one, none if it is unknown."""
    return tuple(request.name for request in _BY_NUMBER.get(number, ()))


def request_name(number: int, file: FileKind | None = None) -> str:
    """The name of a request, for people to read: "IOMMU_DESTROY", or "0x1234" if it has none.

    Where two requests share the number, the kind of file decides (an iommufd also answers those of a container);
    without it both names are given, joined by " or ".
    """
    requests = _BY_NUMBER.get(number, ())
    asked = ("iommufd", "container") if file == "iommufd" else (file,)
    names = [request.name for request in requests if request.file in asked] or [request.name for request in requests]
    return " or ".join(names) if names else hex(number)
