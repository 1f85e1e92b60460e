"""The kvm-vfio device: tells VFIO files which VM they belong to (virt/kvm/vfio.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import *
from ...uapi import Errno
from ..fs.file import File, fget, fput, private
from ..vfio.group import vfio_group_fops, vfio_group_set_kvm
from ..vfio.vfio_main import vfio_device_file_set_kvm, vfio_device_fops
from .kvm import Kvm, KvmDevice, KvmDeviceOps, KvmVfio
from .kvm_main import kvm_register_device_ops

LISTED = "in its list"


async def vfio_of(device: KvmDevice) -> KvmVfio:
    """The kvm-vfio part of a KVM device."""
    kv = await load(device.private)
    assert kv is not None
    return kv


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_file_set_kvm(file: File, kvm: Kvm | None) -> None:
    """Tell a VFIO file which VM it belongs to, or that it belongs to none."""
    if file.f_op is vfio_group_fops:
        await vfio_group_set_kvm(await private(file), kvm)
    else:
        await vfio_device_file_set_kvm(file, kvm)


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_file_add(device: KvmDevice, number: int) -> None:
    """ADD: EBADF, EINVAL for a file that is not of VFIO, EEXIST if it is listed."""
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with cleanup(fput, file):
        of_vfio = file.f_op in (vfio_device_fops, vfio_group_fops)
        await refuse_if(not of_vfio, Errno.EINVAL, "file_of_vfio", f"{file.label} is no file of VFIO")
        kv = await vfio_of(device)
        async with kv.lock:
            files = await load(kv.file_list)
            await refuse_if(file in files, Errno.EEXIST, "not_listed_yet", f"{file.label} is in the list already")
            say(Phase.ACQUIRE, "{} is listed: the list holds the file, the file knows its VM.", file)
            await get(file.f_ref, kv, LISTED)
            await store(kv.file_list, (*files, file))
            await kvm_vfio_file_set_kvm(file, device.kvm)


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_file_free(kv: KvmVfio, file: File) -> None:
    """Forget one file: first it forgets its VM, then the list lets go of it."""
    say(Phase.RELEASE, "{} is taken off the list and forgets its VM; what a BIND has taken stays taken.", file)
    await kvm_vfio_file_set_kvm(file, None)
    await fput(file, kv, LISTED)
    await store(kv.file_list, tuple(f for f in await load(kv.file_list) if f is not file))


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_file_del(device: KvmDevice, number: int) -> None:
    """DEL: EBADF, ENOENT if the file is not listed."""
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with cleanup(fput, file):
        kv = await vfio_of(device)
        async with kv.lock:
            listed = file in await load(kv.file_list)
            await refuse_if(not listed, Errno.ENOENT, "file_is_listed", f"{file.label} is not in the list")
            await kvm_vfio_file_free(kv, file)


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_set_attr(device: KvmDevice, group: int, attr: int, address: int) -> None:
    """Add a file to the list or take one off; the number of its descriptor is at `address`. ENXIO, EFAULT."""
    await kvm_vfio_has_attr(device, group, attr)
    number = int.from_bytes(await copy_from_user(address, 4), "little", signed=True)
    if attr == uapi.KVM_DEV_VFIO_FILE_ADD:
        await kvm_vfio_file_add(device, number)
    else:
        await kvm_vfio_file_del(device, number)


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_has_attr(device: KvmDevice, group: int, attr: int) -> None:
    """Is there such an attribute? ENXIO if not."""
    known = group == uapi.KVM_DEV_VFIO_FILE and attr in (uapi.KVM_DEV_VFIO_FILE_ADD, uapi.KVM_DEV_VFIO_FILE_DEL)
    await refuse_if(not known, Errno.ENXIO, "attribute_known", "kvm-vfio has no such attribute")


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_release(device: KvmDevice) -> None:
    """Forget all files; under the VM's lock."""
    kv = await vfio_of(device)
    for file in await load(kv.file_list):
        await kvm_vfio_file_free(kv, file)
    await free(kv)
    await free(device)


@kernel("virt/kvm/vfio.c")
async def kvm_vfio_create(device: KvmDevice) -> None:
    """A new list of files; EBUSY if the VM has one. Under the VM's lock."""
    others = await load(device.kvm.devices)
    second = any(other.ops is kvm_vfio_ops for other in others)
    await refuse_if(second, Errno.EBUSY, "one_for_each_vm", "the VM has a kvm-vfio device already")
    await store(device.private, await alloc(KvmVfio))


kvm_vfio_ops = KvmDeviceOps(
    "kvm-vfio", create=kvm_vfio_create, release=kvm_vfio_release, set_attr=kvm_vfio_set_attr, has_attr=kvm_vfio_has_attr
)
kvm_register_device_ops(kvm_vfio_ops, uapi.KVM_DEV_TYPE_VFIO)
