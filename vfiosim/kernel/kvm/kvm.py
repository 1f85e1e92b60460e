"""The objects of KVM (include/linux/kvm_host.h, virt/kvm/vfio.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ...engine import *
from ..fs.file import File
from ..regions import PAGE_SIZE, Sparse


@dataclass(frozen=True)
class KvmDeviceOps:
    """What a kind of KVM device does (`struct kvm_device_ops`)."""

    name: str
    create: Callable[[KvmDevice], Awaitable[None]]
    release: Callable[[KvmDevice], Awaitable[None]]
    set_attr: Callable[[KvmDevice, int, int, int], Awaitable[None]]
    has_attr: Callable[[KvmDevice, int, int], Awaitable[None]]


class Kvm(KObject):
    """A virtual machine.

    * born by KVM_CREATE_VM;
    * held by its file, by the files of its devices and virtual CPUs, and by each vfio_device that was bound for it (`users_count`);
    * dies with the last of them, whoever that is.
    """

    kind = "kvm"
    users_count: Count = count()
    lock: Lock = mutex()
    devices: Field[tuple[KvmDevice, ...]] = field((), guard="lock")
    vcpu_array: Table[KvmVcpu] = table(guard="lock")  # by the number that the program gave

    def __init__(self, engine: Engine, mm: KObject) -> None:
        super().__init__(engine)
        self.mm = mm  # only this address space may use it; compared, never followed


VCPU_MMAP_SIZE: Final = 3 * PAGE_SIZE  # bytes of a virtual CPU that a program maps


class KvmVcpu(KObject):
    """A virtual CPU: born by KVM_CREATE_VCPU, found through its file, which holds the VM; dies with the VM. It never runs here."""

    kind = "kvm_vcpu"

    def __init__(self, engine: Engine, kvm: Kvm) -> None:
        super().__init__(engine)
        self.kvm = kvm
        self.run = Sparse(end=VCPU_MMAP_SIZE)


class KvmDevice(KObject):
    """A device of a VM that is made by KVM_CREATE_DEVICE and lives as long as its own file."""

    kind = "kvm_device"
    private: Field[KvmVfio | None] = field(None, link="owns")

    def __init__(self, engine: Engine, kvm: Kvm, ops: KvmDeviceOps) -> None:
        super().__init__(engine)
        self.kvm = kvm
        self.ops = ops


class KvmVfio(KObject):
    """The kvm-vfio device: which VFIO files belong to this VM.

    * holds every file in its list, and tells each which VM it belongs to;
    * forgets them all when its own file is released, not when the VM dies.
    """

    kind = "kvm_vfio"
    lock: Lock = mutex()
    file_list: Field[tuple[File, ...]] = field((), guard="lock")
