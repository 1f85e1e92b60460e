"""Which calls there are for which kind of file, and what to begin with in their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ... import uapi
from ...machine.events import Called
from ...machine.system_calls import FD, REQUESTS_OF, SYSTEM_CALLS, Argument, SystemCall
from ..run import Run

OTHER = "any other request"


def _at_an_offset(call: SystemCall) -> SystemCall:
    """pread and pwrite: the same call, told an offset too."""
    return replace(
        call, name=f"p{call.name}", does=f"{call.does} at an offset", arguments=(*call.arguments, Argument("offset"))
    )


_OFFERED = [call for call in SYSTEM_CALLS.values() if call.plain and call.name not in ("ioctl", "exit")]
ON_A_FILE = (
    *(call for call in _OFFERED if call.on_a_file),
    *(_at_an_offset(call) for call in _OFFERED if call.offset),
)
WITHOUT_A_FILE = tuple(call for call in _OFFERED if not call.on_a_file)


def requests(run: Run, file: Any) -> dict[str, uapi.Request]:
    """The requests that such a file knows in this version of the kernel, by name; the most wanted first."""
    answered = REQUESTS_OF.get(file.f_op.name, ())
    known = {name: each for name, each in uapi.REQUESTS.items() if each.file in answered}
    first = {name: known[name] for name in FIRST if name in known}
    return {name: as_here(run, each) for name, each in {**first, **known}.items()}


FIRST = (
    "VFIO_DEVICE_BIND_IOMMUFD",
    "VFIO_DEVICE_GET_INFO",
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    "VFIO_DEVICE_DETACH_IOMMUFD_PT",
    "IOMMU_IOAS_ALLOC",
    "IOMMU_IOAS_MAP",
    "IOMMU_HWPT_ALLOC",
    "IOMMU_DESTROY",
    "KVM_CREATE_VM",
    "KVM_CREATE_DEVICE",
    "KVM_SET_DEVICE_ATTR",
    "VFIO_GROUP_GET_STATUS",
    "VFIO_GROUP_SET_CONTAINER",
    "VFIO_GROUP_GET_DEVICE_FD",
    "VFIO_SET_IOMMU",
)


GROUPS = {  # what stands below the most wanted: a title → how the names begin; the first that fits counts
    "device": ("VFIO_DEVICE_",),
    "address spaces (IOAS)": ("IOMMU_IOAS_",),
    "page tables (HWPT), hardware": ("IOMMU_HWPT_", "IOMMU_GET_HW_INFO", "IOMMU_FAULT_"),
    "virtual IOMMU": ("IOMMU_VIOMMU_", "IOMMU_VDEVICE_", "IOMMU_VEVENTQ_", "IOMMU_HW_QUEUE_"),
    "old container": ("VFIO_", "IOMMU_VFIO_IOAS"),
    "further requests": ("IOMMU_OPTION", "KVM_"),
    "test device": ("IOMMU_TEST_",),
}


def in_groups(known: dict[str, uapi.Request], plain: Sequence[SystemCall]) -> list[tuple[str, Any]]:
    """What can be asked, in the order of use: (name, request or call), and titles between them, which are (title, title).

    First the most wanted requests of `known`, then the `plain` calls, of which close and dup are wanted every day, then the rest.
    """
    # An iommufd can VFIO_SET_IOMMU, too, but nobody wants that of it.
    first = {name for name in FIRST if name != "VFIO_SET_IOMMU" or "IOMMU_IOAS_ALLOC" not in known}
    offered: list[tuple[str, Any]] = [(name, known[name]) for name in known if name in first]
    groups: dict[str, list[tuple[str, Any]]] = {"any file": [(call.name, call) for call in plain]}
    groups |= {title: [] for title in GROUPS}
    for name, request in known.items():
        if name not in first:
            groups[next(title for title, begins in GROUPS.items() if name.startswith(begins))].append((name, request))
    for title, calls in groups.items():
        if calls:
            heading = f"—— {title} ——"
            offered += [(heading, heading), *calls]
    return [*offered[offered[0][0] == offered[0][1] :], (OTHER, OTHER)]  # a list begins with no title


def as_here(run: Run, request: uapi.Request) -> uapi.Request:
    """A request with the number and the struct that this version of the kernel has for it."""
    variant = run.machine.variant
    if request.name != "VFIO_DEVICE_BIND_IOMMUFD":
        return request
    return uapi.Request(request.name, variant.bind_request, variant.layout, request.argument, request.file)


def latest(run: Run, process: str, operations: str) -> int | None:
    """The descriptor of a process that leads to such a file: the one that the reader has chosen, or else the highest."""
    found = [number for number, file in run.descriptors(process).items() if file.f_op.name == operations]
    chosen = run.chosen.get((process, operations))
    return chosen if chosen in found else max(found, default=None)


def made(run: Run) -> dict[str, int]:
    """The last ID of each sort that the kernel gave out: {"devid": 1, "ioas_id": 2, "id": 2}."""
    found: dict[str, int] = {}
    for done in run.done:
        for line in done.outcome.wrote:
            name, _, value = line.partition(" = ")
            if name.startswith("out_") and name.endswith(("_id", "devid")):
                found[name.removeprefix("out_")] = found["id"] = int(value, 0)
    return found


def defaults(run: Run, process: str, request: uapi.Request) -> dict[str, int | str | None]:
    """What to begin with in the fields of a struct that a caller fills in; None where there is nothing yet."""
    ids = made(run)
    hwpt, ioas = ids.get("hwpt_id"), ids.get("ioas_id")
    values: dict[str, int | str | None] = {
        "iommufd": latest(run, process, "iommufd"),
        "ioas_id": ioas,
        "src_ioas_id": ioas,
        "dst_ioas_id": ioas,
        "pt_id": ioas if hwpt is None or request.name == "IOMMU_HWPT_ALLOC" else max(hwpt, ioas or 0),
        "dev_id": ids.get("devid"),
        "hwpt_id": hwpt,
        "viommu_id": ids.get("viommu_id"),
        "id": ids.get("id"),
    }
    device = latest(run, process, "vfio device")
    special: dict[str, dict[str, int | str | None]] = {
        "IOMMU_IOAS_MAP": {"flags": 7, "user_va": "[zeros 4096]", "length": 4096, "iova": 0x10000},
        "IOMMU_IOAS_UNMAP": {"iova": 0x10000, "length": 4096},
        "IOMMU_IOAS_COPY": {"flags": 7, "length": 4096, "src_iova": 0x10000, "dst_iova": 0x20000},
        "IOMMU_IOAS_MAP_FILE": {"flags": 7, "fd": latest(run, process, "memfd"), "length": 4096, "iova": 0x10000},
        "IOMMU_IOAS_IOVA_RANGES": {"num_iovas": 4, "allowed_iovas": "[zeros 64]"},
        "IOMMU_GET_HW_INFO": {"data_len": 64, "data_uptr": "[zeros 64]"},
        "VFIO_IOMMU_MAP_DMA": {"flags": 3, "vaddr": "[zeros 4096]", "size": 4096, "iova": 0x10000},
        "VFIO_IOMMU_UNMAP_DMA": {"size": 4096, "iova": 0x10000},
        "KVM_CREATE_DEVICE": {"type": uapi.KVM_DEV_TYPE_VFIO},
        "KVM_SET_DEVICE_ATTR": {
            "group": uapi.KVM_DEV_VFIO_FILE,
            "attr": uapi.KVM_DEV_VFIO_FILE_ADD,
            "addr": f"[int {device if device is not None else 3}]",
        },
        "KVM_HAS_DEVICE_ATTR": {"group": uapi.KVM_DEV_VFIO_FILE, "attr": uapi.KVM_DEV_VFIO_FILE_ADD},
        "VFIO_DEVICE_IOEVENTFD": {"fd": latest(run, process, "eventfd")},
    }
    fields = {field.name for field in request.struct.fields()} if request.struct else set()
    found = {**values, **special.get(request.name, {})}
    return {name: value for name, value in found.items() if name in fields}


def number_for(run: Run, process: str, request: uapi.Request) -> int:
    """What to begin with where the argument is a number, or a pointer to one."""
    if request.name == "VFIO_GROUP_SET_CONTAINER":
        found = latest(run, process, "vfio container")
        return 0 if found is None else found
    return 1 if request.name in ("VFIO_CHECK_EXTENSION", "VFIO_SET_IOMMU") else 0


def plain_call(process: str, call: SystemCall, fd: int | None, values: dict[str, Any]) -> Called:
    """The call that is no ioctl, with its arguments in the order in which the kernel takes them."""
    name = call.name if call.name in SYSTEM_CALLS else call.name.removeprefix("p")
    given = {
        each.name: tuple(values[each.name].replace(",", " ").split()) if each.sort == "names" else values[each.name]
        for each in call.arguments
        if each != FD
    }
    return Called(process, name, tuple({"fd": fd, **given}[each.name] for each in call.arguments))
