"""The device nodes that a reader may choose from, and what of a machine a picture always shows."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernel.base import VFIO_DRIVERS
from ..kernel.vfio.vfio import VfioDevice
from ..machine import Machine
from ..topology import Topology


@dataclass(frozen=True)
class DeviceNode:
    """A device that a VFIO driver had at boot: what the reader reads, the path of its node and of its group's."""

    label: str
    path: str
    group: str


def device_nodes(topology: Topology) -> list[DeviceNode]:
    """All of a machine, in their order."""
    found = []
    for number, spec in enumerate(spec for spec in topology.devices if spec.driver in VFIO_DRIVERS):
        label = f"vfio{number}: {spec.name}" + (f", {spec.model}" if spec.model else "")
        group = f"/dev/vfio/noiommu-{spec.group}" if spec.noiommu else f"/dev/vfio/{spec.group}"
        found.append(DeviceNode(label, f"/dev/vfio/devices/vfio{number}", group))
    return found


def always_shown(machine: Machine) -> list[str]:
    """What programs have open, and the first device with all that are in its group, whoever drives them."""
    devices = [*machine.built.devices.values()]
    first = next((one for one in devices if isinstance(one.drvdata.value, VfioDevice)), next(iter(devices), None))
    shown = []
    for one in devices:
        if one is first or (first is not None and one.iommu_group.value is first.iommu_group.value is not None):
            shown.append((one.drvdata.value if isinstance(one.drvdata.value, VfioDevice) else one).oid)
    return ["fds", *shown]
