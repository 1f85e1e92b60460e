"""Devices come and go: drivers, sysfs, processes, regions, interrupts, resets."""

from __future__ import annotations

import pytest

from tests.calls import refused
from vfiosim import Machine, uapi
from vfiosim.kernel.fs.file import O_RDWR
from vfiosim.topology import DeviceSpec, Topology
from vfiosim.uapi import (
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_DEVICE_GET_INFO,
    KernelError,
    VfioDeviceBindIommufd,
    VfioDeviceInfo,
)

PCI = "/sys/bus/pci"
UNBIND, BIND = f"{PCI}/drivers/vfio-pci/unbind", f"{PCI}/drivers/vfio-pci/bind"
PCI0, MIXB = "0000:00:04.0", "0000:00:07.1"
NODE = "/dev/vfio/devices/vfio0"


@pytest.fixture
def m() -> Machine:
    return Machine(topology="lab")


def bound(p, node: str = NODE) -> tuple[int, int]:
    """A device that is bound to a new iommufd."""
    iommufd, fd = p.open("/dev/iommu"), p.open(node)
    p.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd(iommufd=iommufd))
    return iommufd, fd


# ---- drivers come and go


def test_unbinding_an_unused_device_takes_both_nodes_away(m):
    p = m.process("p")
    assert p.write_file(UNBIND, PCI0) == len(PCI0)
    assert refused(p.open, NODE) == "ENOENT"
    assert refused(p.open, "/dev/vfio/1") == "ENOENT"
    assert m.check() == []


def test_the_unbind_waits_for_an_open_file_and_says_so(m):
    user, admin = m.process("user"), m.process("admin")
    fd = user.open(NODE)
    call = admin.start("write_file", UNBIND, PCI0)
    m.sleep(25_000)
    assert call.state == "blocked"
    assert "vfio_device vfio0.comp" in call.waits_for
    user.close(fd)
    assert call.value() == len(PCI0)
    assert m.check() == []


def test_a_bound_file_works_on_while_its_driver_waits(m):
    user, admin = m.process("user"), m.process("admin")
    _, fd = bound(user)
    call = admin.start("write_file", UNBIND, PCI0)
    assert user.ioctl(fd, VFIO_DEVICE_GET_INFO, VfioDeviceInfo()) == 0
    assert refused(user.open, NODE) == "ENOENT"
    user.exit()
    assert call.state == "done"


def test_a_driver_that_comes_back_gets_the_lowest_free_number(m):
    p = m.process("p")
    p.write_file(UNBIND, PCI0)
    p.write_file(UNBIND, "0000:00:05.0")
    p.write_file(BIND, "0000:00:05.0")
    assert p.listdir(f"{PCI}/devices/0000:00:05.0/vfio-dev") == ("vfio0",)
    assert m.check() == []


def test_a_group_that_comes_back_is_a_new_one_beside_the_dead_file(m):
    p = m.process("p")
    p.open("/dev/vfio/1")
    p.write_file(UNBIND, PCI0)
    p.write_file(BIND, PCI0)
    p.open("/dev/vfio/1")
    assert refused(p.open, "/dev/vfio/1") == "EBUSY"
    assert m.check() == []


def test_a_kernel_driver_cannot_come_while_user_space_owns_the_group(m):
    p = m.process("p")
    p.write_file(f"{PCI}/drivers/virtio-pci/unbind", MIXB)
    _, fd = bound(p, "/dev/vfio/devices/vfio7")
    assert refused(p.write_file, f"{PCI}/drivers/virtio-pci/bind", MIXB) == "EBUSY"
    assert m.built.devices["mixB"].driver.value is None
    p.close(fd)
    assert p.write_file(f"{PCI}/drivers/virtio-pci/bind", MIXB) == len(MIXB)
    assert m.check() == []


@pytest.mark.parametrize(
    ("path", "data", "errno"),
    [
        (UNBIND, "0000:00:1f.0", "ENODEV"),
        (UNBIND, MIXB, "ENODEV"),
        (BIND, PCI0, "EBUSY"),
        (BIND, MIXB, "ENODEV"),
        (f"{PCI}/drivers/nvme/bind", PCI0, "ENOENT"),
        (f"{PCI}/drivers_probe", "0000:00:1f.0", "ENODEV"),
    ],
)
def test_a_file_of_a_driver_refuses_what_does_not_fit(m, path, data, errno):
    assert refused(m.process("p").write_file, path, data) == errno


def test_a_named_driver_takes_the_device_of_a_kernel_driver(m):
    p = m.process("p")
    p.write_file(f"{PCI}/drivers/virtio-pci/unbind", MIXB)
    p.write_file(f"{PCI}/devices/{MIXB}/driver_override", "vfio-pci")
    p.write_file(f"{PCI}/drivers_probe", MIXB)
    assert p.readlink(f"{PCI}/devices/{MIXB}/driver").endswith("/vfio-pci")
    assert m.check() == []


def test_a_removed_function_is_found_again_by_a_rescan_without_a_driver(m):
    p = m.process("p")
    p.write_file(f"{PCI}/devices/{PCI0}/remove", "1")
    assert refused(p.stat, f"{PCI}/devices/{PCI0}") == "ENOENT"
    p.write_file(f"{PCI}/rescan", "1")
    assert refused(p.readlink, f"{PCI}/devices/{PCI0}/driver") == "ENOENT"
    assert p.readlink(f"{PCI}/devices/{PCI0}/iommu_group").endswith("/1")


def test_a_mediated_device_is_made_and_taken_away_by_hand(m):
    p, uuid = m.process("p"), "83b8f4f2-509f-382f-3c1e-e6bfe0fa1003"
    create = "/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create"
    assert p.write_file(create, uuid) == 36
    assert refused(p.write_file, create, uuid) == "EEXIST"
    assert refused(p.write_file, create, "no uuid") == "EINVAL"
    p.close(p.open("/dev/vfio/devices/vfio10"))
    p.write_file(f"/sys/bus/mdev/devices/{uuid}/remove", "1")
    assert refused(p.open, "/dev/vfio/devices/vfio10") == "ENOENT"
    assert m.check() == []


def test_a_process_that_waits_in_an_unplug_cannot_be_killed(m):
    user, admin = m.process("user"), m.process("admin")
    fd = user.open(NODE, O_RDWR)
    call = admin.start("write_file", UNBIND, PCI0)
    admin.kill()
    assert admin.task.alive.value
    user.close(fd)
    assert call.state == "done"
    assert not admin.task.alive.value


def test_a_second_unbind_waits_for_the_lock_of_the_device_and_then_finds_nothing_to_do(m):
    user, admin = m.process("user"), m.process("admin")
    fd = user.open(NODE)
    first, second = admin.start("write_file", UNBIND, PCI0), admin.start("write_file", UNBIND, PCI0)
    assert "device pci0.lock, held by admin:1" in second.waits_for
    user.close(fd)
    assert (first.value(), second.value()) == (len(PCI0), len(PCI0))
    assert m.check() == []


def test_everything_is_as_it_was_after_the_driver_went_and_came_back(m):
    p = m.process("p")
    before = sorted(m.built.devtmpfs.nodes.slots)
    p.write_file(UNBIND, PCI0)
    p.write_file(BIND, PCI0)
    assert sorted(m.built.devtmpfs.nodes.slots) == before
    assert len(m.built.vfio_devices) == len(before) - 3 - len(m.built.vfio_groups)
    bound(p)
    assert m.check() == []


# ---- regions, interrupts, resets


def irqs(p, fd, index, flags, start=0, count=1, data=b""):
    return p.ioctl(fd, uapi.VFIO_DEVICE_SET_IRQS, irq_set(index, flags, start, count, data))


def irq_set(index, flags, start, count, data) -> bytearray:
    head = uapi.VfioIrqSet(argsz=20 + len(data), flags=flags, index=index, start=start, count=count)
    return bytearray(bytes(head)[:20] + data)


TRIGGER = uapi.VFIO_IRQ_SET_ACTION_TRIGGER
EVENTFD, BY_HAND = uapi.VFIO_IRQ_SET_DATA_EVENTFD | TRIGGER, uapi.VFIO_IRQ_SET_DATA_NONE | TRIGGER
REQ, MSI, INTX = uapi.VFIO_PCI_REQ_IRQ_INDEX, uapi.VFIO_PCI_MSI_IRQ_INDEX, uapi.VFIO_PCI_INTX_IRQ_INDEX


def fd_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little", signed=True) for number in numbers)


def test_a_driver_that_wants_to_leave_signals_the_request_interrupt_every_ten_seconds(m):
    user, admin = m.process("user"), m.process("admin")
    _, fd = bound(user)
    ev = user.eventfd()
    irqs(user, fd, REQ, EVENTFD, data=fd_bytes(ev))
    assert user.poll(ev) == 0
    call = admin.start("write_file", UNBIND, PCI0)
    assert user.read(ev, 8) == (1).to_bytes(8, "little")
    m.sleep(10_000)
    assert user.read(ev, 8) == (1).to_bytes(8, "little")
    user.close(fd)
    assert call.state == "done"
    assert m.check() == []


def test_an_eventfd_that_signals_an_interrupt_outlives_its_descriptor(m):
    p = m.process("p")
    _, fd = bound(p)
    ev = p.eventfd()
    irqs(p, fd, MSI, EVENTFD, data=fd_bytes(ev))
    p.close(ev)
    assert "eventfd 1" in m.engine.objects
    irqs(p, fd, MSI, BY_HAND)
    p.close(fd)
    assert "eventfd 1" not in m.engine.objects
    assert m.check() == []


@pytest.mark.parametrize(
    ("index", "flags", "count", "data", "errno"),
    [
        (REQ, EVENTFD, 1, fd_bytes(777), "EBADF"),
        (REQ, EVENTFD, 1, fd_bytes(1), "EINVAL"),
        (REQ, EVENTFD, 1, fd_bytes(-2), "EINVAL"),
        (REQ, EVENTFD, 1, b"", "EINVAL"),
        (REQ, BY_HAND, 1, b"", "EINVAL"),
        (REQ, EVENTFD, 2, fd_bytes(1, 1), "EINVAL"),
        (REQ, uapi.VFIO_IRQ_SET_DATA_NONE | uapi.VFIO_IRQ_SET_ACTION_MASK, 1, b"", "ENOTTY"),
        (MSI, BY_HAND, 1, b"", "EINVAL"),
        (uapi.VFIO_PCI_NUM_IRQS, BY_HAND, 1, b"", "EINVAL"),
        (uapi.VFIO_PCI_MSIX_IRQ_INDEX, EVENTFD, 1, fd_bytes(1), "EINVAL"),
    ],
)
def test_set_irqs_refuses_and_leaves_nothing_behind(m, index, flags, count, data, errno):
    p = m.process("p")
    _, fd = bound(p)
    assert refused(irqs, p, fd, index, flags, 0, count, data) == errno
    p.exit()
    assert m.check() == []


def test_only_one_kind_of_interrupt_is_enabled_at_a_time(m):
    p = m.process("p")
    _, fd = bound(p)
    ev = p.eventfd()
    irqs(p, fd, MSI, EVENTFD, data=fd_bytes(ev))
    assert refused(irqs, p, fd, INTX, EVENTFD, 0, 1, fd_bytes(ev)) == "EINVAL"
    irqs(p, fd, MSI, BY_HAND, count=0)
    assert irqs(p, fd, INTX, EVENTFD, data=fd_bytes(ev)) == 0


def test_a_region_can_be_read_only_behind_the_gate(m):
    p = m.process("p")
    fd = p.open(NODE)
    assert refused(p.pread, fd, 4, 7 << 40) == "EINVAL"
    iommufd = p.open("/dev/iommu")
    p.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd(iommufd=iommufd))
    assert p.pread(fd, 4, 7 << 40) == bytes.fromhex("3412e811")


def test_a_hot_reset_needs_every_function_that_it_hits(m):
    user, other = m.process("user"), m.process("other")
    _, fd = bound(user, "/dev/vfio/devices/vfio5")
    reset = uapi.VFIO_DEVICE_PCI_HOT_RESET
    assert user.ioctl(fd, reset, uapi.VfioPciHotReset()) == 0  # the neighbour is in the same, owned group
    other.write_file(UNBIND, "0000:02:00.1")
    assert refused(user.ioctl, fd, reset, uapi.VfioPciHotReset()) == "EINVAL"
    assert refused(user.ioctl, fd, reset, uapi.VfioPciHotReset(flags=1)) == "EINVAL"


def test_the_list_of_a_hot_reset_needs_room(m):
    p = m.process("p")
    _, fd = bound(p, "/dev/vfio/devices/vfio5")
    info = uapi.VfioPciHotResetInfo()
    assert refused(p.ioctl, fd, uapi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) == "ENOSPC"
    assert info.count == 2


# ---- processes: mappings, files that travel, rights, limits, exec


def test_a_mapping_keeps_the_device_bound_until_it_goes(m):
    p, other = m.process("p"), m.process("other")
    _, fd = bound(p)
    address = p.mmap(8192, fd=fd)
    p.close(fd)
    assert refused(bound, other) == "EINVAL"
    p.munmap(address, 4096)
    assert refused(bound, other) == "EINVAL"  # the second page still holds the file
    p.munmap(address + 4096, 4096)
    bound(other)
    assert m.check() == []


def test_the_end_of_a_process_ends_its_mappings(m):
    p = m.process("p")
    _, fd = bound(p)
    p.mmap(4096, fd=fd)
    p.kill()
    bound(m.process("other"))
    assert m.check() == []


def test_a_forked_child_holds_what_its_parent_has_mapped(m):
    p = m.process("p")
    _, fd = bound(p)
    p.mmap(4096, fd=fd)
    child = p.fork("child")
    p.exit()
    child.close(fd)
    assert refused(bound, m.process("other")) == "EINVAL"
    child.exit()
    assert m.check() == []


def test_a_file_that_travels_is_held_by_the_message(m):
    p = m.process("p")
    first, second = p.socketpair()
    child = p.fork("child")
    _, fd = bound(p)
    p.sendmsg_fds(first, [fd])
    p.exit()
    assert refused(bound, m.process("other")) == "EINVAL"
    (received,) = child.recvmsg_fds(second)
    assert child.ioctl(received, VFIO_DEVICE_GET_INFO, VfioDeviceInfo()) == 0
    child.exit()
    assert m.check() == []


def test_a_message_that_nobody_receives_lets_go_of_its_files_with_the_socket(m):
    p = m.process("p")
    first, second = p.socketpair()
    _, fd = bound(p)
    p.sendmsg_fds(first, [fd])
    p.close(fd)
    p.close(second)
    bound(m.process("other"))
    assert refused(p.sendmsg_fds, first, [first]) == "EPIPE"
    assert m.check() == []


def test_receiving_waits_for_a_message(m):
    p, other = m.process("p"), None
    first, second = p.socketpair()
    other = p.fork("other")
    call = other.start("recvmsg_fds", second)
    assert call.state == "blocked"
    p.sendmsg_fds(first, [first])
    assert call.value() == (5,)


def test_another_user_cannot_open_the_node_but_use_what_it_inherited(m):
    p = m.process("p")
    fd = p.open(NODE)
    p.setuid(1000)
    assert refused(p.open, NODE) == "EACCES"
    iommufd = p.open("/dev/iommu")
    assert p.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd(iommufd=iommufd)) == 0
    assert refused(p.setuid, 0) == "EPERM"


def test_a_limit_on_files_holds_for_the_next_open(m):
    p = m.process("p")
    p.setrlimit(7, 4, 4)
    p.open(NODE)
    assert refused(p.open, NODE) == "EMFILE"
    assert refused(p.setrlimit, 7, 5, 4) == "EINVAL"
    p.capdrop("CAP_SYS_RESOURCE")
    assert refused(p.setrlimit, 7, 4, 5) == "EPERM"


def test_the_limits_of_another_process_are_those_of_its_own_user(m):
    p, other = m.process("p"), m.process("other")
    assert p.prlimit("other", 7, 4, 4) == (1024, 4096)
    other.open(NODE)
    assert refused(other.open, NODE) == "EMFILE"
    other.setuid(1000)
    with pytest.raises(KernelError, match="process p runs as user 0, the caller as 1000, without CAP_SYS_RESOURCE"):
        other.prlimit("p", 8)
    other.exit()
    assert refused(p.prlimit, "other", 8) == "ESRCH"


def test_exec_closes_the_vm_and_keeps_the_device(m):
    p = m.process("p")
    _, fd = bound(p)
    kvm = p.open("/dev/kvm")
    p.ioctl(kvm, uapi.KVM_CREATE_VM)
    assert m.kvm_live() == 1
    p.exec()
    assert m.kvm_live() == 0
    assert p.ioctl(fd, VFIO_DEVICE_GET_INFO, VfioDeviceInfo()) == 0
    assert p.dup(kvm) == 6


# ---- virtual functions

PF, VF = "0000:04:00.0", "0000:04:00.1"
TOKEN, OTHER = b"\x11" * 16, b"\x22" * 16


@pytest.fixture
def card() -> Machine:
    """A network card, vfio0, with two virtual functions, vfio1 and vfio2."""
    spec = DeviceSpec("card", PF, 1, dev_set="bus 0000:04", vfs=2)
    m = Machine(Topology("card", (spec,)))
    m.process("boot").write_file(f"{PCI}/devices/{PF}/sriov_numvfs", "2")
    return m


def bind_with(p, number: int, token: bytes | None = None):
    fd, iommufd = p.open(f"/dev/vfio/devices/vfio{number}"), p.open("/dev/iommu")
    where = p.memory.map(16, token or b"")
    flags = uapi.VFIO_DEVICE_BIND_FLAG_TOKEN if token else 0
    argument = VfioDeviceBindIommufd(iommufd=iommufd, flags=flags, token_uuid_ptr=where)
    try:
        p.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, argument)
    except KernelError:
        p.close(fd)
        raise
    return fd


def test_a_virtual_function_needs_the_token_of_its_physical_one(card):
    p = card.process("p")
    assert refused(bind_with, p, 1) == "EACCES"
    assert refused(bind_with, p, 1, TOKEN) == "EACCES"
    bind_with(p, 0, TOKEN)
    assert refused(bind_with, p, 1, OTHER) == "EACCES"
    bind_with(p, 1, TOKEN)
    assert card.check() == []


def test_the_token_is_fixed_while_a_virtual_function_is_open(card):
    p = card.process("p")
    pf = bind_with(p, 0, TOKEN)
    vf = bind_with(p, 1, TOKEN)
    p.close(pf)
    assert refused(bind_with, p, 0) == "EACCES"
    assert refused(bind_with, p, 0, OTHER) == "EACCES"
    p.close(vf)
    bind_with(p, 0, OTHER)
    bind_with(p, 1, OTHER)
    assert card.check() == []


def test_taking_virtual_functions_away_waits_for_their_users(card):
    p, admin = card.process("p"), card.process("admin")
    bind_with(p, 0, TOKEN)
    vf = bind_with(p, 2, TOKEN)
    numvfs = f"{PCI}/devices/{PF}/sriov_numvfs"
    assert refused(admin.write_file, numvfs, "1") == "EBUSY"
    assert refused(admin.write_file, numvfs, "3") == "ERANGE"
    call = admin.start("write_file", numvfs, "0")
    assert call.state == "blocked"
    assert sorted(card.built.vfio_devices) == ["card", "card.vf1"]
    p.close(vf)
    assert call.value() == 1
    assert sorted(card.built.vfio_devices) == ["card"]
    assert card.check() == []


def test_unbinding_the_physical_function_takes_the_virtual_ones_with_it(card):
    card.process("p").write_file(UNBIND, PF)
    assert card.built.vfio_devices == {}
    assert sorted(card.built.devices) == ["card"]
    assert card.check() == []


def test_a_device_that_is_removed_twice_at_once_goes_once(m):
    first, second = m.process("first"), m.process("second")
    path = "/sys/bus/pci/devices/0000:00:05.0/remove"
    calls = [one.start("write_file", path, b"1", run=False) for one in (first, second)]
    while [call for call in calls if call.step()]:
        pass
    for call in calls:
        call.run()
    assert [call.state for call in calls] == ["done", "done"]
    assert m.check() == []
