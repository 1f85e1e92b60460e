"""What each edition of the shared texts has written, kept to be opened for ever: `python -m tests.editions` writes today's.

When the edition is raised, the file of the one before was written by the last code that had it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.calls import PAGE, Space, add, bind, map_dma, ready, vm
from tests.reused_names import MACHINES
from vfiosim import Blocked, DeviceSpec, KernelError, Machine, Topology, uapi
from vfiosim.lab.record import VARIABLE, Progress

FILES = Path(__file__).parent
NODE, IOMMU, UNBIND = "/dev/vfio/devices/vfio0", "/dev/iommu", "/sys/bus/pci/drivers/vfio-pci/unbind"


def bound_for_a_vm(kernel: str = "v7.2", topology: str | Topology = "small") -> Machine:
    """From the first open to the bind of a device that a VM is to have."""
    m = Machine(topology, kernel)
    p = m.process("vmm")
    _, kv = vm(p)
    dev, ctx = p.open(NODE), p.open(IOMMU)
    with suppress(KernelError):
        add(p, kv, dev)
    p.ioctl(dev, m.variant.bind_request, m.variant.layout(iommufd=ctx))
    return m


def a_topology_of_ones_own() -> Machine:
    """A bind of a device that no topology here has."""
    return bound_for_a_vm(topology=Topology("mine", (DeviceSpec("card", "0000:09:00.0", 9, can_reset=True),)))


def memory_that_a_device_reaches() -> Machine:
    """An address space, mapped and given back; memory, time, a child, rights given up."""
    m = Machine()
    p = m.process("vmm")
    space = Space(p)
    address = p.mmap(PAGE)
    space.map(address, iova=1 << 20)
    p.memory.write(address, b"hello")
    p.mprotect(address, PAGE, 1)
    m.sleep(250)
    p.fork("child").close(3)
    p.setuid(1000)
    p.exit()
    return m


def a_container() -> Machine:
    """The legacy way."""
    m = Machine("lab")
    p = m.process("vmm")
    group, container = ready(p, 1)
    map_dma(p, container, 0, p.memory.map(PAGE), PAGE)
    p.close(group)
    return m


def two_calls_half_way() -> Machine:
    """A bind and an open of the group, in turns."""
    m = Machine()
    a, b = m.process("a"), m.process("b")
    dev, ctx = a.open(NODE), a.open(IOMMU)
    request = uapi.VfioDeviceBindIommufd(iommufd=ctx)
    binding = a.start("ioctl", dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, request, run=False, thread="A")
    opening = b.start("open", "/dev/vfio/1", run=False, thread="B")
    for turn in range(60):
        (opening if turn % 3 == 1 else binding).step()
    return m


def two_binds_in_turns_to_their_ends() -> Machine:
    """Each effect of a bind may be one that a later edition does not have."""
    m = Machine()
    p = m.process("vmm")
    devices, ctx = [p.open(NODE), p.open(NODE)], p.open(IOMMU)
    calls = [
        p.start(
            "ioctl",
            dev,
            uapi.VFIO_DEVICE_BIND_IOMMUFD,
            uapi.VfioDeviceBindIommufd(iommufd=ctx),
            run=False,
            thread=thread,
        )
        for dev, thread in zip(devices, "AB", strict=True)
    ]
    while [call for call in calls if call.step()]:
        pass
    p.close(devices[0])
    return m


def a_check_taken_out_and_a_failure() -> Machine:
    """The legacy group is open, too; and the first thing that can fail in a call does."""
    m = Machine()
    m.take_out("group_is_closed", "no_device_bound")
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    p.open("/dev/vfio/1")
    m.fail_next(1)
    for _ in range(2):
        with suppress(KernelError):
            bind(p, dev, ctx)
    return m


def an_unplug_that_waits() -> Machine:
    """The driver may not go as long as the device is used, and the one that uses it ends."""
    m = bound_for_a_vm()
    with suppress(Blocked):
        m.process("root").write_file(UNBIND, "0000:01:00.0")
    m.sleep(7000)
    m.processes["vmm"].exit()
    return m


RUNS: dict[str, Callable[[], Machine]] = {
    **{f"bound on {kernel}": partial(bound_for_a_vm, kernel) for kernel in ("v7.2", "v6.6", "v5", "v5r")},
    **{f"bound in {name}": partial(bound_for_a_vm, topology=name) for name in ("lab", "versions")},
    **{
        made.__name__: made
        for made in (
            a_topology_of_ones_own,
            memory_that_a_device_reaches,
            a_container,
            two_calls_half_way,
            two_binds_in_turns_to_their_ends,
            a_check_taken_out_and_a_failure,
            an_unplug_that_waits,
        )
    },
    **MACHINES,
}


def calls_of(m: Machine) -> list[list[str]]:
    """Every call with its process, its name and how it ended."""
    return [
        [call.process.name, call.name, getattr(call.error, "name", "") or str(call.result), call.state]
        for call in m.calls
    ]


def write() -> None:
    """What today's code writes of all these runs, and the file of a reader who has answered two questions."""
    runs: dict[str, Any] = {}
    for name, made in RUNS.items():
        m = made()
        if text := m.trace.replay:  # "" for what an edition could not tell as yet
            runs[name] = {"text": text, "calls": calls_of(m)}
    edition = next(iter(runs.values()))["text"].partition(":")[0]
    with TemporaryDirectory() as folder:
        os.environ[VARIABLE] = f"{folder}/progress.json"
        for name, right in (("held", False), ("held", True), ("twice", False)):
            Progress().record(name, right)
        progress = Path(folder, "progress.json").read_text()
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run)}" for name, run in runs.items())
    (FILES / f"{edition}.json").write_text(f'{{\n "runs": {{\n{lines}\n }},\n "progress": {json.dumps(progress)}\n}}\n')
