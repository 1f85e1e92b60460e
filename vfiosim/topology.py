"""Which devices a machine has: the built-in topologies, and the one that a recording names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .kernel.base import NO_GROUP, VFIO_PCI
from .kernel.boot import DeviceSpec
from .kernel.config import Config
from .kernel.hardware import Capability, Hardware

__all__ = ["MDEV_TYPES", "TOPOLOGIES", "Capability", "DeviceSpec", "Hardware", "Topology"]

MDEV_TYPES = {
    "mdev0": "mtty-2",
    "mdev1": "mtty-1",
}  # of the recorded mediated devices, which the recordings do not tell
PROFILES = ("default", "noiommu", "sriov", "compat")


@dataclass(frozen=True)
class Topology:
    """Devices in the order in which their drivers take them: the first VFIO device is vfio0, the next vfio1, and so on.

    * `iommufd_container`: the kernel was built so that /dev/vfio/vfio is an iommufd that plays a container.
    """

    name: str
    devices: tuple[DeviceSpec, ...]
    iommufd_container: bool = False

    def configured(self, config: Config) -> Config:
        """A configuration with what these devices need: how /dev/vfio/vfio was built, and leave to do without an IOMMU."""
        unsafe = config.vfio_noiommu and any(spec.noiommu for spec in self.devices)
        return replace(
            config,
            iommufd_vfio_container=config.iommufd_vfio_container or self.iommufd_container,
            enable_unsafe_noiommu_mode=config.enable_unsafe_noiommu_mode or unsafe,
        )

    @classmethod
    def named(cls, name: str) -> Topology:
        """A built-in topology: "small", "lab" or "versions". Raises ValueError for other names."""
        if name not in TOPOLOGIES:
            raise ValueError(f"there is no topology {name!r}; there are {', '.join(sorted(TOPOLOGIES))}")
        return TOPOLOGIES[name]

    @classmethod
    def from_recording(cls, devices: Mapping[str, Mapping[str, Any]], profile: str) -> Topology:
        """The topology of a recorded machine, as its recording describes it.

        `devices` maps names to addresses, groups, drivers and models. Raises ValueError for a profile that is not modelled.
        """
        if profile not in PROFILES:
            raise ValueError(f"the profile {profile!r} is not modelled; {', '.join(PROFILES)} are")
        found = tuple(_recorded(name, device, devices) for name, device in devices.items())
        return cls(profile, found, iommufd_container=profile == "compat")


def _recorded(name: str, device: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]) -> DeviceSpec:
    address = str(device["bdf"])
    pci = device["kind"] == "pci"
    virtual = str(device["model"]).endswith(" VF")
    behind_port = pci and not virtual and not address.startswith("0000:00:")
    physical = f"{address[:11]}0"  # the function 0 of the same card
    vfs = [other for other in devices.values() if pci and str(other["model"]) == f"{device['model']} VF"]
    vfs = [other for other in vfs if str(other["bdf"])[:11] == address[:11]]
    return DeviceSpec(
        name,
        address,
        int(device.get("group_id", NO_GROUP)),
        bus="pci" if pci else "mdev",
        driver=str(device["driver"] or VFIO_PCI),  # which was told to take it where it has none, and refused
        model=MDEV_TYPES.get(name, str(device["model"])),
        dev_set=f"bus {address[:7]}" if behind_port else "",
        no_reset=virtual or bool(vfs),  # where functions have functions in them it was switched off
        noiommu=str(device["group"]).startswith("noiommu-"),
        vfs=len(vfs),
        physfn=physical if virtual else "",
    )


_SMALL = Topology(
    "small",
    (
        DeviceSpec("nic", "0000:01:00.0", 1, model="a network card alone in its group", can_reset=True),
        DeviceSpec("gpu", "0000:02:00.0", 2, model="a graphics card", dev_set="slot 02:00"),
        DeviceSpec("hdmi", "0000:02:00.1", 2, model="its audio function, in the same group", dev_set="slot 02:00"),
        DeviceSpec("usb", "0000:03:00.0", 3, model="a USB controller"),
        DeviceSpec("sata", "0000:03:00.1", 3, driver="ahci", model="in the same group, with a kernel driver"),
        DeviceSpec(
            "tty", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 4, bus="mdev", driver="mtty", model="emulated, no DMA"
        ),
    ),
)

_LAB = Topology(
    "lab",
    (
        DeviceSpec("pci0", "0000:00:04.0", 1, model="edu"),
        DeviceSpec("pci1", "0000:00:05.0", 2, model="pci-testdev"),
        DeviceSpec("pci2", "0000:01:00.0", 9, model="nvme", dev_set="bus 0000:01", can_reset=True),
        DeviceSpec("pairA", "0000:00:06.0", 3, model="edu"),
        DeviceSpec("pairB", "0000:00:06.1", 3, model="edu"),
        DeviceSpec("slotA", "0000:02:00.0", 10, model="edu", dev_set="bus 0000:02"),
        DeviceSpec("slotB", "0000:02:00.1", 10, model="edu", dev_set="bus 0000:02"),
        DeviceSpec("mixA", "0000:00:07.0", 4, model="edu"),
        DeviceSpec("mixB", "0000:00:07.1", 4, driver="virtio-pci", model="virtio-rng-pci"),
        DeviceSpec("mdev0", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 11, bus="mdev", driver="mtty", model="mtty-2"),
        DeviceSpec("mdev1", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002", 12, bus="mdev", driver="mtty", model="mtty-1"),
    ),
)

_VERSIONS = Topology(
    "versions",
    (
        *_SMALL.devices,
        DeviceSpec(
            "ccw",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa1003",
            5,
            bus="mdev",
            driver="emulated",
            model="emulated, pins memory",
        ),
        DeviceSpec(
            "led",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa1004",
            6,
            bus="mdev",
            driver="no-dma",
            model="its driver cannot bind",
        ),
    ),
)  # devices that kernel versions treat differently

TOPOLOGIES = {topology.name: topology for topology in (_SMALL, _LAB, _VERSIONS)}
