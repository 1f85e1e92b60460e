"""Short traces that many tests of pictures look at."""

from __future__ import annotations

from functools import cache

from tests.toys import House, lose_key, make_key
from vfiosim import Machine, uapi
from vfiosim.trace import Trace


@cache
def keys() -> Trace:
    """A key is made, and lost."""
    house = House()
    house.run(make_key(house.person, house.door))
    house.run(lose_key(house.person, house.door, 1))
    return house.trace


@cache
def bind() -> Trace:
    """A bind on the default machine."""
    machine = Machine()
    vmm = machine.process("vmm")
    device, iommufd = vmm.open("/dev/vfio/devices/vfio0"), vmm.open("/dev/iommu")
    vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    return machine.trace[machine.trace.calls[-1].steps]
