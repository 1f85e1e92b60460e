"""What is written into files of /sys, beyond what recordings ask: who may, how a text is read, what a waiting removal leaves."""

from __future__ import annotations

import pytest

from tests.calls import refused
from vfiosim import Machine

PCI, MDEV = "/sys/bus/pci", "/sys/bus/mdev"
PCI1, MIXB, UUID = "0000:00:05.0", "0000:00:07.1", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2


@pytest.fixture
def m() -> Machine:
    return Machine("lab", trace=False)


@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [("4094 bytes fit", 4094, 4094), ("4095 do not", 4095, "EINVAL"), ("a page is one write", 5000, "EINVAL")],
)
def test_a_driver_override_and_its_newline_must_fit_into_a_page(m, name, size, taken):
    p, path = m.process("p"), f"{PCI}/devices/{PCI1}/driver_override"
    if isinstance(taken, int):
        assert p.write_file(path, "x" * size) == taken
        assert p.read_file(path) == b"x" * size + b"\n"
    else:
        assert refused(p.write_file, path, "x" * size) == taken


def test_only_the_first_line_of_a_driver_override_counts_and_its_blanks_do(m):
    p, path = m.process("p"), f"{PCI}/devices/{PCI1}/driver_override"
    p.write_file(path, " vfio-pci \nother")
    assert p.read_file(path) == b" vfio-pci \n"
    p.write_file(path, "\n")
    assert p.read_file(path) == b"(null)\n"


def test_a_user_without_rights_may_write_only_what_the_group_of_root_may_write(m):
    p = m.process("p")
    p.setuid(1000)
    for path in (f"{PCI}/drivers/vfio-pci/unbind", f"{PCI}/devices/{PCI1}/driver_override", f"{PCI}/rescan"):
        assert refused(p.write_file, path, "0") == "EACCES"
    assert (
        p.write_file(f"{PCI}/devices/{PCI1}/remove", "0") == 1
    )  # its mode is 0220, and the group is still that of root
    assert p.read_file(f"{PCI}/devices/{PCI1}/vendor") == b"0x1b36\n"


def test_a_file_that_can_only_be_written_nobody_opens_for_reading_too(m):
    p = m.process("p")
    assert refused(p.open, f"{PCI}/drivers_probe", O_RDWR) == "EACCES"
    assert refused(p.open, f"{PCI}/devices/{PCI1}/vendor", O_WRONLY) == "EACCES"
    assert refused(p.stat, f"{PCI}/devices/{PCI1}/nosuch") == "ENOENT"
    assert p.stat(f"{PCI}/devices/{PCI1}/remove") == 0o100220


def test_an_open_file_of_sys_is_read_from_where_it_stands(m):
    p = m.process("p")
    fd = p.open(f"{PCI}/devices/{PCI1}/vendor", O_RDONLY)
    assert [p.read(fd, 4), p.read(fd, 10), p.read(fd, 10)] == [b"0x1b", b"36\n", b""]
    assert p.pread(fd, 6, 0) == b"0x1b36"


def test_an_open_file_of_a_device_keeps_its_memory_and_is_dead_when_the_device_has_gone(m):
    p = m.process("p")
    fd = p.open(f"{PCI}/devices/{PCI1}/driver_override", O_RDWR)
    p.write_file(f"{PCI}/devices/{PCI1}/remove", "1")
    assert refused(p.write, fd, b"x") == "ENODEV"
    assert refused(p.read, fd, 8) == "ENODEV"
    assert "device pci1" in m.engine.objects
    p.close(fd)
    assert "device pci1" not in m.engine.objects
    assert m.check() == []


def test_a_removal_that_waits_for_a_rescan_by_a_file_of_the_same_device_waits_for_ever(m):
    """The rescan is inside a file of the device and waits for the lock that the removal has; the removal waits for its file."""
    p, a, b = (m.process(name) for name in "pab")
    dev = p.open("/dev/vfio/devices/vfio1")
    remove = a.start("write_file", f"{PCI}/devices/{PCI1}/remove", "1")
    rescan = b.start("write_file", f"{PCI}/devices/{PCI1}/rescan", "1")
    p.close(dev)
    assert (remove.state, rescan.state) == ("blocked", "blocked")
    assert "device pci1.unused" in remove.waits_for


def test_devices_that_appear_are_not_offered_to_drivers_where_that_is_switched_off(m):
    p = m.process("p")
    p.write_file(f"{PCI}/drivers_autoprobe", "0")
    p.write_file(f"{PCI}/devices/{MIXB}/remove", "1")
    p.write_file(f"{PCI}/rescan", "1")
    assert refused(p.readlink, f"{PCI}/devices/{MIXB}/driver") == "ENOENT"
    p.write_file(f"{PCI}/drivers_autoprobe", "yes")
    p.write_file(f"{PCI}/drivers_probe", MIXB)
    assert p.readlink(f"{PCI}/devices/{MIXB}/driver").endswith("/virtio-pci")


@pytest.mark.parametrize(
    ("text", "errno"),
    [
        ("1b36", "EINVAL"),
        ("nonsense", "EINVAL"),
        ("", 0),
        ("1b36 5 ffffffff ffffffff 0 0 1", "EINVAL"),
        ("0x1b36\t5", 8),
    ],
)
def test_new_id_takes_hexadecimal_numbers(m, text, errno):
    p = m.process("p")
    path = f"{PCI}/drivers/vfio-pci/new_id"
    assert (refused(p.write_file, path, text) if isinstance(errno, str) else p.write_file(path, text)) == errno


def test_a_driver_that_learns_an_id_twice_refuses_it_and_forgets_only_what_it_has_learnt(m):
    p = m.process("p")
    files = f"{PCI}/drivers/vfio-pci"
    p.write_file(f"{files}/new_id", "1234 5678")
    assert refused(p.write_file, f"{files}/new_id", "1234 5678") == "EEXIST"
    assert p.write_file(f"{files}/remove_id", "1234 5678") == 9
    assert refused(p.write_file, f"{files}/remove_id", "1234 5678") == "ENODEV"


def test_a_new_id_offers_the_driver_every_device_that_has_none_and_names_it(m):
    p = m.process("p")
    p.write_file(f"{PCI}/drivers/vfio-pci/unbind", PCI1)
    p.write_file(f"{PCI}/drivers/vfio-pci/new_id", "1234 5678")
    assert p.readlink(f"{PCI}/devices/{PCI1}/driver").endswith("/vfio-pci")  # its driver_override says so still


def test_a_second_writer_of_remove_is_done_when_the_first_one_is(m):
    p, a, b = (m.process(name) for name in "pab")
    dev = p.open("/dev/vfio/devices/vfio1")
    calls = [each.start("write_file", f"{PCI}/devices/{PCI1}/remove", "1", run=False) for each in (a, b)]
    for call in calls:
        while call.thread.pending is None or call.thread.pending[0].__name__ != "exchange":
            call.step()
    for call in calls:
        call.run()
    assert [call.state for call in calls] == ["blocked", "blocked"]
    p.close(dev)
    for call in calls:
        call.run()
    assert [call.result for call in calls] == [1, 1]
    assert m.check() == []


def test_why_a_driver_may_not_have_a_device_is_told_by_name(m):
    p = m.process("p")
    p.write_file(f"{PCI}/drivers/vfio-pci/unbind", PCI1)
    for override, said in (("nvme", "names 'nvme'"), ("\n", "does not know devices such as pci1")):
        p.write_file(f"{PCI}/devices/{PCI1}/driver_override", override)
        with pytest.raises(OSError, match=said):
            p.write_file(f"{PCI}/drivers/vfio-pci/bind", PCI1)
    p.write_file(f"{MDEV}/drivers/mtty/unbind", UUID)
    with pytest.raises(OSError, match="from its birth or none"):
        p.write_file(f"{MDEV}/drivers/mtty/bind", UUID)
