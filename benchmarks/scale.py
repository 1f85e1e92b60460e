"""Does a call cost more on a large machine? Only ratios of one run are of interest.

Goals: a bind on a machine with 1,000 devices and 10,000 mappings takes at most twice as long as on a small one; a fixed map and
unmap among 10,000 areas at most three times as long as among 100.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from vfiosim import Machine, Topology, uapi
from vfiosim.machine import Process
from vfiosim.topology import DeviceSpec

ROUNDS = 7  # the measurements take turns, so that a noisy neighbour hits all of them; the fastest round counts
TIMES = 100
SPACING = 0x10000
FREE = 0x5000_0000_0000 >> 8  # an I/O address that no other mapping is near


def machine(devices: int) -> Machine:
    """A machine with so many network cards, each in a group of its own."""
    specs = (
        DeviceSpec(f"nic{n}", f"{n >> 8:04x}:{n & 0xFF:02x}:00.0", n + 1, model="a network card")
        for n in range(devices)
    )
    return Machine(Topology(f"{devices} devices", tuple(specs)), trace=False)


class Program:
    """A process with an address space that has so many mappings."""

    def __init__(self, devices: int, mappings: int) -> None:
        self.process: Process = machine(devices).process("p")
        self.iommufd = self.process.open("/dev/iommu")
        argument = uapi.IommuIoasAlloc()
        self.process.ioctl(self.iommufd, uapi.IOMMU_IOAS_ALLOC, argument)
        self.ioas = argument.out_ioas_id
        self.memory = self.process.mmap(0x1000)
        for number in range(mappings):
            self.map((number + 1) * SPACING)

    def map(self, iova: int) -> None:
        """Map a page at a fixed address."""
        argument = uapi.IommuIoasMap(flags=7, ioas_id=self.ioas, user_va=self.memory, length=0x1000, iova=iova)
        self.process.ioctl(self.iommufd, uapi.IOMMU_IOAS_MAP, argument)

    def map_and_unmap(self) -> None:
        """One page more, and less."""
        self.map(FREE)
        argument = uapi.IommuIoasUnmap(ioas_id=self.ioas, iova=FREE, length=0x1000)
        self.process.ioctl(self.iommufd, uapi.IOMMU_IOAS_UNMAP, argument)

    def bind_and_close(self) -> None:
        """Open a device, bind it, close it."""
        device = self.process.open("/dev/vfio/devices/vfio0")
        argument = uapi.VfioDeviceBindIommufd(iommufd=self.iommufd)
        self.process.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument)
        self.process.close(device)


def fastest(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Microseconds of each, taking turns."""
    best: dict[str, float] = {}
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(TIMES):
                run()
            took = (time.perf_counter() - start) / TIMES * 1e6
            best[name] = min(took, best.get(name, took))
    gc.enable()
    return best


def main() -> None:
    """Print the table."""
    small, large = Program(6, 0), Program(1000, 10_000)
    few, many = Program(6, 100), Program(6, 10_000)
    took = fastest(
        {
            "bind, 6 devices": small.bind_and_close,
            "bind, 1,000 devices and 10,000 mappings": large.bind_and_close,
            "map and unmap among 100 areas": few.map_and_unmap,
            "map and unmap among 10,000 areas": many.map_and_unmap,
        }
    )
    for name, microseconds in took.items():
        print(f"{name:42} {microseconds:8.1f} µs")
    times = list(took.values())
    print(f"bind, large against small: {times[1] / times[0]:.2f} × (at most 2)")
    print(f"map and unmap, many against few: {times[3] / times[2]:.2f} × (at most 3)")


if __name__ == "__main__":
    main()
