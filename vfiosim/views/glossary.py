"""What the words of a picture mean: each in one sentence, with the kernel's file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ..engine.objects import KObject
from ..trace import Trace

PHASES = {
    "validate": "Checks whether the call may go on. It comes again for what a lock guards.",
    "block": "Keeps others out, or waits until nobody is in the way.",
    "lock": "Takes a lock: what it guards nobody else changes until the lock is given back; that is of this phase, too.",
    "acquire": "Takes references: what is counted here cannot go away while it is needed. A call takes one of its file first.",
    "publish": "Makes the result visible to others: from here on they can find it and use it.",
    "release": "Gives back what is no longer needed, as a close does; a call its reference to its file, last of all.",
    "unwind": "After a refusal: gives back what was taken, in reverse order.",
}

# Where the kernel declares what has the name of a kind of object; the sentence about it is that of its class here.
FILES = {
    "cdev": "include/linux/cdev.h",
    "device": "include/linux/device.h",
    "driver_private": "drivers/base/base.h",
    "eventfd": "fs/eventfd.c",
    "fds": "include/linux/fdtable.h",
    "file": "include/linux/fs.h",
    "inode": "include/linux/fs.h",
    "iommu_group": "drivers/iommu/iommu.c",
    "iommufd_access": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_attach": "drivers/iommu/iommufd/device.c",
    "iommufd_ctx": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_device": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_fault": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_group": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_hwpt_nested": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_hwpt_paging": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_ioas": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_object": "include/linux/iommufd.h",
    "iommufd_vdevice": "include/linux/iommufd.h",
    "iommufd_veventq": "drivers/iommu/iommufd/iommufd_private.h",
    "iommufd_viommu": "include/linux/iommufd.h",
    "iopt_area": "drivers/iommu/iommufd/io_pagetable.h",
    "iopt_pages": "drivers/iommu/iommufd/io_pagetable.h",
    "kvm": "include/linux/kvm_host.h",
    "kvm_device": "include/linux/kvm_host.h",
    "kvm_vfio": "virt/kvm/vfio.c",
    "mm_struct": "include/linux/mm_types.h",
    "socket": "include/linux/net.h",
    "user_struct": "include/linux/sched/user.h",
    "vfio_container": "drivers/vfio/container.c",
    "vfio_device": "include/linux/vfio.h",
    "vfio_device_file": "drivers/vfio/vfio.h",
    "vfio_device_set": "include/linux/vfio.h",
    "vfio_dma": "drivers/vfio/vfio_iommu_type1.c",
    "vfio_domain": "drivers/vfio/vfio_iommu_type1.c",
    "vfio_group": "drivers/vfio/vfio.h",
    "vfio_iommu": "drivers/vfio/vfio_iommu_type1.c",
    "vfio_iommu_driver": "drivers/vfio/container.c",
    "vfio_pci_core_device": "include/linux/vfio_pci_core.h",
    "vfio_pci_vf_token": "drivers/vfio/pci/vfio_pci_priv.h",
}
TAG = "v7.2"
THREAD = "A call that runs: what it uses it holds until it returns."


def glossary(words: Iterable[str]) -> dict[str, Any]:
    """By each of these kinds and phases what it `says`, and where there is one the kernel's `file` with a `link`."""
    known = {**_sentences(), **PHASES, "thread": THREAD}
    return {word: {"says": known[word], **_where(word)} for word in dict.fromkeys(words) if word in known}


def come_again(trace: Trace) -> Iterator[bool]:
    """For each step: is it of a phase that its call has had before, with another one in between?"""
    had: dict[tuple[str, int], list[str]] = {}
    for step in trace:
        phases = had.setdefault((step.thread, step.call), [step.phase])
        if phases[-1] != step.phase:
            phases.append(step.phase)
        yield phases.count(step.phase) > 1


def kernel_link(file: str, tag: str) -> str:
    """The address of a file of the kernel at a tag; "" without a file."""
    tree = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/"
    return f"{tree}{file}?h={tag}" if file else ""


def _where(word: str) -> dict[str, str]:
    return {"file": FILES[word], "link": kernel_link(FILES[word], TAG)} if word in FILES else {}


@cache
def _sentences() -> dict[str, str]:
    """The first sentence of what the class of each kind says about itself."""
    found: dict[str, str] = {}
    for one in _below(KObject):
        text = " ".join((inspect.getdoc(one) or "").split("\n\n")[0].split())
        if text and one.__module__.startswith("vfiosim.kernel."):
            found.setdefault(one.kind, text)
    return found


def _below(kind: type[KObject]) -> Iterator[type[KObject]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
