"""What kernel code says where a protection has been taken out: not what the protection would be for, but what can happen now."""

from __future__ import annotations

from typing import Final

from ..engine import PROMISES, Promise
from .iommufd.hw_pagetable import HAS_IOAS, UNDER
from .iommufd.iommufd_private import ITS_CONTEXT
from .iommufd.viommu import GUEST_MEMORY
from .kvm.kvm_main import ITS_FILE
from .kvm.vfio import LISTED
from .vfio.container import DEVICE_OPEN, IN_CONTAINER
from .vfio.device_cdev import BINDING
from .vfio.vfio_main import BOUND_FOR

_ORDER: Final = "order of access_granted"

LOCKS: Final = {
    "The lock of {}: nobody can open the group between the check and the count.": (
        "The lock of {} is not taken: it looks whether the group is open without waiting for another call."
    ),
    "The lock of {}: nobody can bind a device of it between the check and the open.": (
        "The lock of {} is not taken: it looks whether a device is bound, or the group open, without waiting for another call."
    ),
    "The lock of {}: it gets a container or an iommufd once.": (
        "The lock of {} is not taken: two calls can give it a container or an iommufd."
    ),
    "The lock of {}: its container or iommufd stays what it is.": (
        "The lock of {} is not taken: its container or iommufd can change meanwhile."
    ),
    "The lock of the device set: nobody else opens, binds or closes a device of this set now.": (
        "The lock of the device set is not taken: others can open, bind or close a device of this set meanwhile."
    ),
    "The lock of the device set, inside the group's: nobody else opens or closes a device of it.": (
        "The lock of the device set is not taken: others can open or close a device of it meanwhile."
    ),
    "The lock of the device set is given back.": "The lock of the device set was not taken, so it is not given back.",
    "The lock of {}: nobody opens or closes a device that is reset.": (
        "The lock of {} is not taken: a device can be opened or closed while it is reset."
    ),
    "The memory lock of {}: nobody uses its BARs while it is switched.": (
        "The memory lock of {} is not taken: its BARs can be used while it is switched."
    ),
    "The lock of {}: one driver comes or goes at a time.": "The lock of {} is not taken: two drivers can come or go at once.",
    "The lock of {}: no group comes or goes now.": "The lock of {} is not taken: groups can come and go meanwhile.",
    "The lock of {}: mappings come and go one at a time.": "The lock of {} is not taken: two mappings can come or go at once.",
    "{} gets everything that is mapped in {}: nothing may change there meanwhile.": (
        "{} gets everything that is mapped in {}. No lock is taken: it can change meanwhile."
    ),
    "The devices of {} agree on one page table: its lock.": "The devices of {} need not agree on one page table: no lock is taken.",
    "All address spaces of {} are locked at once.": "The address spaces of {} are not locked: they can change meanwhile.",
}

OTHERS: Final = {
    "{} is blocked: as long as cdev_device_open_cnt is not zero nobody can open it.": Promise(
        "{} counts one device more as bound through its own node.",
        ("group_lock", "no_device_bound", "vfio_group_fops_open"),
    ),
    "{} is open: no device of it can be bound through its own node now.": Promise(
        "{} is open.",
        ("group_lock", "group_is_closed", "vfio_device_block_group"),
    ),
    "The gate opens: a call that finds the gate open finds the device open, too.": Promise(
        "The gate opens. It may overtake what was written before: a call can find it open, and the device not.",
        (_ORDER,),
    ),
    "The gate of the new file is open before any program can use the file.": Promise(
        "The gate of the new file opens. It may overtake what was written before.", (_ORDER,)
    ),
    "Descriptor {} must be an iommufd; the binding holds its file from now on.": Promise(
        "Descriptor {} must be an iommufd; the binding does not hold its file, which can go before the binding.",
        (BINDING,),
    ),
    "The device gets an object in {} with the lowest free ID; it holds the iommufd open.": Promise(
        "The device gets an object in {} with the lowest free ID; it does not hold the iommufd, which can go first.",
        (ITS_CONTEXT,),
    ),
    "Does this file belong to a VM? If so, the device holds the VM from now on.": Promise(
        "If this file belongs to a VM: the device does not hold the VM, which can go at any time.", (BOUND_FOR,)
    ),
    "The first open: if the group belongs to a VM, the device holds it from now on.": Promise(
        "The first open: if the group belongs to a VM, the device knows it and does not hold it.", (BOUND_FOR,)
    ),
    "{} becomes the owner of the group's DMA; until ATTACH the DMA is blocked.": Promise(
        "{} takes the DMA of the group; another one may take it as well.", ("iommu_group.mutex",)
    ),
    "{} owns the group's DMA already; owner_cnt counts one device more.": Promise(
        "The group's DMA has an owner, {} or another one; owner_cnt counts one device more.",
        ("dma_owner_is_same", "iommu_group.mutex"),
    ),
    "{} itself becomes the one owner of the DMA of {}, for all its devices.": Promise(
        "{} takes the DMA of {}, for all its devices; another one may have it, too.",
        ("dma_unowned", "iommu_group.mutex"),
    ),
    "The open device holds the file of {}: the group stays open, and in its container.": Promise(
        "The open device does not hold the file of {}: the group can be closed under it.", (DEVICE_OPEN,)
    ),
    "{} is in the container, which it holds from now on.": Promise(
        "{} is in the container and does not hold it: the container can go first.", (IN_CONTAINER,)
    ),
    "{} is listed: the list holds the file, the file knows its VM.": Promise(
        "{} is listed: the list does not hold the file, which can go first; the file knows its VM.", (LISTED,)
    ),
    "A new VM is born; its file holds it.": Promise("A new VM is born; its file does not hold it.", (ITS_FILE,)),
    "A virtual IOMMU takes the lowest free ID of {} and holds {}.": Promise(
        "A virtual IOMMU takes the lowest free ID of {}; it does not hold {}, which can go first.", (GUEST_MEMORY,)
    ),
    "A new page table takes the lowest free ID of {} and holds {}.": Promise(
        "A new page table takes the lowest free ID of {}; it does not hold {}, which can go first.", (HAS_IOAS,)
    ),
    "{} is a table of a guest; it holds {}.": Promise(
        "{} is a table of a guest; it does not hold {}, which can go first.", (UNDER,)
    ),
}

PROMISES.update({sentence: Promise(without) for sentence, without in LOCKS.items()} | OTHERS)
