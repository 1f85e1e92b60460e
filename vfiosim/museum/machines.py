"""Machines of more than one room."""

from __future__ import annotations

from ..kernel.boot import DeviceSpec
from ..machine import Machine
from ..puzzles.programs import IOMMU, NODE
from ..topology import Topology

CONSOLE = b"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001\0"  # an emulated device
TOKEN_AT = 0x10_0000


def opened_with_a_token(topology: Topology | str, trace: bool = True) -> Machine:
    """A device file (3) and an iommufd (4); sixteen bytes of a token lie at TOKEN_AT."""
    machine = Machine(topology, trace=trace)
    vmm = machine.process("vmm")
    vmm.open(NODE)
    vmm.open(IOMMU)
    vmm.memory.map(4096, b"\x11" * 16, address=TOKEN_AT)
    return machine


CARD = Topology(
    "card with virtual functions",
    (
        DeviceSpec("pf", "0000:03:00.0", 1, model="a physical function", vfs=1),
        DeviceSpec("vf", "0000:03:00.1", 2, model="its virtual function", physfn="0000:03:00.0"),
    ),
)


def physical_function(trace: bool = True) -> Machine:
    """The file of a physical function whose virtual function nobody has open."""
    return opened_with_a_token(CARD, trace)
