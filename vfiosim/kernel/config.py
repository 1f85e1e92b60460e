"""How a kernel was built and started: what its answers depend on beside its version (.config, parameters of modules, v7.2).

The switches of a machine without a word about them are those of the recorded kernel. What Kconfig does not let happen is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from ..engine import current
from ..naming import must_be_one_of

UINT_MAX: Final = (1 << 32) - 1
_NEEDS_GROUP: Final = ("vfio_noiommu", "iommufd_vfio_container")  # drivers/vfio/Kconfig, drivers/iommu/iommufd/Kconfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Switches of a kernel and of the IOMMU under it; as they are here the recorded kernel has them.

    Built into it (CONFIG_…):

    * `transparent_hugepage`: I/O addresses that the kernel picks are aligned to up to 2 MiB (iommufd/io_pagetable.c:146);
    * `vfio_group`: /dev/vfio/N, and with it containers; without, devices have their own nodes only (drivers/vfio/vfio.h:134);
    * `vfio_device_cdev`: devices have nodes, and BIND; without, BIND is ENOTTY on any file (drivers/vfio/vfio.h:403);
    * `vfio_noiommu`: a device may be used that no IOMMU watches, if the parameter below allows it (drivers/vfio/vfio.h:117);
    * `pci_p2pdma`: BARs can be lent to other devices, as dma-bufs (VFIO_DEVICE_FEATURE_DMA_BUF; drivers/vfio/pci/Kconfig);
    * `iommufd_vfio_container`: /dev/vfio/vfio is an iommufd that plays a container (iommufd/main.c:791).

    Parameters, as they are at first; a program may change them in /sys/module:

    * `enable_unsafe_noiommu_mode` of vfio: see above; a machine with such a device has it switched on;
    * `allow_unsafe_interrupts` of iommufd and of vfio_iommu_type1: a device may be used whose interrupts nobody can isolate;
    * `dma_entry_limit` of vfio_iommu_type1: how many mappings a new container may have.

    The IOMMU of the machine:

    * `interrupt_remapping`: it isolates interrupts (intremap=off at boot: it does not);
    * `dirty_tracking`: it can note which pages a device writes (drivers/iommu/intel/iommu.c, `ssads_supported`);
    * `nesting`: its page tables can carry those of a guest (the same file, `nested_supported`).

    Raises ValueError for what cannot be built.
    """

    transparent_hugepage: bool = False
    vfio_group: bool = True
    vfio_device_cdev: bool = True
    vfio_noiommu: bool = True
    pci_p2pdma: bool = False
    iommufd_vfio_container: bool = False
    enable_unsafe_noiommu_mode: bool = False
    allow_unsafe_interrupts: bool = False
    dma_entry_limit: int = 65535
    interrupt_remapping: bool = True
    dirty_tracking: bool = False
    nesting: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            usual: Any = field.default
            value: Any = getattr(self, field.name)
            if type(value) is not type(usual) or not 0 <= value <= UINT_MAX:
                kind = "yes or no" if isinstance(usual, bool) else f"a number up to {UINT_MAX:#x}"
                raise ValueError(f"the switch {field.name} is {kind}, and not {value!r}")
        if not self.vfio_group and not self.vfio_device_cdev:
            raise ValueError("a kernel without VFIO_GROUP cannot be without VFIO_DEVICE_CDEV too: Kconfig selects one")
        for name in _NEEDS_GROUP:
            if getattr(self, name) and not self.vfio_group:
                raise ValueError(
                    f"a kernel without VFIO_GROUP cannot have {name.upper()}, so it has to be switched off too"
                )

    @classmethod
    def of(cls, switches: Switches) -> Config:
        """The configuration with these switches set so: {"vfio_group": False}, or "VFIO_GROUP=n" as a .config has it.

        Switching `vfio_group` off switches off what needs it, as `make olddefconfig` does. Raises ValueError for an unknown name.
        """
        if isinstance(switches, Config):
            return switches
        if isinstance(switches, str):
            switches = dict(map(cls._switch, switches.split()))
        if not isinstance(switches, Mapping | None):
            raise TypeError(
                f"a configuration is a Config, a dict of switches or a text such as VFIO_GROUP=n, not {switches!r}"
            )
        wanted = {name.lower().removeprefix("config_"): value for name, value in (switches or {}).items()}
        for name in wanted:
            must_be_one_of([field.name for field in fields(cls)], name, "switch of the kernel's configuration")
        if not wanted.get("vfio_group", True):
            wanted = dict.fromkeys(_NEEDS_GROUP, False) | wanted
        return cls(**wanted)

    @staticmethod
    def _switch(written: str) -> tuple[str, bool | int]:
        """A switch and how it is set, from "NAME=y", "NAME=n" or "NAME=5". Raises ValueError."""
        name, _, value = written.partition("=")
        if value not in ("y", "n") and not (value.isascii() and value.isdigit()):
            raise ValueError(f"a switch is set as in VFIO_GROUP=n, with y, n or a number, and not as in {written!r}")
        return name, int(value) if value.isdigit() else value == "y"

    def other_than(self, base: Config) -> dict[str, Any]:
        """The switches that another configuration sets differently."""
        return {name: value for name, value in vars(self).items() if value != getattr(base, name)}

    def __str__(self) -> str:
        shown = {True: "y", False: "n"}
        own = self.other_than(RECORDED).items()
        return " ".join(f"{name.upper()}={shown[value] if isinstance(value, bool) else value}" for name, value in own)

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.other_than(RECORDED).items())})"


Switches: TypeAlias = Config | Mapping[str, Any] | str | None
RECORDED: Final = Config()


def built_with(name: str) -> bool:
    """Was the kernel that runs built so (`IS_ENABLED`)? No effect: it never changes."""
    return bool(current().engine.options.get(name, getattr(RECORDED, name)))
