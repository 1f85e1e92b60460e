"""Locks that the kernel only tries, machines without an IOMMU, and what runs out: beyond what recordings ask."""

from __future__ import annotations

import pytest

from tests.calls import refused
from vfiosim import DeviceSpec, KernelError, Machine, Topology, uapi

PCI, MTTY = "/sys/bus/pci", "/sys/class/mdev_bus/mtty/mdev_supported_types"
SLOT_A, SLOT_B, NVME = "0000:02:00.0", "0000:02:00.1", "0000:01:00.0"


def bound(machine: Machine, node: str):
    """A program that has bound a device, and the descriptors of both."""
    p = machine.process("p")
    dev, iommu = p.open(f"/dev/vfio/devices/{node}"), p.open("/dev/iommu")
    p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    return p, dev


@pytest.fixture
def m() -> Machine:
    return Machine("lab", trace=False)


def test_the_first_function_of_a_slot_has_a_way_to_be_reset_that_does_not_work_while_the_second_is_there(m):
    p = m.process("p")
    assert p.read_file(f"{PCI}/devices/{SLOT_A}/reset_method") == b"bus\n"
    assert refused(p.stat, f"{PCI}/devices/{SLOT_B}/reset_method") == "ENOENT"
    assert refused(p.write_file, f"{PCI}/devices/{SLOT_A}/reset", "1") == "ENOTTY"
    p.write_file(f"{PCI}/devices/{SLOT_B}/remove", "1")
    assert p.write_file(f"{PCI}/devices/{SLOT_A}/reset", "1") == 1


def test_a_bind_is_refused_for_the_lock_even_where_get_info_shows_no_reset(m):
    p = m.process("p")
    dev, iommu = p.open("/dev/vfio/devices/vfio5"), p.open("/dev/iommu")
    m.process("admin").start("write_file", f"{PCI}/drivers/vfio-pci/unbind", SLOT_A)
    with pytest.raises(KernelError, match="admin has the lock of device slotA") as told:
        p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    assert told.value.check == "device_lock_free"
    p.close(dev)
    assert m.check() == []


def test_a_function_whose_ways_to_be_reset_were_taken_away_binds_without_a_reset(m):
    m.process("admin").write_file(f"{PCI}/devices/{NVME}/reset_method", "\n")
    p, dev = bound(m, "vfio2")
    info = uapi.VfioDeviceInfo()
    p.ioctl(dev, uapi.VFIO_DEVICE_GET_INFO, info)
    assert not info.flags & uapi.VFIO_DEVICE_FLAGS_RESET
    assert refused(p.ioctl, dev, uapi.VFIO_DEVICE_RESET) == "EINVAL"


@pytest.mark.parametrize(
    ("text", "answer"),
    [("flr", 3), ("bus flr\n", 8), ("default", 7), ("pm", "EINVAL"), ("nonsense", "EINVAL"), ("\n", 1)],
)
def test_only_ways_that_the_hardware_has_are_taken_for_a_reset(m, text, answer):
    p = m.process("p")
    path = f"{PCI}/devices/{NVME}/reset_method"
    assert (refused(p.write_file, path, text) if isinstance(answer, str) else p.write_file(path, text)) == answer


def test_a_hot_reset_is_refused_while_another_reset_has_the_registers(m):
    p, dev = bound(m, "vfio2")
    other = p.start("ioctl", dev, uapi.VFIO_DEVICE_RESET, run=False)
    core = m.built.vfio_devices["pci2"].driver_data.value
    while core.memory_lock.holder is None:
        other.step()
    assert refused(p.ioctl, dev, uapi.VFIO_DEVICE_PCI_HOT_RESET, uapi.VfioPciHotReset()) == "EBUSY"
    other.run()
    assert other.result == 0


# ---- without an IOMMU

BARE = Topology(
    "no IOMMU",
    (
        DeviceSpec("nic", "0000:01:00.0", -2, driver="igb"),
        DeviceSpec("card", "0000:02:00.0", -2),
        DeviceSpec("tty", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 0, bus="mdev", driver="mtty"),
    ),
)


def test_a_machine_without_an_iommu_boots_and_vfio_pci_is_refused_every_device_of_it():
    m = Machine(BARE)
    p = m.process("p")
    assert m.built.devices["card"].driver.value is None
    p.write_file(f"{PCI}/drivers/igb/unbind", "0000:01:00.0")
    p.write_file(f"{PCI}/devices/0000:01:00.0/driver_override", "vfio-pci")
    with pytest.raises(OSError, match="enable_unsafe_noiommu_mode"):
        p.write_file(f"{PCI}/drivers/vfio-pci/bind", "0000:01:00.0")
    assert p.listdir("/dev/vfio") == ("0", "devices", "vfio")  # a mediated device does no DMA
    assert m.check() == []


def test_with_unsafe_mode_it_can_be_used_and_its_group_goes_with_the_driver():
    m = Machine(BARE)
    p = m.process("p")
    p.write_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "yes")
    assert p.read_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") == b"Y\n"
    before = set(m.engine.objects)
    p.write_file(f"{PCI}/drivers/vfio-pci/bind", "0000:02:00.0")
    assert p.readlink(f"{PCI}/devices/0000:02:00.0/iommu_group").endswith("/1")
    p.close(p.open("/dev/vfio/noiommu-1"))
    p.write_file(f"{PCI}/drivers/vfio-pci/unbind", "0000:02:00.0")
    assert refused(p.readlink, f"{PCI}/devices/0000:02:00.0/iommu_group") == "ENOENT"
    assert set(m.engine.objects) == before


@pytest.mark.parametrize("text", ["2", "", "ja", "o"])
def test_a_parameter_that_is_yes_or_no_takes_nothing_else(text):
    p = Machine(BARE).process("p")
    path = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
    assert (p.write_file(path, text) if not text else refused(p.write_file, path, text)) == ("EINVAL" if text else 0)


# ---- what runs out


def test_the_ports_of_mtty_come_back_with_the_memory_of_a_device(m):
    p = m.process("p")
    uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa10{:02}".format
    for number in range(10, 20):
        p.write_file(f"{MTTY}/mtty-2/create", uuid(number))
    assert p.read_file(f"{MTTY}/mtty-1/available_instances") == b"1\n"
    with pytest.raises(OSError, match="24 serial ports, and 1 of them are free"):
        p.write_file(f"{MTTY}/mtty-2/create", uuid(20))
    assert refused(p.stat, f"/sys/bus/mdev/devices/{uuid(20)}") == "ENOENT"
    p.write_file(f"/sys/bus/mdev/devices/{uuid(10)}/remove", "1")
    assert p.write_file(f"{MTTY}/mtty-2/create", uuid(20)) == 36
    assert m.check() == []


@pytest.mark.parametrize(
    ("text", "answer"), [("0x10", 4), ("4294967295", 10), ("4294967296", "ERANGE"), ("-1", "EINVAL")]
)
def test_how_many_mappings_a_new_container_may_have_is_a_number_of_32_bits(m, text, answer):
    p, path = m.process("p"), "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
    assert (refused(p.write_file, path, text) if isinstance(answer, str) else p.write_file(path, text)) == answer
