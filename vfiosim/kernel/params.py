"""Parameters of modules, and the files in which an administrator changes them (kernel/params.c, v7.2)."""

from __future__ import annotations

from functools import partial
from typing import Final

from ..engine import *
from ..engine.engine import Engine
from ..uapi import Errno
from .config import UINT_MAX, built_with
from .fs.kernfs import Attribute
from .kstrtox import parse_number
from .unsupported import Unsupported

TYPE1: Final = "vfio_iommu_type1"


class ModuleParameters(KObject):
    """What modules can be told while they run.

    * there from the start; a root;
    * `noiommu`: vfio's enable_unsafe_noiommu_mode: may a device be used that no IOMMU watches?
    * `iommufd_unsafe_interrupts`, `type1_unsafe_interrupts`: allow_unsafe_interrupts of either: may a device be used whose
      interrupts nobody can isolate?
    * `dma_entry_limit`: vfio_iommu_type1's: how many mappings a new container may have; `disable_hugepages`: its page tables
      have small pages only, which nobody can see from outside.
    """

    kind = "module_parameters"
    root = "the kernel"
    noiommu: Field[bool] = field(False)
    iommufd_unsafe_interrupts: Field[bool] = field(False)
    type1_unsafe_interrupts: Field[bool] = field(False)
    disable_hugepages: Field[bool] = field(False)
    dma_entry_limit: Field[int] = field(65535)

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "vfio")


@kernel("kernel/params.c")
async def param_set_uint(target: Field[int], text: str, count: int) -> int:
    """Write a number of 32 bits. EINVAL, ERANGE for one that is too large."""
    number = await require(parse_number(text), Errno.EINVAL, "number_is_good", "this is no number that the file takes")
    await refuse_if(number > UINT_MAX, Errno.ERANGE, "number_fits", f"the number must not be above {UINT_MAX:#x}")
    await store(target, number)
    return count


async def shown_bool(target: Field[bool]) -> str:
    """Y or N."""
    value = await load(target)
    return "Y" if value else "N"


async def shown_number(target: Field[int]) -> str:
    """In decimal."""
    value = await load(target)
    return str(value)


def has_type1() -> bool:
    """Is there a module vfio_iommu_type1? It comes with VFIO_CONTAINER."""
    return built_with("vfio_group") and not built_with("iommufd_vfio_container")


def parameter_file(parameters: ModuleParameters, module: str, name: str, path: str) -> Attribute | None:
    """The file of a parameter; None in a kernel that was built without it."""
    flag = {
        ("vfio", "enable_unsafe_noiommu_mode"): parameters.noiommu,
        ("iommufd", "allow_unsafe_interrupts"): parameters.iommufd_unsafe_interrupts,
        (TYPE1, "allow_unsafe_interrupts"): parameters.type1_unsafe_interrupts,
        (TYPE1, "disable_hugepages"): parameters.disable_hugepages,
    }.get((module, name))
    limit = parameters.dma_entry_limit
    if flag is None and (module, name) != (TYPE1, "dma_entry_limit"):
        raise Unsupported(f"opening {path!r}")
    if (module == TYPE1 and not has_type1()) or (module == "vfio" and not built_with("vfio_noiommu")):
        return None
    if flag is not None:
        return Attribute(path, 0o644, partial(param_set_bool, flag), partial(shown_bool, flag))
    return Attribute(path, 0o644, partial(param_set_uint, limit), partial(shown_number, limit))


@kernel("kernel/params.c")
async def param_set_bool(target: Field[bool], text: str, count: int) -> int:
    """Write a truth value: what begins with one of "1yYtT", "on", "0nNfF" or "of" is one. EINVAL."""
    start = text[:1].lower()
    start = text[:2].lower() if start == "o" else start
    known = {"1": True, "y": True, "t": True, "on": True, "0": False, "n": False, "f": False, "of": False}.get(start)
    value = await require(known, Errno.EINVAL, "value_is_bool", "this says neither yes nor no, such as Y and N do")
    await store(target, value)
    return count
