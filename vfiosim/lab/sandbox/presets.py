"""Machines to begin with: each is about one thing, with the files that it needs open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ... import uapi
from ...kernel.fs.file import O_RDWR
from ...machine.events import Called, Event
from ...topology import DeviceSpec, Topology
from ...views.atlas import BIND
from ..press import ClickFilter
from ..run import PROGRAM
from ..setup import Setup
from ..style import button, text

CARD = DeviceSpec("nic", "0000:01:00.0", 1, model="a network card", can_reset=True)
GPU = DeviceSpec("gpu", "0000:01:00.0", 1, model="a graphics card", dev_set="slot 01:00")
HDMI = DeviceSpec("hdmi", "0000:01:00.1", 1, model="its audio function", dev_set="slot 01:00")
TTY = DeviceSpec("tty", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 1, bus="mdev", driver="mtty", model="emulated, no DMA")
BARE = DeviceSpec("nic", "0000:01:00.0", 0, model="a network card that no IOMMU watches", noiommu=True)


def _called(name: str, *arguments: Any) -> Called:
    return Called(PROGRAM, name, arguments)


def _opened(*paths: str) -> tuple[Called, ...]:
    return tuple(_called("open", path, O_RDWR) for path in paths)


def _with_vm(kvm: int) -> tuple[Called, ...]:
    """A VM and its list of VFIO files; `kvm` is the next free descriptor."""
    wanted = bytes(uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO))
    return (
        *_opened("/dev/kvm"),
        _called("ioctl", kvm, uapi.KVM_CREATE_VM, 0),
        _called("close", kvm),
        _called("ioctl", kvm + 1, uapi.KVM_CREATE_DEVICE, wanted),
    )


@dataclass(frozen=True)
class Preset:
    """A machine with `devices` on which `given` was done; `says` in one or two sentences what can be tried there.

    `places` are the objects that have a place on the map from the start: those that it comes to have.
    """

    name: str
    devices: tuple[DeviceSpec, ...]
    given: tuple[Event, ...]
    says: str
    places: tuple[str, ...] = BIND

    def setup(self, kernel: str) -> Setup:
        """The machine, with this version of the kernel."""
        return Setup(Topology(self.name, self.devices), kernel, (PROGRAM,), says=self.says)


VFIO0, VFIO1, IOMMUFD = "/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1", "/dev/iommu"
PRESETS = (
    Preset(
        "A card",
        (CARD,),
        _opened(VFIO0, IOMMUFD),
        "Bind the card with Call. Then bind once more, or close the iommufd first: who keeps it alive?",
    ),
    Preset(
        "Two functions",
        (GPU, HDMI),
        _opened(VFIO0, VFIO1, IOMMUFD, IOMMUFD),
        "Both stand behind one IOMMU group, so they belong to one owner. Bind vfio0 to iommu#1, then vfio1 to iommu#2: "
        "refused; to iommu#1 it works. Or give one of them a driver of the kernel (Machine).",
        (
            *("file vfio0#1", "file vfio1#1", "file iommu#1", "file iommu#2"),
            *("vfio_device vfio0", "vfio_device vfio1", "iommufd_device 1", "iommufd_device 2"),
            *("vfio_group 1", "vfio_device_set slot 01:00", "iommufd_group 1", "iommu_group 1"),
        ),
    ),
    Preset(
        "A VM",
        (CARD,),
        _opened(VFIO0, IOMMUFD) + _with_vm(5),
        "Put the card's file on the list of the VM (KVM_SET_DEVICE_ATTR on kvm-vfio#1), then bind: the device holds the VM now. "
        "Close all that is KVM's: who still holds the VM?",
        (*BIND, "file kvm-vfio#1", "file kvm-vm#1", "kvm 1"),
    ),
    Preset(
        "An mdev",
        (TTY,),
        _opened(VFIO0, IOMMUFD),
        "An emulated device does no DMA of its own: bind it, and look for the iommufd_access in place of an iommufd_device, "
        "and for the group that nobody claims.",
        (*("iommufd_access 1" if oid.startswith("iommufd_device") else oid for oid in BIND),),
    ),
    Preset(
        "No IOMMU",
        (BARE,),
        _opened("/dev/vfio/noiommu-0", "/dev/vfio/vfio"),
        "Nothing watches the DMA of this card, so it has no node for BIND. Put the group into the container "
        "(VFIO_GROUP_SET_CONTAINER), set the IOMMU type 8, then VFIO_GROUP_GET_DEVICE_FD.",
        (
            "file noiommu-0#1",
            "file vfio#1",
            "file vfio0#1",
            "vfio_device vfio0",
            "vfio_container 1",
            "vfio_group noiommu-0",
        ),
    ),
)


def places(name: str) -> tuple[str, ...]:
    """The objects that have a place on the map from the start, on a machine of this name."""
    return next((each.places for each in PRESETS if each.name == name), BIND)


class Presets:
    """A button for each of them, behind a title; `begin` is given the one that was pressed."""

    def __init__(self, clicks: ClickFilter, begin: Callable[[Preset], None]) -> None:
        self.buttons = {each.name: button(each.name, each.says, clicks=clicks) for each in PRESETS}
        for each in PRESETS:
            self.buttons[each.name].on_click(lambda _, each=each: begin(each))
        self.children = text("begin", "Begin with"), *self.buttons.values()
