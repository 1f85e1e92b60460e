"""Groups without an IOMMU: trusted programs only, and nothing that would need translation."""

from __future__ import annotations

import pytest

from tests.calls import NOIOMMU, WITHOUT, counts, device_fd, refused, set_container, status, unset
from tests.calls import WITHOUT_ADDRESS as ADDRESS
from vfiosim import Machine, uapi
from vfiosim.engine import KernelOops
from vfiosim.kernel.task import ALL_CAPABILITIES


@pytest.fixture
def m() -> Machine:
    return Machine(WITHOUT)


@pytest.fixture
def modest(m):
    """A program without CAP_SYS_RAWIO."""
    return m.process("modest", caps=tuple(cap for cap in ALL_CAPABILITIES if cap != "CAP_SYS_RAWIO"))


def test_a_device_without_iommu_has_a_group_but_no_node_of_its_own(m, p):
    assert refused(p.open, "/dev/vfio/devices/vfio0") == "ENOENT"
    assert refused(p.open, "/dev/vfio/0") == "ENOENT"
    assert status(p, p.open("/dev/vfio/noiommu-0")) == uapi.VFIO_GROUP_FLAGS_VIABLE
    assert p.open("/dev/vfio/devices/vfio2") > 0


def test_only_its_own_driver_serves_a_group_without_iommu(m, p):
    before = counts(m)
    group, container = p.open("/dev/vfio/noiommu-0"), p.open("/dev/vfio/vfio")
    ask = [p.ioctl(container, uapi.VFIO_CHECK_EXTENSION, kind) for kind in (uapi.VFIO_TYPE1_IOMMU, NOIOMMU)]
    assert ask == [1, 1]
    set_container(p, group, container)
    ask = [p.ioctl(container, uapi.VFIO_CHECK_EXTENSION, kind) for kind in (uapi.VFIO_TYPE1_IOMMU, NOIOMMU)]
    assert ask == [0, 1]
    assert refused(p.ioctl, container, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU) == "ENODEV"
    p.ioctl(container, uapi.VFIO_SET_IOMMU, NOIOMMU)
    assert refused(p.ioctl, container, uapi.VFIO_IOMMU_GET_INFO, uapi.VfioIommuType1Info()) == "ENOTTY"
    device = device_fd(p, group, ADDRESS)
    p.ioctl(device, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())
    assert m.built.groups[0].owner_cnt.value == 0
    for fd in (group, container, device):
        p.close(fd)
    assert counts(m) == before
    assert m.check() == []


def test_groups_with_and_without_iommu_do_not_mix(p):
    group, emulated, container = p.open("/dev/vfio/noiommu-0"), p.open("/dev/vfio/2"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    assert refused(set_container, p, emulated, container) == "EPERM"
    set_container(p, p.open("/dev/vfio/noiommu-1"), container)
    other = p.open("/dev/vfio/vfio")
    set_container(p, emulated, other)
    unset(p, group)
    assert refused(set_container, p, group, other) == "EPERM"


def test_every_step_on_the_way_to_the_device_takes_the_capability(m, p, modest):
    assert refused(modest.open, "/dev/vfio/noiommu-0") == "EPERM"
    group, container = p.open("/dev/vfio/noiommu-0"), p.open("/dev/vfio/vfio")
    child = p.fork("child")
    child.task.caps.value = modest.task.caps.value
    assert refused(set_container, child, group, container) == "EPERM"
    set_container(p, group, container)
    assert refused(child.ioctl, container, uapi.VFIO_SET_IOMMU, NOIOMMU) == "EPERM"
    p.ioctl(container, uapi.VFIO_SET_IOMMU, NOIOMMU)
    assert refused(device_fd, child, group, ADDRESS) == "EPERM"
    device_fd(p, group, ADDRESS)
    assert device_fd(child, group, ADDRESS) > 0  # only the first open asks
    assert m.check() == []


def test_an_iommufd_serves_either_groups_with_or_groups_without_iommu(m, p):
    group, emulated, iommu = p.open("/dev/vfio/noiommu-0"), p.open("/dev/vfio/2"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    assert refused(set_container, p, emulated, iommu) == "EINVAL"
    device = device_fd(p, group, ADDRESS)
    assert m.built.vfio_devices["nic"].iommufd_device.value is None
    assert p.ioctl(iommu, uapi.VFIO_SET_IOMMU, NOIOMMU) == 0
    assert refused(p.ioctl, iommu, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU) == "EINVAL"
    p.close(device)
    unset(p, group)
    assert refused(set_container, p, emulated, iommu) == "EINVAL"
    fresh = p.open("/dev/iommu")
    set_container(p, emulated, fresh)
    assert refused(set_container, p, group, fresh) == "EINVAL"
    assert m.check() == []


def test_a_compat_ioas_stands_in_the_way_of_a_device_without_iommu(p):
    group, iommu = p.open("/dev/vfio/noiommu-0"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    fresh = uapi.IommuIoasAlloc()
    p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, fresh)
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_SET, ioas_id=fresh.out_ioas_id))
    assert refused(device_fd, p, group, ADDRESS) == "EPERM"
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_CLEAR))
    assert device_fd(p, group, ADDRESS) > 0


def test_the_switch_under_an_open_device_costs_the_group_its_file_here_too(m, p):
    group, iommu, container = p.open("/dev/vfio/noiommu-0"), p.open("/dev/iommu"), p.open("/dev/vfio/vfio")
    set_container(p, group, iommu)
    first = device_fd(p, group, ADDRESS)
    unset(p, group)
    set_container(p, group, container)
    p.ioctl(container, uapi.VFIO_SET_IOMMU, NOIOMMU)
    second = device_fd(p, group, ADDRESS)
    p.close(first)
    p.close(second)
    assert sum(line.startswith("warning: vfio_group noiommu-0") for line in m.check()) == 2
    with pytest.raises(KernelOops, match="released already"):
        status(p, group)
