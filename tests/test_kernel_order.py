"""A mirrored function stands in the file in which Linux v7.2 has it, and a file's functions stand in the kernel's order."""

from __future__ import annotations

import json
from pathlib import Path

from tests.kernel_order import FACTS, KERNEL_NAME, NOT_THERE
from vfiosim import kernel
from vfiosim.engine.functions import FUNCTIONS, KernelFunction

LINES: dict[str, dict[str, int]] = json.loads(FACTS.read_text())
ROOT = Path(kernel.__file__).parent

# Kernel files that are one file here each. What is around them (files, processes, the driver core) is gathered by topic.
MIRRORED = {"drivers/vfio/": "vfio/", "drivers/iommu/iommufd/": "iommufd/", "virt/kvm/": "kvm/"}

ELSEWHERE = {
    "iommufd_put_group": "hw_pagetable.py needs it as well, and device.py stands on that",
    "iopt_put_pages": "it releases pages, which pages.py defines",
    **dict.fromkeys(
        ("iommufd_object_destroy_user", "iommufd_object_tombstone_user", "iommufd_object_put_and_try_destroy"),
        "inline functions of a header; what they call is in main.c",
    ),
}


def _here(one: KernelFunction) -> str:
    return str(Path(one.function.__code__.co_filename).relative_to(ROOT))


def _is_its_file(here: str, file: str) -> bool:
    """May the functions of a kernel file be in this file? Where they are gathered by topic, in any."""
    for folder, mirror in MIRRORED.items():
        if file.startswith(folder):
            name = mirror + file.removeprefix(folder).rpartition(".")[0]
            return here.startswith((f"{name}.py", f"{name}_h.py", f"{name}/", f"{name.rpartition('/')[0]}.py"))
    return True


BY_PLACE: dict[tuple[str, str], list[KernelFunction]] = {}
for _one in FUNCTIONS.values():
    if _one.function.__module__.startswith("vfiosim.") and _one.name not in NOT_THERE:
        BY_PLACE.setdefault((_here(_one), _one.file), []).append(_one)


def test_every_mirrored_function_is_in_the_kernel_file_that_it_names():
    missing = [
        str(one)
        for there in BY_PLACE.values()
        for one in there
        if KERNEL_NAME.get(one.name, one.name) not in LINES.get(one.file, ())
    ]
    assert missing == []


def test_the_functions_of_a_file_stand_in_the_kernels_order():
    for place, functions in BY_PLACE.items():
        written = sorted(functions, key=lambda one: one.function.__code__.co_firstlineno)
        names = [KERNEL_NAME.get(one.name, one.name) for one in written]
        assert names == sorted(names, key=LINES[place[1]].__getitem__), place


def test_a_function_of_vfio_iommufd_or_kvm_stands_in_the_file_of_the_kernels_name():
    elsewhere = {one.name for (here, file), there in BY_PLACE.items() for one in there if not _is_its_file(here, file)}
    assert elsewhere == {*ELSEWHERE}


def test_no_exception_is_out_of_date():
    assert {*KERNEL_NAME, *NOT_THERE, *ELSEWHERE} <= {*FUNCTIONS}
