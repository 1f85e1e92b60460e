"""Hazards around lifetimes: who may still use what, while somebody else takes it away."""

from __future__ import annotations

from functools import partial

from .. import uapi
from ..engine import Engine
from ..invariants.rules import Broken, rule
from ..kernel.kvm.vfio import kvm_vfio_file_add
from ..kernel.vfio.vfio import REGISTERED, VfioDevice
from ..kernel.vfio.vfio_main import vfio_device_fops_release, vfio_unregister_group_dev
from ..machine import Machine
from .changed import changed
from .programs import CTX, DEV, IOMMU, NODE, bind, change_list, give_vm, make, ready_to_bind
from .puzzle import Puzzle, can_end

UNBIND = ("admin", "write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")


# ---- R8


def _has_vm(trace: bool = True) -> Machine:
    machine = ready_to_bind("vmm", trace=trace)
    give_vm(machine.processes["vmm"])
    return machine


@changed(kvm_vfio_file_add)
def add_and_go_on_without_the_lock() -> None:
    """ADD as it was before v6.6: its own reference goes to the list, and the lock is released before the file knows its VM.

    - async with cleanup(fput, file):
    + async with on_failure(fput, file):

    -         await get(file.f_ref, kv, LISTED)
    +         await hand_over(file.f_ref, (current(), "running call"), (kv, LISTED))
              await store(kv.file_list, (*files, file))
    -         await kvm_vfio_file_set_kvm(file, device.kvm)
    + await kvm_vfio_file_set_kvm(file, device.kvm)
    """


# ---- R9 and R10


def _node_and_admin(trace: bool = True) -> Machine:
    machine = Machine("small", trace=trace)
    machine.process("vmm").open(IOMMU)
    machine.process("admin")
    return machine


@rule(VfioDevice, f"vfio_device.refcount ({REGISTERED})", "vfio_device.refcount < 1", "devtmpfs.nodes")
def node_goes_before_the_wait(engine: Engine, device: VfioDevice) -> Broken:
    """A driver that waits until nobody has its device open waits for those only who have found its node already."""
    left = all(reason != REGISTERED for _, reason in device.refcount.held)
    if left and device.refcount.value and device.vfio.devtmpfs.nodes.slots.get(device.path) is not None:
        yield f"the driver of {device.oid} waits until nobody has it open, yet it can be opened: that may never end"


@changed(vfio_unregister_group_dev)
def wait_and_then_delete_the_node() -> None:
    """The driver leaves, and waits while the node is still there.

    - if device.cdev is not None:
    -     await cdev_device_del(device.vfio.devtmpfs, device.path, device.cdev)

      await until_nobody_has_it_open(device)
    + if device.cdev is not None:
    +     await cdev_device_del(device.vfio.devtmpfs, device.path, device.cdev)
    """


def _bound_and_admin(trace: bool = True) -> Machine:
    machine = ready_to_bind("vmm", trace=trace)
    machine.process("admin")
    return make(machine, bind("vmm"))


@changed(vfio_device_fops_release)
def let_go_of_registration_first() -> None:
    """Release of a device file with the puts in the wrong order.

    + await vfio_device_put_registration(df.device, file)
      if df.group is not None:

    - await vfio_device_put_registration(df.device, file)
    """


# ---- R11


PUZZLES = (
    Puzzle(
        name="R8",
        title="on the list and off it",
        story="One thread puts a device file on the list of a VM, another takes it off and closes it. Up to 2023 the first gave "
        "the lock of the list back before it told the file its VM. By then the second may have freed it; or the file knows a VM "
        "and is on no list, so that nobody will ever take that back.",
        setup=_has_vm,
        calls={
            "A": [change_list("vmm", uapi.KVM_DEV_VFIO_FILE_ADD)],
            "B": [change_list("vmm", uapi.KVM_DEV_VFIO_FILE_DEL), ("vmm", "close", DEV)],
        },
        properties=(
            can_end("first on the list, then off it", A="0", B="0, 0"),
            can_end("there is nothing to take off yet", A="0", B="ENOENT, 0"),
            can_end("the file is closed before it gets on the list", A="EBADF", B="ENOENT, 0"),
        ),
        without=("kvm_vfio.lock",),
        faulty={"kvm_vfio_file_add": add_and_go_on_without_the_lock},
        happens="vfio_device_file 1 knows kvm 1, but no kvm-vfio device lists its file",
        shortest=(56, 58),
        source="virt/kvm/vfio.c: kvm_vfio_file_add (v7.2); repaired by commit 9e0f4f2918c2",
    ),
    Puzzle(
        name="R9",
        title="opened while the driver leaves",
        story="The administrator takes the driver from a device while a program opens its node and binds it. The driver waits "
        "for every program that has the device open. If a late open takes a reference although the count is zero, the driver does "
        "not wait for it, and it uses what the driver has freed. And if the node stayed during the wait, the wait might never "
        "end: another program could always open it.",
        setup=_node_and_admin,
        calls={"A": [UNBIND], "B": [("vmm", "open", NODE), bind("vmm", dev=4, ctx=3)]},
        properties=(
            node_goes_before_the_wait,
            can_end("the driver has begun to leave, the open is refused", A="12", B="ENODEV, EBADF"),
            can_end("the node is gone before it is looked up", A="12", B="ENOENT, EBADF"),
            can_end("the node goes after it was looked up", A="12", B="ENXIO, EBADF"),
            can_end("the program is first, and the driver waits for it", A="waits", B="4, 0"),
        ),
        without=("vfio_device.refcount",),
        faulty={"vfio_unregister_group_dev": wait_and_then_delete_the_node},
        happens="use after free: B",
        happens_faulty="that may never end",
        shortest=(86, 46),
        source="drivers/vfio/vfio_main.c: vfio_device_try_get_registration, vfio_unregister_group_dev (v7.2)",
    ),
    Puzzle(
        name="R10",
        title="who leaves last",
        story="A program closes a bound device while the administrator takes the driver from it. The close lets go of the "
        "registration last, when the driver has closed the device. If it came first, the driver would be gone by the time "
        "that the close needs it.",
        setup=_bound_and_admin,
        calls={"A": [("vmm", "close", DEV)], "B": [UNBIND]},
        properties=(can_end("the driver waits for the close, then leaves", A="0", B="12"),),
        faulty={"vfio_device_fops_release": let_go_of_registration_first},
        happens="oops: A reads module through a null pointer",
        shortest=(105,),
        source="drivers/vfio/vfio_main.c: vfio_device_fops_release (v7.2)",
    ),
    Puzzle(
        name="R11",
        title="the iommufd closed first",
        story="One thread binds a device to an iommufd, another closes that iommufd. The binding and the device's object each "
        "hold its file, so the context outlives its descriptor. Without these two references the bind goes on in freed memory.",
        setup=partial(ready_to_bind, "vmm"),
        calls={"A": [("vmm", "close", CTX)], "B": [bind("vmm")]},
        properties=(
            "context_is_held_by_its_objects",
            can_end("the device is bound to an iommufd without descriptor", A="0", B="0"),
            can_end("the iommufd is closed before the bind looks", A="0", B="EBADF"),
        ),
        without=("bound to it", "its context"),
        together=True,
        happens="use after free: B touches iommufd_ctx 1",
        shortest=(57,),
        source="drivers/vfio/device_cdev.c: vfio_df_ioctl_bind_iommufd; iommufd/device.c: iommufd_device_bind (v7.2)",
    ),
)
