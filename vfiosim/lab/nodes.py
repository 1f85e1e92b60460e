"""The device nodes that a reader may choose from."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernel.base import VFIO_DRIVERS
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
