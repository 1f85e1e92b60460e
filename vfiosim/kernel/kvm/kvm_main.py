"""/dev/kvm, virtual machines and their devices (virt/kvm/kvm_main.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError, request_names
from ..fs.eventfd import noop_llseek
from ..fs.file import (
    O_CLOEXEC,
    O_RDWR,
    File,
    FileOperations,
    Mapping,
    fd_install,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from ..fs.syscalls import alloc_file
from ..regions import Sparse
from ..task import TaskStruct, current_task, mm_of
from ..unsupported import Unsupported
from .check_extension import kvm_vm_ioctl_check_extension_generic
from .kvm import VCPU_MMAP_SIZE, Kvm, KvmDevice, KvmDeviceOps, KvmVcpu

ITS_FILE = "its file"
KVM_MAX_VCPUS, KVM_MAX_VCPU_IDS = 1024, 4096
KVM_RUN = 0xAE80
XSAVE_OF_GUESTS = 0x207  # of the recorded machine
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_DEVICE_OPS: dict[int, KvmDeviceOps] = {}


def kvm_register_device_ops(ops: KvmDeviceOps, type_number: int) -> None:
    """Make a type of device known to KVM_CREATE_DEVICE."""
    KVM_DEVICE_OPS[type_number] = ops


@kernel("virt/kvm/kvm_main.c")
async def kvm_destroy_vm(kvm: Kvm) -> None:
    """Nobody holds the VM any more."""
    say(Phase.RELEASE, "Nobody holds {} any more: it is destroyed.", kvm)
    for number in await slots_of(kvm.vcpu_array):
        vcpu = await xa_store(kvm.vcpu_array, int(number), None)
        assert vcpu is not None
        await free(vcpu)
    await free(kvm)


@kernel("virt/kvm/kvm_main.c")
async def kvm_get_kvm_safe(kvm: Kvm, holder: KObject, reason: str) -> bool:
    """Hold a VM unless it is dying."""
    return await get_unless_zero(kvm.users_count, holder, reason)


@kernel("virt/kvm/kvm_main.c")
async def kvm_put_kvm(kvm: Kvm, holder: KObject, reason: str) -> None:
    """Let go of a VM; the last one destroys it."""
    if await put(kvm.users_count, holder, reason):
        await kvm_destroy_vm(kvm)


@kernel("virt/kvm/kvm_main.c")
async def kvm_vm_release(file: File) -> None:
    """The VM's file is gone; the VM goes only when its devices' files and all devices bound for it are gone too."""
    kvm: Kvm = await private(file)
    say(Phase.RELEASE, "{} loses its file.", kvm)
    await kvm_put_kvm(kvm, file, ITS_FILE)


async def refuse_other_address_space(kvm: Kvm) -> None:
    """A VM and its devices can only be used from the address space that made them (EIO)."""
    task = current().process
    foreign = not isinstance(task, TaskStruct) or await load(task.mm) is not kvm.mm
    await refuse_if(foreign, Errno.EIO, "same_address_space", "a VM can only be used by the process that made it")


@kernel("virt/kvm/kvm_main.c")
async def kvm_vcpu_mmap(file: File, wish: Mapping) -> Sparse:
    """What a virtual CPU tells its program, and what is written to ports: the mapping holds the file, and so the VM."""
    vcpu: KvmVcpu = await private(file)
    return vcpu.run


@kernel("virt/kvm/kvm_main.c")
async def kvm_vcpu_release(file: File) -> None:
    """A virtual CPU loses its file; it ends with its VM."""
    vcpu: KvmVcpu = await private(file)
    await kvm_put_kvm(vcpu.kvm, file, ITS_FILE)


async def vcpu_file(vcpu: KvmVcpu) -> int:
    """The file of a virtual CPU, which holds the VM (`create_vcpu_fd`)."""
    number = await get_unused_fd_flags(O_CLOEXEC)
    async with on_failure(put_unused_fd, number):
        file = await alloc_file("kvm-vcpu", kvm_vcpu_fops, O_RDWR)
    await get(vcpu.kvm.users_count, file, ITS_FILE)
    await store(file.private_data, vcpu)
    await fd_install(number, file)
    return number


@kernel("virt/kvm/kvm_main.c")
async def kvm_vm_ioctl_create_vcpu(kvm: Kvm, number: int) -> int:
    """KVM_CREATE_VCPU: EINVAL (number, too many), EEXIST, EMFILE."""
    async with kvm.lock:
        many = not 0 <= number < KVM_MAX_VCPU_IDS or len(await slots_of(kvm.vcpu_array)) >= KVM_MAX_VCPUS
        await refuse_if(
            many, Errno.EINVAL, "vcpu_number_known", f"a VM has {KVM_MAX_VCPUS} CPUs, below {KVM_MAX_VCPU_IDS}"
        )
        known = await xa_load(kvm.vcpu_array, number) is not None
        await refuse_if(known, Errno.EEXIST, "vcpu_is_new", f"the VM has a CPU of number {number}")
        vcpu = await alloc(KvmVcpu, kvm)
        async with on_failure(free, vcpu):
            descriptor = await vcpu_file(vcpu)
        await xa_store(kvm.vcpu_array, number, vcpu)
    return descriptor


@kernel("virt/kvm/kvm_main.c")
async def kvm_vcpu_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a virtual CPU. EIO from another process, EINVAL for requests of others; those of KVM would run it."""
    vcpu: KvmVcpu = await private(file)
    await refuse_other_address_space(vcpu.kvm)
    await refuse_if(cmd >> 8 & 0xFF != uapi.KVMIO, Errno.EINVAL, "request_of_kvm", "this is no request of KVM")
    runs = cmd == KVM_RUN and argument != 0
    await refuse_if(runs, Errno.EINVAL, "run_without_argument", "KVM_RUN takes no argument")
    known = request_names(cmd)
    if cmd in (uapi.KVM_SET_DEVICE_ATTR, uapi.KVM_GET_DEVICE_ATTR, uapi.KVM_HAS_DEVICE_ATTR):
        attr = uapi.KvmDeviceAttr.from_buffer_copy(await copy_from_user(argument, sizeof(uapi.KvmDeviceAttr)))
        other = attr.group != 0 or attr.attr != 0
        await refuse_if(other, Errno.ENXIO, "vcpu_has_attribute", "the one attribute is the offset of its clock")
        if cmd == uapi.KVM_GET_DEVICE_ATTR:
            await copy_to_user(attr.addr, bytes(8))
            raise Unsupported("what the clock of a virtual CPU shows")
        if cmd == uapi.KVM_SET_DEVICE_ATTR:
            await copy_from_user(attr.addr, 8)  # the clock is nobody's here
        return 0
    if known:
        await refuse_if(True, Errno.EINVAL, "vcpu_knows_request", "a virtual CPU has no such request")
    raise Unsupported(f"{' or '.join(known) or hex(cmd)} on a virtual CPU")


@kernel("virt/kvm/kvm_main.c")
async def kvm_device_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on the file of a KVM device. EIO from another process, EFAULT, ENOTTY."""
    device: KvmDevice = await private(file)
    await refuse_other_address_space(device.kvm)
    if cmd == uapi.KVM_GET_DEVICE_ATTR:
        await refuse_if(True, Errno.EPERM, "device_can_tell", "this device has nothing to tell")
    known = cmd in (uapi.KVM_SET_DEVICE_ATTR, uapi.KVM_HAS_DEVICE_ATTR)
    await refuse_if(not known, Errno.ENOTTY, "device_knows_request", "a KVM device has no such request")
    attr = uapi.KvmDeviceAttr.from_buffer_copy(await copy_from_user(argument, sizeof(uapi.KvmDeviceAttr)))
    if cmd == uapi.KVM_SET_DEVICE_ATTR:
        await device.ops.set_attr(device, attr.group, attr.attr, attr.addr)
    else:
        await device.ops.has_attr(device, attr.group, attr.attr)
    return 0


@kernel("virt/kvm/kvm_main.c")
async def kvm_device_release(file: File) -> None:
    """A KVM device ends with its file, not with its VM."""
    device: KvmDevice = await private(file)
    kvm = device.kvm
    say(Phase.RELEASE, "{} is freed together with its file, and so is the list of VFIO files.", device)
    async with kvm.lock:
        await forget_device(kvm, device)
        await device.ops.release(device)
    await kvm_put_kvm(kvm, file, ITS_FILE)


@kernel("virt/kvm/kvm_main.c")
async def kvm_ioctl_create_device(kvm: Kvm, wanted: uapi.KvmCreateDevice) -> None:
    """KVM_CREATE_DEVICE: ENODEV for an unknown type, what the device says (EBUSY), EMFILE; TEST makes nothing."""
    ops = await require(
        KVM_DEVICE_OPS.get(wanted.type),
        Errno.ENODEV,
        "device_type_known",
        "this machine has no KVM device of this type",
    )
    if wanted.flags & uapi.KVM_CREATE_DEVICE_TEST:
        return
    say(Phase.ACQUIRE, "{} gets a device: the list of VFIO files that belong to it.", kvm)
    device = await alloc(KvmDevice, kvm, ops)
    async with kvm.lock:
        async with on_failure(free, device):
            await ops.create(device)
        await store(kvm.devices, (*await load(kvm.devices), device))
    try:
        wanted.fd = await device_file(device)
    except KernelError:
        async with kvm.lock:
            await forget_device(kvm, device)
            await ops.release(device)
        raise


async def device_file(device: KvmDevice) -> int:
    """The file of a new KVM device, which holds the VM (`anon_inode_getfd`)."""
    number = await get_unused_fd_flags(O_CLOEXEC)
    async with on_failure(put_unused_fd, number):
        file = await alloc_file(device.ops.name, kvm_device_fops, O_RDWR)
    await get(device.kvm.users_count, file, ITS_FILE)
    await store(file.private_data, device)
    say(Phase.PUBLISH, "Descriptor {} now leads to {}, which holds the VM too.", number, file)
    await fd_install(number, file)
    return number


async def forget_device(kvm: Kvm, device: KvmDevice) -> None:
    """Take a device out of the VM's list; under its lock."""
    await store(kvm.devices, tuple(d for d in await load(kvm.devices) if d is not device))


@kernel("virt/kvm/kvm_main.c")
async def kvm_vm_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a VM's file."""
    kvm: Kvm = await private(file)
    await refuse_other_address_space(kvm)
    if cmd == uapi.KVM_CREATE_DEVICE:
        size = sizeof(uapi.KvmCreateDevice)
        wanted = uapi.KvmCreateDevice.from_buffer_copy(await copy_from_user(argument, size))
        await kvm_ioctl_create_device(kvm, wanted)
        await copy_to_user(argument, bytes(wanted))  # if this fails, device and descriptor stay
        return 0
    if cmd == uapi.KVM_CHECK_EXTENSION:
        return await kvm_vm_ioctl_check_extension_generic(argument)
    if cmd == uapi.KVM_CREATE_VCPU:
        return await kvm_vm_ioctl_create_vcpu(kvm, argument)
    await refuse_if(True, Errno.ENOTTY, "vm_knows_request", f"a VM has no request {cmd:#x}")
    return 0


@kernel("virt/kvm/kvm_main.c")
async def kvm_dev_ioctl_create_vm(type_number: int) -> int:
    """KVM_CREATE_VM: a new VM behind a new file. EMFILE, EINVAL for a type that this machine does not have."""
    number = await get_unused_fd_flags(O_CLOEXEC)
    async with on_failure(put_unused_fd, number):
        await refuse_if(type_number != 0, Errno.EINVAL, "vm_type_known", "this machine only has VMs of type 0")
        say(Phase.ACQUIRE, "A new VM is born; its file holds it.")
        kvm = await alloc(Kvm, await mm_of(current_task()))
        async with on_failure(kvm_destroy_vm, kvm):
            file = await alloc_file("kvm-vm", kvm_vm_fops, O_RDWR)
        await get(kvm.users_count, file, ITS_FILE)
        await store(file.private_data, kvm)
    say(Phase.PUBLISH, "Descriptor {} now leads to {}.", number, file)
    await fd_install(number, file)
    return number


@kernel("virt/kvm/kvm_main.c")
async def kvm_dev_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on /dev/kvm."""
    if cmd == uapi.KVM_CREATE_VM:
        return await kvm_dev_ioctl_create_vm(argument)
    if cmd == uapi.KVM_GET_API_VERSION:
        await refuse_if(argument != 0, Errno.EINVAL, "no_argument", "KVM_GET_API_VERSION takes no argument")
        return uapi.KVM_API_VERSION
    if cmd == uapi.KVM_CHECK_EXTENSION:
        return await kvm_vm_ioctl_check_extension_generic(argument)
    if cmd == KVM_GET_VCPU_MMAP_SIZE:
        await refuse_if(argument != 0, Errno.EINVAL, "no_argument", "KVM_GET_VCPU_MMAP_SIZE takes no argument")
        return VCPU_MMAP_SIZE
    asks = cmd in (uapi.KVM_GET_DEVICE_ATTR, uapi.KVM_HAS_DEVICE_ATTR)
    await refuse_if(not asks, Errno.EINVAL, "kvm_knows_request", "/dev/kvm has no such request")
    attr = uapi.KvmDeviceAttr.from_buffer_copy(await copy_from_user(argument, sizeof(uapi.KvmDeviceAttr)))
    known = not attr.group and not attr.attr
    await refuse_if(
        not known, Errno.ENXIO, "kvm_has_attribute", "/dev/kvm has one attribute: what guests can have of XSAVE"
    )
    if cmd == uapi.KVM_GET_DEVICE_ATTR:
        await copy_to_user(attr.addr, XSAVE_OF_GUESTS.to_bytes(8, "little"))
    return 0


kvm_chardev_ops = FileOperations("kvm", unlocked_ioctl=kvm_dev_ioctl, llseek=noop_llseek)
kvm_vm_fops = FileOperations(
    "kvm-vm", release=kvm_vm_release, unlocked_ioctl=kvm_vm_ioctl, llseek=noop_llseek, stream=True
)
kvm_vcpu_fops = FileOperations(
    "kvm-vcpu",
    release=kvm_vcpu_release,
    unlocked_ioctl=kvm_vcpu_ioctl,
    mmap=kvm_vcpu_mmap,
    llseek=noop_llseek,
    stream=True,
)
kvm_device_fops = FileOperations("kvm-device", release=kvm_device_release, unlocked_ioctl=kvm_device_ioctl, stream=True)
