"""A hazard of modules: the code of a driver goes while somebody still needs it."""

from __future__ import annotations

from ..kernel.vfio.vfio_main import vfio_device_release, vfio_put_device
from ..machine import Machine
from ..topology import DeviceSpec, Topology
from .changed import changed
from .programs import IOMMU, NODE, bind
from .puzzle import Puzzle, can_end

ONE_CARD = Topology("one card", (DeviceSpec("nic", "0000:01:00.0", 1, model="a network card alone in its group"),))


def _program_and_admin(trace: bool = True) -> Machine:
    machine = Machine(ONE_CARD, trace=trace)
    machine.process("vmm").open(IOMMU)
    machine.process("admin")
    return machine


@changed(vfio_device_release)
def tell_instead_of_freeing() -> None:
    """The memory itself is left to the driver, which is told that all has run.

    `comp` is used a second time: the driver has taken the signal that nobody has the device open.

    - await free(device)
    + await complete(device.comp)
    """


@changed(vfio_put_device)
def put_and_wait() -> None:
    """Wait until the last one has let go, and free the memory then.

          await vfio_device_release(device)
    + await wait_for(device.comp)
    + await free(device)
    """


# The protections are the module's reference of an open device (`try_module_get` at the first open: "open"), for which rmmod is
# refused, and the registration of an open file ("an open file"), for which the driver waits. Neither covers what comes after a
# file has let go of the registration: the put of its node. That a running 7.2 falls over there was never seen; it is read in
# the source.
R24 = Puzzle(
    name="R24",
    title="the driver's module is unloaded",
    story="The administrator unloads the driver's module. It is in use while the device is open, and the driver waits for open "
    "files. But a file lets go of its registration first and of its node afterwards. By then the driver may be gone, and who "
    "puts the last reference calls ops->release, a function of the module that is no longer there. So read in the source; "
    "nobody saw it happen.",
    setup=_program_and_admin,
    calls={
        "A": [("admin", "rmmod", "vfio-pci")],
        "B": [("vmm", "open", NODE), bind("vmm", dev=4, ctx=3), ("vmm", "close", 4)],
    },
    properties=(
        can_end("the device is bound, so the module is in use: EAGAIN", A="EAGAIN", B="4, 0, 0"),
        can_end("the node is open, and the unloading waits until it is closed", A="0", B="4, ENODEV, 0"),
        can_end("the device is closed again before the module is unloaded", A="0", B="4, 0, 0"),
        can_end("the driver has begun to leave, the open is refused", A="0", B="ENODEV, EBADF, EBADF"),
        can_end("the node is gone before it is looked up", A="0", B="ENOENT, EBADF, EBADF"),
    ),
    fixes={"vfio_device_release": tell_instead_of_freeing, "vfio_put_device": put_and_wait},
    without=("an open file",),
    happens="use after free: B",
    shortest=(89, 82),
    source="kernel/module/main.c: delete_module; drivers/vfio/vfio_main.c: vfio_device_release; fs/char_dev.c: cdev_put (v7.2)",
)

PUZZLES = (R24,)
