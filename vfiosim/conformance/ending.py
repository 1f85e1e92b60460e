"""What is looked at when a scenario is over: is everything as it was?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..kernel import Unsupported
from ..kernel.vfio.vfio import VfioDevice, VfioGroup
from ..machine import Process
from ..topology import MDEV_TYPES
from ..uapi import VFIO_DEVICE_BIND_IOMMUFD, KernelError, VfioDeviceBindIommufd
from .replay import Playback

_LAST_WAIT: Final = 6000  # ms that a killed process has to go away
Devices = Mapping[str, Mapping[str, Any]]


def ending(replay: Playback, devices: Devices, probe0: Mapping[str, Any]) -> dict[str, Any]:
    """End all processes and look at what is left: `stuck_procs`, `probe`, `kvm_leaked`, as a recording has them.

    Raises Unsupported where that cannot be found out.
    """
    result: dict[str, Any] = {}
    stuck = end_everybody(replay)
    if stuck:
        result["stuck_procs"] = stuck
    elif not replay.scenario.get("noprobe"):
        restore(replay, devices)
        mentioned = replay.scope.devices(json.dumps(replay.scenario["steps"]))
        bound = {name: devices[name] for name in mentioned if drivers(replay).get(devices[name]["bdf"]) is not None}
        found = probe(
            replay.machine.process("probe"), {name: as_it_is_now(replay, each) for name, each in bound.items()}
        )
        result["probe"] = {name: what for name, what in found.items() if what != probe0.get(name)} or "clean"
    if replay.machine.kvm_live():
        result["kvm_leaked"] = replay.machine.kvm_live()
    return result


def end_everybody(replay: Playback) -> list[str]:
    """Kill all processes, oldest first; the answer is which of them do not go away."""
    for _, actor in replay.everybody:
        actor.kill()
    if not all(actor.gone for _, actor in replay.everybody):
        replay.machine.sleep(_LAST_WAIT)
    return [name for name, actor in replay.everybody if not actor.gone]


def restore(replay: Playback, devices: Devices) -> None:
    """Put every device back into the hands of the driver that it had, in the order of the topology."""
    process: Process | None = None
    known = {device["bdf"] for device in devices.values()}
    for made in [each for each in replay.machine.built.devices.values() if each.address not in known]:
        process = process or replay.machine.process("restore")
        process.write_file(f"/sys/bus/{made.bus}/devices/{made.address}/remove", "1")
    for name, device in devices.items():
        address, bus, want = device["bdf"], "pci" if device["kind"] == "pci" else "mdev", device["driver"]
        if drivers(replay).get(address) == want:
            continue
        process = process or replay.machine.process("restore")
        if bus == "mdev":
            if address in drivers(replay):
                continue  # nothing gives it its driver back
            kind = MDEV_TYPES.get(name, "mtty-1")
            process.write_file(f"/sys/class/mdev_bus/mtty/mdev_supported_types/{kind}/create", address)
            continue
        if str(device["model"]).endswith(" VF"):  # they all come back at once
            physical, vfs = f"{address[:11]}0", sum(str(other["model"]).endswith(" VF") for other in devices.values())
            for number in (0, vfs):
                process.write_file(f"/sys/bus/pci/devices/{physical}/sriov_numvfs", str(number))
            continue
        if address not in drivers(replay):
            process.write_file("/sys/bus/pci/rescan", "1")
        if drivers(replay)[address] is not None:
            process.write_file(f"/sys/bus/pci/devices/{address}/driver/unbind", address)
        process.write_file(f"/sys/bus/pci/devices/{address}/driver_override", want or "\n")
        process.write_file("/sys/bus/pci/drivers_probe", address)


def as_it_is_now(replay: Playback, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """A device of the topology with the names that its nodes have now: one that was made again may have others."""
    vdev = next(each.drvdata.value for each in replay.machine.built.devices.values() if each.address == known["bdf"])
    if not isinstance(vdev, VfioDevice):
        return known
    group: VfioGroup | None = vdev.group  # none where the kernel is built without VFIO_GROUP
    named = known["group"] if group is None or not known["group"] else group.path.rpartition("/")[2]
    return {**known, "vfio": vdev.cdev_name, "group": named}


def drivers(replay: Playback) -> dict[str, str | None]:
    """Which driver each device is bound to at the moment, by address."""
    bound = {device.address: device.driver.value for device in replay.machine.built.devices.values()}
    return {address: driver.label if driver is not None else None for address, driver in bound.items()}


def probe(process: Process, devices: Devices) -> dict[str, dict[str, Any]]:
    """Can a fresh process open the group of each device, open its node, and bind it?

    `group` and `open` are None or an errno, `bind` is the device ID or an errno.
    """
    result = {}
    for name, device in devices.items():
        if device["vfio"] is None:
            continue
        seen: dict[str, Any] = {}
        if device["group"]:
            seen["group"] = _try_open(process, f"/dev/vfio/{device['group']}")[1]
        if device["cdev"]:
            fd, seen["open"] = _try_open(process, f"/dev/vfio/devices/{device['vfio']}", keep=True)
            if fd is not None:
                seen["bind"] = _try_bind(process, fd)
        result[name] = seen
    return result


def _try_open(process: Process, path: str, keep: bool = False) -> tuple[int | None, str | None]:
    try:
        fd = process.open(path)
    except Unsupported:
        raise
    except KernelError as error:
        return None, error.name
    if not keep:
        process.close(fd)
    return fd, None


def _try_bind(process: Process, fd: int) -> int | str | None:
    """Bind an open device to a new iommufd, and close both."""
    iommufd = process.open("/dev/iommu")
    answer: int | str | None
    try:
        argument = VfioDeviceBindIommufd(iommufd=iommufd)
        process.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, argument)
        answer = int(argument.out_devid) or None
    except Unsupported:
        raise
    except KernelError as error:
        answer = error.name
    process.close(fd)
    process.close(iommufd)
    return answer
