"""The module of a driver is unloaded: what refuses it, what it waits for, and what is gone afterwards."""

from __future__ import annotations

import errno

import pytest

from vfiosim import KernelError, Machine, Unsupported, uapi
from vfiosim.explore import Result
from vfiosim.machine import Process
from vfiosim.puzzles import PUZZLES

NODE, PCI0 = "/dev/vfio/devices/vfio0", "0000:01:00.0"
DRIVER = "/sys/bus/pci/drivers/vfio-pci"


def program_and_admin() -> tuple[Machine, Process, Process]:
    machine = Machine()
    return machine, machine.process("vmm"), machine.process("root")


def bind(process: Process) -> int:
    """The process opens the first device and binds it; the answer is the descriptor."""
    device, iommufd = process.open(NODE), process.open("/dev/iommu")
    process.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    return device


def test_a_module_whose_device_is_bound_is_in_use_and_cannot_be_unloaded() -> None:
    machine, vmm, root = program_and_admin()
    device = bind(vmm)
    with pytest.raises(KernelError) as refused:
        root.rmmod("vfio-pci")
    assert (refused.value.errno, refused.value.check) == (errno.EWOULDBLOCK, "module_unused")
    vmm.close(device)
    assert root.rmmod("vfio-pci") == 0
    assert machine.check() == []


def test_an_open_node_without_a_bind_does_not_hold_the_module_so_unloading_begins_and_waits_for_its_close() -> None:
    machine, vmm, root = program_and_admin()
    device = vmm.open(NODE)
    call = root.start("rmmod", "vfio-pci")
    assert call.state == "blocked"
    assert "vfio0" in call.waits_for
    vmm.close(device)
    assert (call.state, call.result) == ("done", 0)
    assert machine.check() == []


def test_what_was_opened_before_the_module_goes_can_no_longer_be_bound() -> None:
    _, vmm, root = program_and_admin()
    device, iommufd = vmm.open(NODE), vmm.open("/dev/iommu")
    root.start("rmmod", "vfio-pci")
    with pytest.raises(KernelError) as refused:
        vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    assert (refused.value.errno, refused.value.check) == (errno.ENODEV, "driver_stays_loaded")


def test_when_the_module_is_gone_so_are_its_nodes_its_files_in_sysfs_and_its_name() -> None:
    machine, vmm, root = program_and_admin()
    assert root.rmmod("vfio_pci") == 0  # both spellings are right
    assert root.listdir("/dev/vfio/devices") == ("vfio4",)  # that of the other driver
    for path in (f"{DRIVER}/bind", f"/sys/bus/pci/devices/{PCI0}/driver/unbind"):
        with pytest.raises(KernelError) as refused:
            root.write_file(path, PCI0)
        assert refused.value.errno == errno.ENOENT
    with pytest.raises(KernelError) as refused:
        root.rmmod("vfio-pci")
    assert refused.value.errno == errno.ENOENT
    assert machine.check() == []
    assert "driver vfio-pci" not in machine.engine.objects
    assert vmm.open("/dev/iommu")


def test_a_device_without_its_driver_can_be_offered_to_the_bus_and_stays_alone() -> None:
    machine, _, root = program_and_admin()
    root.rmmod("vfio-pci")
    root.write_file("/sys/bus/pci/drivers_probe", PCI0)
    assert machine.built.devices["nic"].driver.value is None


def test_only_who_has_the_capability_may_unload_a_module() -> None:
    _, vmm, _ = program_and_admin()
    vmm.capdrop("CAP_SYS_MODULE")
    with pytest.raises(KernelError) as refused:
        vmm.rmmod("vfio-pci")
    assert refused.value.errno == errno.EPERM


def test_a_module_that_is_going_is_busy() -> None:
    _, vmm, root = program_and_admin()
    vmm.open(NODE)
    root.start("rmmod", "vfio-pci")
    with pytest.raises(KernelError) as refused:
        root.rmmod("vfio-pci")
    assert (refused.value.errno, refused.value.check) == (errno.EBUSY, "module_is_live")


@pytest.mark.parametrize("name", ["iommufd", "kvm", "ahci", "mtty"])
def test_other_modules_are_not_modelled_and_that_is_said(name: str) -> None:
    _, _, root = program_and_admin()
    with pytest.raises(Unsupported, match=name):
        root.rmmod(name)


def test_unloading_waits_for_whoever_takes_the_driver_from_a_device_by_hand() -> None:
    machine, vmm, root = program_and_admin()
    device = vmm.open(NODE)
    unbind = machine.process("other").start("write_file", f"{DRIVER}/unbind", PCI0)
    call = root.start("rmmod", "vfio-pci")
    assert (unbind.state, call.state) == ("blocked", "blocked")
    assert "driver_private vfio-pci.unused" in call.waits_for
    vmm.close(device)
    assert (unbind.result, call.result) == (len(PCI0), 0)


def test_who_has_opened_bind_of_a_driver_that_is_unloaded_then_is_told_that_it_is_gone() -> None:
    machine, _, root = program_and_admin()
    root.write_file(f"{DRIVER}/unbind", PCI0)
    late = machine.process("other").start("write_file", f"{DRIVER}/bind", PCI0, run=False)
    while late.thread.pending is not None and late.thread.pending[0].__name__ != "get_unless_zero":
        late.step()
    assert root.rmmod("vfio-pci") == 0
    late.run()
    assert isinstance(late.error, KernelError)
    assert (late.error.errno, late.error.check) == (errno.ENODEV, "file_is_active")
    assert machine.check() == []


def test_an_open_that_fails_while_the_node_goes_lets_go_of_the_node() -> None:
    """The last one to let go of a node is who has just been refused: with it the device's memory goes."""
    machine, vmm, root = program_and_admin()
    late = vmm.start("open", NODE, run=False)
    cdev = machine.built.vfio_devices["nic"].cdev
    assert cdev is not None
    while len(cdev.kobj.held) < 2:
        late.step()
    root.write_file(f"{DRIVER}/unbind", PCI0)
    assert "vfio_device vfio0" in machine.engine.objects
    late.run()
    assert isinstance(late.error, KernelError)
    assert late.error.errno == errno.ENODEV
    assert "vfio_device vfio0" not in machine.engine.objects


# ---- R24: what protects, and from what


def outcomes(result: Result, thread: str) -> set[str]:
    """How the calls of a thread can end."""
    return {", ".join(dict(outcome)[thread]) for outcome in result.outcomes}


@pytest.mark.one_python
def test_without_the_modules_reference_unloading_is_never_refused_and_yet_nothing_is_used_after_its_end() -> None:
    """It is the registration that keeps the code; the reference of the module makes rmmod say no instead of waiting."""
    puzzle = PUZZLES["R24"]
    result = puzzle.explore(("open",), puzzle.fixes)
    assert result.complete
    assert "EAGAIN" not in outcomes(result, "A")
    assert [one.what.partition(":")[0] for one in result.violations] == ["never happens"] * 2


@pytest.mark.one_python
def test_with_neither_reference_nor_registration_a_bind_goes_on_without_a_driver() -> None:
    puzzle = PUZZLES["R24"]
    result = puzzle.explore(("open", "an open file"))
    assert "oops: B#2 reads module through a null pointer" in [one.what for one in result.violations]


@pytest.mark.one_python
def test_as_it_is_only_the_last_put_of_the_node_comes_too_late() -> None:
    result = PUZZLES["R24"].explore()
    assert result.complete
    assert {one.what.split(" touches ")[1] for one in result.violations} == {"driver vfio-pci.code"}
