"""Configuration space, BARs, DMA and interrupts, as a program meets them; the recordings have the answers, byte by byte."""

from __future__ import annotations

import struct
from ctypes import sizeof
from itertools import pairwise

import pytest

from tests.edu import (
    ACKNOWLEDGE,
    BAR0,
    BUFFER,
    COMMAND,
    CONFIG,
    INTX_DISABLE,
    LINE,
    MASTER,
    MEMORY,
    RAISE,
    copy,
    number,
    put,
)
from vfiosim import Blocked, Machine, Process, Unsupported, uapi
from vfiosim.machine import program_of
from vfiosim.topology import TOPOLOGIES, DeviceSpec, Topology
from vfiosim.uapi import Errno, KernelError

IOAS = 2  # the number of the address space


def bound(device: int = 0, topology: Topology | str = "lab") -> tuple[Process, int, int]:
    """A program with a device that is bound: the program, the device, the iommufd."""
    program = Machine(topology).process("vmm")
    fd, iommu = program.open(f"/dev/vfio/devices/vfio{device}"), program.open("/dev/iommu")
    program.ioctl(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    return program, fd, iommu


def interrupt_to(program: Process, fd: int, index: int) -> int:
    """An eventfd for an interrupt."""
    event = program.eventfd()
    irqs = bytearray(struct.pack("<5Ii", sizeof(uapi.VfioIrqSet) + 4, 36, index, 0, 1, event))
    program.ioctl(fd, uapi.VFIO_DEVICE_SET_IRQS, irqs)
    return event


def unmask(program: Process, fd: int) -> None:
    """Let the line interrupt through again."""
    program.ioctl(fd, uapi.VFIO_DEVICE_SET_IRQS, bytearray(struct.pack("<5I", 20, 17, 0, 0, 1)))


# ---- configuration space


@pytest.mark.parametrize(("device", "size"), [(0, 1 << 20), (1, 4096), (2, 0x4000)])
def test_a_bar_that_is_written_with_ones_tells_its_size(device: int, size: int) -> None:
    program, fd, _ = bound(device)
    put(program, fd, BAR0, 0xFFFFFFFF)
    assert (~number(program, fd, BAR0) & 0xFFFFFFF0) + 16 == size


def test_what_is_written_into_the_copy_is_forgotten_at_the_last_close() -> None:
    program, fd, iommu = bound()
    before = program.pread(fd, 64, CONFIG)
    for at in (COMMAND, BAR0, LINE):
        put(program, fd, at, 0x12345678)
    assert program.pread(fd, 64, CONFIG) != before
    program.close(fd)
    again = program.open("/dev/vfio/devices/vfio0")
    program.ioctl(again, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    assert program.pread(again, 64, CONFIG) == before


def test_what_no_capability_has_stays_for_the_next_program() -> None:
    """The kernel lets a program write there and puts nothing back: a way from one user of a device to the next."""
    program, fd, iommu = bound()
    put(program, fd, CONFIG + 0x80, 0xC0FFEE)
    program.close(fd)
    again = program.open("/dev/vfio/devices/vfio0")
    program.ioctl(again, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    assert number(program, again, CONFIG + 0x80) == 0xC0FFEE


def test_a_function_that_is_switched_off_or_asleep_does_not_answer() -> None:
    program, fd, _ = bound(2)
    asleep, awake = 3, 0
    for at, off, on in ((COMMAND, 0, MEMORY), (CONFIG + 0x64, asleep, awake)):
        put(program, fd, at, off, 2)
        with pytest.raises(KernelError) as refused:
            program.pread(fd, 4, 0)
        assert (refused.value.errno, refused.value.check) == (Errno.EIO, "memory_is_on")
        put(program, fd, at, on, 2)
        assert number(program, fd, 0) == 0x0F0107FF


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_no_two_bars_of_a_machine_lie_at_the_same_address(topology: Topology) -> None:
    ranges = []
    for device in Machine(topology, trace=False).built.devices.values():
        for bar, size in device.hardware.bars.items() if device.bus == "pci" else ():
            at = 16 + 4 * bar
            start = int.from_bytes(device.config[at : at + 4], "little") & ~15
            assert start % size == 0
            ranges.append((bar in device.hardware.ports, start, start + size))
    ranges.sort()
    assert ranges
    assert all(one[2] <= other[1] for one, other in pairwise(ranges) if one[0] == other[0])


# ---- DMA


def mapped() -> tuple[Process, int, int, int]:
    """edu, with a page of memory at the I/O address 0x100000: the program, the device, the iommufd, where the page is."""
    program, fd, iommu = bound()
    ioas = uapi.IommuIoasAlloc()
    program.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    assert ioas.out_ioas_id == IOAS
    program.ioctl(fd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=ioas.out_ioas_id))
    page = program.memory.map(4096, b"secret!!")
    program.ioctl(
        iommu,
        uapi.IOMMU_IOAS_MAP,
        uapi.IommuIoasMap(flags=7, ioas_id=ioas.out_ioas_id, user_va=page, length=4096, iova=0x100000),
    )
    put(program, fd, COMMAND, MEMORY | MASTER, 2)
    return program, fd, iommu, page


def test_a_device_reaches_what_is_mapped_past_the_program() -> None:
    program, fd, _, page = mapped()
    copy(program, fd, 0x100000, BUFFER)
    copy(program, fd, BUFFER, 0x100100)
    assert program.memory.read(page + 0x100, 8) == b"secret!!"


def test_after_an_unmap_the_device_reads_zeros_and_writes_nothing() -> None:
    program, fd, iommu, page = mapped()
    copy(program, fd, 0x100000, BUFFER)
    program.ioctl(iommu, uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap(ioas_id=IOAS, iova=0x100000, length=4096))
    copy(program, fd, BUFFER, 0x100100)
    assert program.memory.read(page + 0x100, 8) == bytes(8)


def test_a_device_that_is_no_master_of_its_bus_writes_nothing() -> None:
    program, fd, _, page = mapped()
    copy(program, fd, 0x100000, BUFFER)
    put(program, fd, COMMAND, MEMORY, 2)
    copy(program, fd, BUFFER, 0x100100)
    assert program.memory.read(page + 0x100, 8) == bytes(8)


# ---- interrupts


def test_a_message_interrupt_needs_a_master_of_the_bus() -> None:
    program, fd, _ = bound()
    event = interrupt_to(program, fd, uapi.VFIO_PCI_MSI_IRQ_INDEX)
    put(program, fd, RAISE, 1)
    assert program.poll(event) == 0
    put(program, fd, COMMAND, MEMORY | MASTER, 2)
    put(program, fd, RAISE, 1)
    assert program.read(event, 8) == (1).to_bytes(8, "little")


def test_a_line_interrupt_is_masked_until_its_user_has_unmasked_it() -> None:
    program, fd, _ = bound()
    event = interrupt_to(program, fd, uapi.VFIO_PCI_INTX_IRQ_INDEX)
    put(program, fd, RAISE, 1)
    assert program.read(event, 8) == (1).to_bytes(8, "little")
    unmask(program, fd)  # and the line is still up
    assert program.read(event, 8) == (1).to_bytes(8, "little")
    put(program, fd, ACKNOWLEDGE, 1)
    unmask(program, fd)
    assert program.poll(event) == 0


def test_a_program_can_switch_the_line_interrupt_off_in_configuration_space() -> None:
    program, fd, _ = bound()
    event = interrupt_to(program, fd, uapi.VFIO_PCI_INTX_IRQ_INDEX)
    put(program, fd, COMMAND, MEMORY | INTX_DISABLE, 2)
    put(program, fd, RAISE, 1)
    assert program.poll(event) == 0
    put(program, fd, COMMAND, MEMORY, 2)
    assert program.poll(event) == 1


# ---- waiting for an eventfd


def test_a_read_of_an_eventfd_waits_until_another_program_has_written_it() -> None:
    reader = Machine().process("reader")
    event = reader.eventfd()
    writer = reader.fork("writer")
    waiting = reader.start("read", event, 8)
    assert waiting.state == "blocked"
    writer.write(event, (5).to_bytes(8, "little"))
    assert waiting.value() == (5).to_bytes(8, "little")


def test_a_poll_with_a_timeout_lets_time_pass_and_one_without_waits_for_ever() -> None:
    program = Machine().process("vmm")
    event, before = program.eventfd(), program.machine.engine.clock
    assert program.poll(event, 1, 250) == 0
    assert program.machine.engine.clock == before + 250
    with pytest.raises(Blocked):
        program.poll(event, 1, -1)


def test_a_device_of_ones_own_has_a_configuration_space_too() -> None:
    program, fd, _ = bound(0, Topology("own", (DeviceSpec("mine", "0000:01:00.0", 1, model="an invention"),)))
    assert number(program, fd, CONFIG) not in (0, 0xFFFFFFFF)
    put(program, fd, BAR0, 0xFFFFFFFF)
    assert number(program, fd, BAR0) == 0xFFFFC000


@pytest.mark.parametrize(("extension", "answer"), [(0, 1), (9, 2), (-1, 0), (1 << 40, 0)])
def test_kvm_answers_for_every_number_what_it_can_do(extension: int, answer: int) -> None:
    program = Machine().process("vmm")
    assert program.ioctl(program.open("/dev/kvm"), uapi.KVM_CHECK_EXTENSION, extension) == answer


# ---- registers that are mapped


def test_a_write_through_a_mapping_is_one_to_the_device_which_interrupts_and_the_run_can_be_told_again() -> None:
    """The recordings u-map-… have the widths, and what happens while the function does not answer."""
    program, fd, _ = bound()
    put(program, fd, COMMAND, MEMORY | MASTER, 2)
    event = interrupt_to(program, fd, uapi.VFIO_PCI_MSI_IRQ_INDEX)
    place = program.mmap(4096, fd=fd)
    program.memory.write(place + RAISE, struct.pack("<I", 1))
    assert program.read(event, 8) == struct.pack("<Q", 1)
    machine = program.machine
    again = machine.branch(len(machine.trace) - 1).processes["vmm"]
    assert again.memory.read(place + 0x24, 4) == program.memory.read(place + 0x24, 4) == struct.pack("<I", 1)
    assert 'start("store"' in program_of(machine)
    with pytest.raises(Unsupported, match="no instruction of a program"):
        program.pread(fd, 4, CONFIG, place)
    assert machine.check() == []
