"""Where Linux v7.2 defines the functions that are mirrored here: `python -m tests.kernel_order TREE` looks it up in its source.

The answer is kept in `kernel_order.json`, by file: name and line, in the kernel's order.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import vfiosim.lab  # noqa: F401  (all that there is has to be loaded)
from vfiosim.engine.functions import FUNCTIONS

FACTS = Path(__file__).with_suffix(".json")

# A function that the kernel has under another name, in the same file.
KERNEL_NAME = {
    "iommufd_veventq_fops_poll": "iommufd_eventq_fops_poll",  # faults and events each have one here
    "mdev_remove_store": "remove_store",  # pci-sysfs.c has a function of the same name
    "mtty_close_device": "mtty_close",
    "get_user_u32": "get_user",  # a macro for numbers of any size
    "param_set_uint": "STANDARD_PARAM_DEF",  # a macro makes it
    "dma_cleanup": "pci_dma_cleanup",
    "vfio_pci_core_ioread": "VFIO_IOREAD",  # macros make one for each size
    "vfio_pci_core_iowrite": "VFIO_IOWRITE",
    "iommu_group_for": "iommu_group_alloc",  # with what a bus asks before
    "shmem_release": "shmem_evict_inode",
    "shmem_mmap": "shmem_mmap_prepare",
    "sysfs_open": "kernfs_fop_open",
    "proc_fdinfo": "seq_show",
    "list_directory": "iterate_dir",
    "read_link": "do_readlinkat",
    "mode_of": "vfs_fstatat",
    "sysfs_kf_bin_rw": "sysfs_kf_bin_read",  # and sysfs_kf_bin_write, which does the same the other way
    "drop_message": "unix_destruct_scm",
}

# What is no function of its own in the kernel.
NOT_THERE = {
    "destroy": "a member of iommufd_object_ops, called by each that destroys an object",
    "iommufd_test_temp_memory_limit": "a case of iommufd_test",
    "write_sysfs_file": "an open, a write and a close",
    "read_sysfs_file": "an open, a read and a close",
    "mtty_open_device": "its vfio_device_ops has none; here each driver has",
    "mtty_ioctl_set_irqs": "a case of mtty_ioctl",
}


def definition(text: str, name: str) -> int | None:
    """The line on which a C text defines a function or a macro of this name."""
    call = name.removeprefix("sys_")
    found = re.search(
        rf"^(#define {name}\(|SYSCALL_DEFINE\d\({call}\b|(?![ \t*/#])[^\n;={{}}]*?\b{name}\s*\([^;{{]*\{{)", text, re.M
    )
    return text.count("\n", 0, found.start()) + 1 if found else None


def look_up(tree: Path) -> dict[str, dict[str, int]]:
    """By file, each mirrored function with its line. Raises ValueError for one that is not there."""
    facts: dict[str, dict[str, int]] = {}
    for one in FUNCTIONS.values():
        if one.name not in NOT_THERE:
            name = KERNEL_NAME.get(one.name, one.name)
            line = definition((tree / one.file).read_text(errors="replace"), name)
            if line is None:
                raise ValueError(f"{one.file} defines no {name}")
            facts.setdefault(one.file, {})[name] = line
    return {file: dict(sorted(facts[file].items(), key=lambda item: item[1])) for file in sorted(facts)}


if __name__ == "__main__":
    FACTS.write_text(json.dumps(look_up(Path(sys.argv[1])), indent=1) + "\n")
