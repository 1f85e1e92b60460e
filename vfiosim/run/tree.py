"""What a machine has in /dev and /sys, as real directories, links and files that programs look at in the place of the host's."""

from __future__ import annotations

import fcntl
import os
import posixpath
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ..kernel import Unsupported
from ..kernel.base import Device, syspath
from ..kernel.bus import Buses
from ..kernel.fs.folders import MAJOR, shown_device
from ..kernel.fs.sysfs import device_folder, let_go, sysfs_file
from ..kernel.vfio.vfio import VfioDevice
from ..machine import Machine
from ..uapi import KernelError

# What the machine has in the place of the host: all of it, also what it does not have.
_OURS: Final = re.compile(
    r"/dev/(vfio|iommu|kvm)(/.*)?|/sys/(bus/(pci|mdev)|class/(vfio|vfio-dev|mdev_bus)|kernel/iommu_groups"
    r"|devices/(pci[^/]*|virtual/(vfio|mtty))|module/(vfio[^/]*|iommufd|kvm))(/.*)?"
)
_ALWAYS: Final = ("/dev/vfio", "/sys/bus/pci/devices", "/sys/class/vfio-dev", "/sys/kernel/iommu_groups")
# Folders in which the machine has something beside the host.
COVERED: Final = (
    "/dev",
    "/sys/bus",
    "/sys/class",
    "/sys/kernel",
    "/sys/devices",
    "/sys/devices/virtual",
    "/sys/module",
)
_MISC: Final = {"/dev/vfio/vfio": (10, 196), "/dev/kvm": (10, 232), "/dev/iommu": (10, 261)}
_GROUPS, _DEVICES = 510, MAJOR  # major numbers; that of groups is the first that Linux gives out by itself
_OWNED: Final = "vfiosim-run-"  # how these directories are called while a supervisor has them
_SHM: Final = "/dev/shm"  # files that are never written to a disk
Entry = bytes | str  # the content of a file, or where a link leads


def is_ours(path: str) -> bool:
    """Does the machine answer for this path?"""
    return _OURS.fullmatch(path) is not None


class Tree:
    """Real directories with what a machine has, at `root`. `renew` after each change."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        folder = _SHM if os.access(_SHM, os.W_OK) else tempfile.gettempdir()
        _remove_ownerless(folder)
        made = tempfile.mkdtemp(prefix=".vfiosim-", dir=folder)
        self._owned = _locked(made)
        self.root = made.replace(".vfiosim-", _OWNED)  # only now may it be taken for one that nobody owns
        os.rename(made, self.root)
        self._now: dict[str, Entry] = {}
        self._state: object = None
        self.renew()

    def close(self) -> None:
        """Take the directories away."""
        shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._owned)

    def make_room(self) -> list[str]:
        """Have a place for all that the host has beside ours, or the same link; the answer is what belongs to these places."""
        beside = []
        for folder in COVERED:
            os.makedirs(self.root + folder, exist_ok=True)
            for entry in os.scandir(folder):
                path, place = entry.path, self.root + entry.path
                if entry.is_symlink() and not is_ours(path):
                    os.symlink(os.readlink(path), place)
                elif not is_ours(path) and path not in COVERED and "\n" not in path:
                    os.mkdir(place) if entry.is_dir() else Path(place).touch()
                    beside.append(path)
        return beside

    def number(self, node: str) -> int:
        """The device number of a node (`st_rdev`)."""
        if node in _MISC:
            return os.makedev(*_MISC[node])
        number = int("".join(filter(str.isdigit, node.rpartition("/")[2])) or 0)
        return os.makedev(_DEVICES if "/devices/" in node else _GROUPS, number)

    def canonical(self, path: str) -> str:
        """The same path without links on its way, as the machine knows files: of a device, below its bus."""
        folder, name = posixpath.split(path)
        real = os.path.realpath(self.root + folder)
        path = posixpath.join(real.removeprefix(self.root), name)
        for device in self.machine.built.buses.devices.slots.values():
            place = syspath(device)
            if path == place or path.startswith(place + "/"):
                return f"/sys/bus/{device.bus}/devices/{device.address}{path[len(place) :]}"
        return path

    def renew(self) -> None:
        """Make the directories what the machine has now; where no node and no driver is another one, there is nothing to do."""
        built = self.machine.built
        drivers = tuple((key, each.driver_link.value) for key, each in built.buses.devices.slots.items())
        state = tuple(built.devtmpfs.nodes.slots), drivers
        if state != self._state:
            self._state = state
            self._make()

    def _make(self) -> None:
        wanted = dict(self._wanted())
        for path in [each for each in self._now if each not in wanted]:
            os.unlink(self.root + path)
            with suppress(OSError):
                os.removedirs(os.path.dirname(self.root + path))
        for path in _ALWAYS:
            os.makedirs(self.root + path, exist_ok=True)
        for path, entry in wanted.items():
            if self._now.get(path) != entry:
                self._write(Path(self.root + path), entry)
        self._now = wanted

    def _write(self, path: Path, entry: Entry) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(entry, str):
            path.symlink_to(os.path.relpath(self.root + entry, path.parent))
        else:
            path.write_bytes(entry)

    def content(self, path: str) -> bytes:
        """What a file of /sys tells at this moment."""
        place = os.path.realpath(self.root + path)
        with suppress(Unsupported):  # what does not change while it is there
            if text := self._text(self.canonical(path)):
                Path(place).write_bytes(text)
        return Path(place).read_bytes()

    def status(self, path: str, follow: bool = True) -> os.stat_result:
        """What `stat` tells of a path: of a node that it is a character device. Raises OSError."""
        node = self.machine.built.devtmpfs.nodes.slots.get(path)
        return (
            os.stat(self.root + path, follow_symlinks=follow) if node is None else self.status_of_node(path, node.mode)
        )

    def status_of_node(self, path: str, mode: int) -> os.stat_result:
        """The same of a node, which may be gone while a program has it open."""
        numbers = list(os.stat(self.root))
        numbers[stat.ST_MODE], numbers[stat.ST_SIZE] = stat.S_IFCHR | mode, 0
        numbers[stat.ST_INO], numbers[stat.ST_NLINK] = zlib.crc32(path.encode()), 1
        return os.stat_result(numbers, {"st_rdev": self.number(path)})

    # ---- what there is

    def _wanted(self) -> Iterator[tuple[str, Entry]]:
        built = self.machine.built
        for node in built.devtmpfs.nodes.slots:
            yield node, b""
        for name, driver in built.drivers.items():
            place = f"/sys/bus/{driver.bus}/drivers/{name}"
            files = ["bind", "unbind", "uevent"] + ["new_id", "remove_id"] * (driver.bus == "pci")
            yield from ((f"{place}/{file}", b"") for file in files)
            yield from ((f"{place}/{device.address}", syspath(device)) for device in self._driven_by(name))
        for bus in ("pci", "mdev"):
            files = ["drivers_probe", "uevent"] + ["rescan"] * (bus == "pci")
            yield from ((f"/sys/bus/{bus}/{file}", b"") for file in files)
            yield f"/sys/bus/{bus}/drivers_autoprobe", self._text(f"/sys/bus/{bus}/drivers_autoprobe") or b""
        for device in built.buses.devices.slots.values():
            yield from self._of_device(device)

    def _driven_by(self, driver: str) -> list[Device]:
        return [each for each in self.machine.built.buses.devices.slots.values() if each.driver_link.value == driver]

    def _of_device(self, device: Device) -> Iterator[tuple[str, Entry]]:
        place, at_bus = syspath(device), f"/sys/bus/{device.bus}/devices/{device.address}"
        yield at_bus, place
        yield f"{place}/subsystem", f"/sys/bus/{device.bus}"
        for name in self._names(device):
            text = self._text(f"{at_bus}/{name}")
            if text is not None:
                yield f"{place}/{name}", text
        if driver := device.driver_link.value:
            yield f"{place}/driver", f"/sys/bus/{device.bus}/drivers/{driver}"
        if (group := device.iommu_group.value) is not None:
            groups = f"/sys/kernel/iommu_groups/{group.id}"
            yield f"{place}/iommu_group", groups
            yield f"{groups}/devices/{device.address}", place
            yield f"{groups}/type", b"DMA-FQ\n"
        vdev: VfioDevice | None = self._look(shown_device(device))
        if vdev is not None:
            mine = f"{place}/vfio-dev/{vdev.cdev_name}"
            number = self.number(f"/dev/vfio/devices/{vdev.cdev_name}")
            yield f"{mine}/device", place
            if vdev.cdev is not None:
                yield f"{mine}/dev", f"{os.major(number)}:{os.minor(number)}\n".encode()
            yield f"/sys/class/vfio-dev/{vdev.cdev_name}", mine

    def _names(self, device: Device) -> set[str]:
        """Its files."""
        own = {"remove", "reset", "reset_method", "uevent", "rescan", "sriov_numvfs", "sriov_totalvfs"}
        if device.bus != "pci":
            return own
        listed = self._look(device_folder(device, "", f"/sys/bus/pci/devices/{device.address}")) or ()
        return own | set(listed) - {"driver", "iommu_group", "subsystem", "vfio-dev"}

    def _text(self, path: str) -> bytes | None:
        """What a file tells, nothing if it is only written or not modelled; None if there is no such file."""
        text: bytes | None = self._look(_told(self.machine.built.buses, path))
        return text

    def _look(self, code: Coroutine[Any, Any, Any]) -> Any:
        """What kernel code answers that only looks; None where it refuses. No trace tells of it."""
        try:
            return self.machine.look(code)
        except KernelError:
            return None


def _locked(root: str) -> int:
    """A descriptor that makes a directory somebody's, as long as he lives. Raises OSError where it is already."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _remove_ownerless(folder: str) -> None:
    """Take away what supervisors that were killed have left."""
    for root in Path(folder).glob(f"{_OWNED}*"):
        with suppress(OSError):  # it is somebody else's
            fd = _locked(str(root))
            shutil.rmtree(root, ignore_errors=True)
            os.close(fd)


async def _told(buses: Buses, path: str) -> bytes:
    """What a file of /sys tells."""
    attribute, device = await sysfs_file(buses, path)
    try:
        if attribute.show is None:
            return b""
        return (await attribute.show() + "\n" * (not attribute.binary)).encode("latin1")
    except Unsupported:
        return b""
    finally:
        await let_go(device)
