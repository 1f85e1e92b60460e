"""Machines on which the name of a process is used again after that process has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from vfiosim import KernelOops, Machine, Process, uapi
from vfiosim.engine import refuse_if
from vfiosim.uapi import Errno

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"


async def broken(df):
    """A function of somebody's own that kills the process which calls it."""
    await refuse_if(False, Errno.EINVAL, "never", "never")
    raise KernelOops("BUG: the driver went wrong")


PATCHES = {"vfio_df_open": broken}


def ended(end: Callable[[Process], object]) -> tuple[Machine, Process, Process]:
    """The process "q" with memory and an open file, ended, and a second "q" that has both too."""
    m = Machine()
    first = m.process("q")
    first.memory.map(4096, b"the first")
    first.open(IOMMU)
    end(first)
    second = m.process("q")
    second.memory.map(4096, b"the second")
    second.open(NODE)
    return m, first, second


def by_exit() -> Machine:
    """The usual way."""
    return ended(Process.exit)[0]


def by_the_call_then_by_exit() -> Machine:
    """Each of the two ends in another way."""
    m, _, second = ended(lambda process: process.start("exit").value())
    second.exit()
    m.process("q")
    return m


def by_the_call_half_way() -> Machine:
    """The first one is no longer alive, and its last call is still under way."""

    def leave(process: Process) -> None:
        call = process.start("exit", run=False)
        while process.task.alive.value:
            call.step()

    m = ended(leave)[0]
    m.calls[1].run()
    return m


def by_an_oops() -> Machine:
    """The kernel has killed the first one; the second one ends by itself."""

    def die(process: Process) -> None:
        bind = uapi.VfioDeviceBindIommufd(iommufd=3)
        with process.machine.patched(vfio_df_open=broken), suppress(KernelOops):
            process.ioctl(process.open(NODE), uapi.VFIO_DEVICE_BIND_IOMMUFD, bind)

    m, _, second = ended(die)
    second.start("exit").value()
    return m


def by_fork() -> Machine:
    """Parents and children."""
    m, _, parent = ended(Process.exit)
    for name in ("child", "child", "q 2"):
        child = parent.fork(name)
        child.close(3)
        child.exit()
    parent.exit()
    m.process("child").fork("q").open(IOMMU)
    return m


def with_the_name_of_its_thread() -> Machine:
    """The second "q" is made by a thread whose label another one has had."""
    m = Machine()
    m.process("q#2")
    m.process("q").exit()
    m.process("q").open(IOMMU)
    return m


def with_names_that_are_no_variables() -> Machine:
    """Names that a program cannot use as they are, or that it uses for something else."""
    m = Machine()
    for name in ("class", "process_2", "a b", "a b", "class", "range", "suppress", "x y", "m", "Machine", "address_1"):
        process = m.process(name)
        process.memory.map(4096, b"hello")
        process.start("open", IOMMU, run=False).step()
        process.close(process.open(NODE))
        if name in ("a b", "class"):
            m.calls[-3].run()
            process.exit()
    return m


MACHINES = {
    made.__name__: made
    for made in (
        by_exit,
        by_the_call_then_by_exit,
        by_the_call_half_way,
        by_an_oops,
        by_fork,
        with_the_name_of_its_thread,
        with_names_that_are_no_variables,
    )
}
