"""Which calls there are for which kind of file, and what to begin with in their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ... import uapi
from ...kernel.fs.file import O_RDWR
from ...kernel.mmap import MAP_SHARED
from .actions import Called
from .run import Run

KIND_OF = {
    "vfio device": ("device",),
    "vfio group": ("group",),
    "vfio container": ("container",),
    "iommufd": ("iommufd", "container"),
    "kvm": ("kvm",),
    "kvm-vm": ("vm",),
    "kvm-device": ("kvm-device",),
}  # name of the file operations → whose requests such a file answers
OTHER = "any other request"

Spec = tuple[str, str, Any]  # name, sort (number, text, bytes, fds, fd), what to begin with


@dataclass(frozen=True)
class Plain:
    """A call that is no ioctl: its name, what it does, and its arguments behind the descriptor."""

    name: str
    does: str
    arguments: tuple[Spec, ...] = ()


ON_A_FILE = (
    Plain("close", "give the descriptor back"),
    Plain("dup", "a second descriptor for the same open file"),
    Plain("read", "read bytes", (("size", "number", 8),)),
    Plain("pread", "read bytes from an offset on", (("size", "number", 4), ("offset", "number", 0))),
    Plain("write", "write bytes", (("data", "bytes", "01 00 00 00 00 00 00 00"),)),
    Plain("pwrite", "write bytes at an offset", (("data", "bytes", "00 00"), ("offset", "number", 0))),
    Plain("poll", "which events are there", (("events", "number", 1), ("timeout", "number", 0))),
    Plain("fdinfo", "what /proc/self/fdinfo tells"),
    Plain(
        "mmap",
        "map a part of the file",
        (("length", "number", 4096), ("prot", "number", 3), ("flags", "number", MAP_SHARED), ("offset", "number", 0)),
    ),
    Plain("sendmsg_fds", "send open files over this socket", (("fds", "fds", ""),)),
    Plain("recvmsg_fds", "receive open files from this socket"),
)
LIMITS: tuple[Spec, ...] = (("resource", "number", 8), ("soft", "number", 0), ("hard", "number", 0))
WITHOUT_A_FILE = (
    Plain("open", "open a path", (("path", "text", "/dev/vfio/devices/vfio0"), ("flags", "number", O_RDWR))),
    Plain("eventfd", "an eventfd"),
    Plain("memfd", "a memory file", (("size", "number", 4096),)),
    Plain("socketpair", "two connected sockets"),
    Plain("plain", "a file that VFIO knows nothing of: file, pipe, socket", (("name", "text", "file"),)),
    Plain("munmap", "unmap a range", (("address", "number", 0), ("length", "number", 4096))),
    Plain("write_file", "write into a file of /sys", (("path", "text", ""), ("data", "text", ""))),
    Plain("listdir", "the names in a directory", (("path", "text", "/dev/vfio/devices"),)),
    Plain("readlink", "where a link leads", (("path", "text", ""),)),
    Plain("stat", "kind and permissions of a file", (("path", "text", "/dev/iommu"),)),
    Plain("rmmod", "unload a module, a driver for one", (("name", "text", "vfio-pci"),)),
    Plain("setuid", "become another user", (("uid", "number", 1000),)),
    Plain("capset", "give capabilities away", (("names", "text", "CAP_SYS_RAWIO"),)),
    Plain("setrlimit", "set a limit: 7 descriptors, 8 locked memory", LIMITS),
    Plain("exec", "run another program"),
)  # fmt: skip


def kinds(file: Any) -> tuple[str, ...]:
    """Whose requests a file answers; none for a file that knows no ioctl."""
    return KIND_OF.get(file.f_op.name, ())


def requests(run: Run, file: Any) -> dict[str, uapi.Request]:
    """The requests that such a file knows in this version of the kernel, by name; the most wanted first."""
    answered = kinds(file)
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


def as_here(run: Run, request: uapi.Request) -> uapi.Request:
    """A request with the number and the struct that this version of the kernel has for it."""
    variant = run.machine.variant
    if request.name != "VFIO_DEVICE_BIND_IOMMUFD":
        return request
    return uapi.Request(request.name, variant.bind_request, variant.layout, request.argument, request.file)


def latest(run: Run, process: str, operations: str) -> int | None:
    """The highest descriptor of a process that leads to such a file."""
    found = [number for number, file in run.descriptors(process).items() if file.f_op.name == operations]
    return max(found, default=None)


def made(run: Run) -> dict[str, int]:
    """The last ID of each sort that the kernel gave out: {"devid": 1, "ioas_id": 2, "id": 2}."""
    found: dict[str, int] = {}
    for done in run.done:
        for line in done.told.wrote:
            name, _, value = line.partition(" = ")
            if name.startswith("out_") and name.endswith(("_id", "devid")):
                found[name.removeprefix("out_")] = found["id"] = int(value, 0)
    return found


def defaults(run: Run, process: str, request: uapi.Request) -> dict[str, int | str]:
    """What to begin with in the fields of a struct, as far as it is not 0 or its size."""
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
    return {name: value for name, value in found.items() if name in fields and value is not None}


def number_for(run: Run, process: str, request: uapi.Request) -> int:
    """What to begin with where the argument is a number, or a pointer to one."""
    if request.name == "VFIO_GROUP_SET_CONTAINER":
        found = latest(run, process, "vfio container")
        return 0 if found is None else found
    return 1 if request.name in ("VFIO_CHECK_EXTENSION", "VFIO_SET_IOMMU") else 0


def plain_call(process: str, plain: Plain, fd: int | None, values: dict[str, Any]) -> Called:
    """The call that is no ioctl, with its arguments in the order in which the kernel takes them."""
    name = plain.name.removeprefix("p") if plain.name in ("pread", "pwrite") else plain.name
    given = [values[spec[0]] for spec in plain.arguments]
    if name == "mmap":
        length, prot, flags, offset = given
        return Called(process, name, (length, prot, flags, fd, offset, None))
    if name == "capset":
        given = [tuple(given[0].replace(",", " ").split())]
    return Called(process, name, tuple(given) if fd is None else (fd, *given))
