"""What recordings teach the fuzzer: programs that get somewhere, values that fields really have, and what calls write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from vfiosim.assets import asset
from vfiosim.conformance.abi import is_request
from vfiosim.conformance.recordings import load
from vfiosim.topology import TOPOLOGIES, Topology
from vfiosim.uapi import REQUESTS

Step = Mapping[str, Any]
Devices = dict[str, dict[str, Any]]
_HAND: Final = tuple(f"hand-{profile}" for profile in ("default", "noiommu", "sriov", "compat"))
_RANDOM: Final = tuple(f"random-{style}" for style in ("default", "noiommu", "group", "kvm", "proc", "fault"))
# Devices of the topology "small" under the names that programs of the recordings use.
_SMALL: Final = {"nic": "pci0", "gpu": "pairA", "hdmi": "pairB", "usb": "mixA", "sata": "mixB", "tty": "mdev0"}
# Bytes of the argument that a refused call may have changed, beyond those that a recording shows.
_WRITTEN_BY_ERRORS: Final = {"VFIO_DEVICE_GET_PCI_HOT_RESET_INFO": {"flags"}}  # they are cleared on the way to ENOSPC
# Fields that a call writes without a recording showing it, because they were zero before: the struct is copied back whole.
_COPIED_BACK: Final = {
    "VFIO_DEVICE_GET_INFO": {"cap_offset", "pad"},
    "VFIO_DEVICE_GET_REGION_INFO": {"argsz"},  # how much room the capabilities would have needed
    "VFIO_IOMMU_GET_INFO": {"pad"},
    "IOMMU_GET_HW_INFO": {"out_max_pasid_log2"},
}


@dataclass
class Setting:
    """A machine that programs can be played on."""

    topology: Topology
    devices: Devices
    programs: list[list[Step]] = field(default_factory=list)


@dataclass
class Corpus:
    """All settings; by request the values of each field, the fields written, and how often a recording shows a success."""

    settings: list[Setting] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)  # "REQUEST.field" -> what recordings write into it
    written: dict[str, set[str]] = field(default_factory=dict)
    written_by_errors: dict[str, set[str]] = field(default_factory=dict)
    succeeds: dict[str, int] = field(default_factory=dict)

    def learn(self, step: Step, result: Mapping[str, Any]) -> None:
        """Take one recorded call into account."""
        request = step.get("request")
        if step["call"] != "ioctl" or not is_request(request):
            return
        assert isinstance(request, str)
        good = result.get("errno") is None and result.get("ret") is not None
        if good:
            self.succeeds[request] = self.succeeds.get(request, 0) + 1
        written = self.written if good else self.written_by_errors
        written.setdefault(request, set()).update(result.get("out") or {})
        given = step.get("arg")
        for name, value in given.items() if isinstance(given, dict) else ():
            known = self.values.setdefault(f"{request}.{name}", [])
            if not isinstance(value, dict) and value not in known and len(known) < 200:
                known.append(value)


@cache
def corpus() -> Corpus:
    """The corpus of the recordings that ship with the package."""
    result = Corpus()
    result.written |= {name: set(fields) for name, fields in _COPIED_BACK.items()}
    result.written_by_errors |= {name: set(fields) for name, fields in _WRITTEN_BY_ERRORS.items()}
    for name in _HAND + _RANDOM:
        recording = load(Path(str(asset(f"records/{name}.json.gz"))))
        setting = Setting(Topology.from_recording(recording.topology, recording.profile), recording.topology)
        for scenario in recording.scenarios:
            setting.programs.append(scenario["steps"])
            for step, answer in zip(scenario["steps"], scenario["result"]["steps"], strict=True):
                result.learn(step, answer)
        result.settings.append(setting)
    first = result.settings[0]
    result.settings.append(Setting(TOPOLOGIES["lab"], first.devices, first.programs))
    result.settings.append(Setting(TOPOLOGIES["small"], dict(_small_devices()), first.programs))
    return result


def _small_devices() -> Iterator[tuple[str, dict[str, Any]]]:
    """The small topology, as a recording would describe it."""
    number = 0
    for spec in TOPOLOGIES["small"].devices:
        mine = spec.driver in ("vfio-pci", "mtty")
        yield (
            _SMALL[spec.name],
            {
                "kind": spec.bus,
                "bdf": spec.address,
                "sysfs": f"/sys/bus/{spec.bus}/devices/{spec.address}",
                "vfio": f"vfio{number}" if mine else None,
                "group": str(spec.group),
                "driver": spec.driver,
                "model": spec.model,
                "group_id": spec.group,
                "cdev": mine,
            },
        )
        number += mine


def request_kinds() -> dict[str, list[str]]:
    """The names of all requests by the kind of file that they are for."""
    result: dict[str, list[str]] = {}
    for name, request in REQUESTS.items():
        result.setdefault(request.file, []).append(name)
    return result
