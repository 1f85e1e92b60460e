"""Rooms about the reference to a virtual machine: taken too early, put too often, put under the wrong lock."""

from __future__ import annotations

from .. import uapi
from ..engine import get, load, next_slot, refuse_if, xa_load
from ..kernel.kvm.kvm import Kvm
from ..kernel.kvm.kvm_main import kvm_device_release, kvm_put_kvm
from ..kernel.vfio.group import vfio_group_set_kvm
from ..kernel.vfio.vfio import Vfio, VfioDevice
from ..machine import Machine
from ..puzzles import PUZZLES
from ..puzzles.changed import changed
from ..puzzles.programs import GROUP, IOMMU, NODE, NUMBER_AT, bind, list_file, make, new_vm
from ..uapi import Errno
from .kvm_requirements import GROUP_AND_VM, LISTED_ONCE, ONE_CONSOLE, SECOND_BIND
from .room import Room

# ---- the failed second bind


def bound_for_a_vm(trace: bool = True) -> Machine:
    """A device bound for a VM through descriptor 5, opened again as 7, and as 10 for another VM; 6 is the iommufd."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    _vm, kv = new_vm(vmm)  # 4 and 3
    dev, ctx = vmm.open(NODE), vmm.open(IOMMU)
    list_file(vmm, kv, dev)
    make(machine, bind("vmm", dev, ctx))
    vmm.open(NODE)
    _vm, kv = new_vm(vmm)  # 9 and 8
    list_file(vmm, kv, vmm.open(NODE))
    return machine


# ---- the reference before the check


def two_consoles_for_one_vm(trace: bool = True) -> Machine:
    """Two emulated devices of one VM, descriptors 5 and 6; 7 is an iommufd; the number 5 lies at NUMBER_AT."""
    machine = Machine("lab", trace=trace)
    vmm = machine.process("vmm")
    _vm, kv = new_vm(vmm)
    first, second = vmm.open("/dev/vfio/devices/vfio8"), vmm.open("/dev/vfio/devices/vfio9")
    vmm.open(IOMMU)
    for dev in (first, second):
        list_file(vmm, kv, dev)
    vmm.memory.map(4, first.to_bytes(4, "little"), address=NUMBER_AT)
    return machine


async def another_device_of(vfio: Vfio, device: VfioDevice, kvm: Kvm) -> bool:
    """Does the VM have another open device of this kind? (What `__kvmgt_vgpu_exist` looked for.)"""
    async with vfio.group_lock:
        number = await next_slot(vfio.group_list, 0)
        while number is not None:
            group = await xa_load(vfio.group_list, number)
            others = await load(group.device_list) if group is not None else ()
            for other in others:
                if other is not device and other.ops is device.ops and await load(other.kvm) is kvm:
                    return True
            number = await next_slot(vfio.group_list, number + 1)
    return False


async def mtty_open_device(device: VfioDevice) -> None:
    """The driver takes the VM, then finds that the VM has such a device already, and gives up."""
    kvm = await load(device.kvm)
    if kvm is None:
        return
    await get(kvm.users_count, device, "tracks its pages")
    taken = await another_device_of(device.vfio, device, kvm)
    await refuse_if(taken, Errno.EEXIST, "one_for_each_vm", "the VM has a device of this kind already")


@changed(mtty_open_device)
def check_before_the_reference() -> None:
    """The driver first finds that the VM has no such device, then takes the VM.

    - await get(kvm.users_count, device, "tracks its pages")

      await refuse_if(taken, Errno.EEXIST, "one_for_each_vm", "the VM has a device of this kind already")
    + await get(kvm.users_count, device, "tracks its pages")
    """


async def mtty_close_device(device: VfioDevice) -> None:
    """The driver gives the VM back."""
    kvm = await load(device.kvm)
    if kvm is not None:
        await kvm_put_kvm(kvm, device, "tracks its pages")


# ---- the last put under the group's lock


def group_of_a_vm(trace: bool = True) -> Machine:
    """A group of a VM with a device open through it: 4 the VM, 3 kvm-vfio, 5 the group, 6 the iommufd, 7 the device."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    _vm, kv = new_vm(vmm)
    group, ctx = vmm.open(GROUP), vmm.open(IOMMU)
    list_file(vmm, kv, group)
    container = vmm.memory.map(4, ctx.to_bytes(4, "little"))
    vmm.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, container)
    vmm.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(b"0000:01:00.0\0"))
    return machine


@changed(kvm_device_release)
def faulty_device_release() -> None:
    """A KVM device outlives its file: it goes with its VM.

    - async with kvm.lock:
    -     await forget_device(kvm, device)
    -     await device.ops.release(device)
    """


@changed(kvm_put_kvm)
def faulty_put_kvm() -> None:
    """Let go of a VM; the last one destroys it, and with it its devices.

    + for device in await load(kvm.devices):
    +     async with kvm.lock:
    +         await forget_device(kvm, device)
    +         await device.ops.release(device)
      await kvm_destroy_vm(kvm)
    """


@changed(vfio_group_set_kvm)
def faulty_group_set_kvm() -> None:
    """Note which VM the group belongs to; what the group knows is guarded by the group's lock.

    - async with group.kvm_ref_lock:
    + async with group.group_lock:
    """


# ---- the list that is used too long

ON_AND_OFF = PUZZLES["R8"]


ROOMS = (
    Room(
        name="failed-second-bind",
        title="The failed second bind",
        symptom="A program has bound a device for its VM. It opens the node once more and tries BIND on that file"
        " too: EINVAL, as it should be. Later the VM goes away although the device is still in use, or it"
        " never goes away at all.",
        lesson="A call that fails gives back what it took, and nothing else: another call's reference may be in the same place.",
        alive=True,
        setup=bound_for_a_vm,
        calls={"A": [bind("vmm", dev, 6) for dev in (7, 10)]},
        properties=("binding_keeps_its_vm", "vm_is_counted_by_who_points_to_it"),
        happens="a failed bind through another file gave it away",
        must_still_work=SECOND_BIND,
        repair=PUZZLES["R13"].fixes,
        recordings=("j-failed-bind-putkvm", "j-failed-bind-two-vms", "j-failed-bind-mdev", "j-failed-bind-second-only"),
        links=(
            "kvm list, 28 June 2024: vfio: Get/put KVM only for the first/last vfio_df_open/close in cdev path "
            "(message 20240628151845.22166-1)",
        ),
    ),
    Room(
        name="reference-before-check",
        title="The reference before the check",
        symptom="A driver for virtual graphics cards allowed one card for each VM. An open of a second card was refused with"
        " EEXIST, and from then on the VM could never be destroyed. That driver is not modelled: here the"
        " emulated serial port makes the same mistake.",
        lesson="A failed open is never closed: check first, take the reference afterwards, or give it back yourself.",
        alive=False,
        setup=two_consoles_for_one_vm,
        calls={"A": [bind("vmm", dev, 7) for dev in (5, 6)]},
        properties=(),
        happens="kvm 1 lives on",
        must_still_work=ONE_CONSOLE,
        faulty={"mtty_open_device": mtty_open_device, "mtty_close_device": mtty_close_device},
        repair={"mtty_open_device": check_before_the_reference},
        recordings=("j-failed-bind-mdev",),  # not for the bug: it counts VMs, and there a serial port holds none
        links=("commit 7df4e810, November 2022: drm/i915/gvt, reference to KVM iff attachment to VM is successful",),
    ),
    Room(
        name="list-used-too-long",
        title="The list that is used too long",
        symptom=ON_AND_OFF.story,
        lesson="After the lock is given back, what was found under it must not be used any more.",
        alive=False,
        setup=ON_AND_OFF.setup,
        calls=ON_AND_OFF.calls,
        properties=("known_vm_lists_the_file", *ON_AND_OFF.properties),
        happens="use after free: A touches vfio_device_file 1",
        must_still_work=LISTED_ONCE,
        faulty=ON_AND_OFF.faulty,
        links=(
            "commit 9e0f4f2918c2, merged for 6.6: kvm/vfio: ensure kvg instance stays around in kvm_vfio_group_add() "
            "https://git.kernel.org/linus/9e0f4f2918c2",
        ),
    ),
    Room(
        name="last-put-under-the-lock",
        title="The last put under the lock",
        symptom="A program closes the descriptors of its VM first and that of its device last. The last close "
        "never returns.",
        lesson="The thread that puts the last reference runs the destructor, with all the locks that it holds.",
        alive=False,
        setup=group_of_a_vm,
        calls={"A": [("vmm", "close", 3), ("vmm", "close", 4), ("vmm", "close", 7)]},
        properties=(),
        happens="held by itself",
        must_still_work=GROUP_AND_VM,
        faulty={
            "kvm_device_release": faulty_device_release,
            "kvm_put_kvm": faulty_put_kvm,
            "vfio_group_set_kvm": faulty_group_set_kvm,
        },
        links=(
            "commit 51cdc8bc120e, January 2023: kvm/vfio: Fix potential deadlock on vfio group_lock "
            "https://git.kernel.org/linus/51cdc8bc120e",
        ),
    ),
)
