"""Memory and files from outside: another program can stand behind a simulated process."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.calls import FIRST, FIXED, PAGE, Lab, bind, counts, refused
from tests.calls import READ_WRITE as RW
from vfiosim import KernelError, Machine, uapi
from vfiosim.engine import Engine, OutsideError, call_outside, copy_some_from_user
from vfiosim.run.memory import ProgramMemory

HERE = 0x10000
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="eventfd and memfd are Linux's")


class Pages:
    """Eight real pages at HERE; the last two can only be read. `fault` may be set to spoil one of the methods."""

    def __init__(self) -> None:
        self.bytes = mmap.mmap(-1, 8 * PAGE)
        self.asked: list[tuple[int, int, bool]] = []
        self.fault: dict[str, object] = {}

    def _spoilt(self, name: str):
        wrong = self.fault.get(name)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    def _check(self, address: int, size: int, write: bool) -> None:
        if not self._fits(address, size, write):
            raise OSError(errno.EFAULT, "bad address")

    def _fits(self, address: int, size: int, write: bool) -> bool:
        return address >= HERE and address + size <= HERE + (6 if write else 8) * PAGE

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size, False)
        return self._spoilt("read") or self.bytes[address - HERE : address - HERE + size]

    def write(self, address: int, data: bytes) -> None:
        self._spoilt("write")
        self._check(address, len(data), True)
        self.bytes[address - HERE : address - HERE + len(data)] = data

    def covered(self, address: int, size: int, write: bool) -> bool:
        self._spoilt("covered")
        self.asked.append((address, size, write))
        return self._fits(address, size, write)

    def ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        wrong = self._spoilt("ranges")
        low, high = max(first, HERE), min(end, HERE + 8 * PAGE)
        return wrong or ([(low, high)] if low < high else [])


@pytest.fixture
def m() -> Machine:
    return Machine()


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def p(m, pages):
    return m.process("qemu", memory=pages)


def space(p) -> tuple[int, int]:
    """An iommufd with an address space to which nic is attached, so that mappings are pinned."""
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    ioas = uapi.IommuIoasAlloc()
    p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    p.ioctl(dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=ioas.out_ioas_id))
    return iommu, ioas.out_ioas_id


def map_(p, iommu: int, ioas: int, address: int, length: int, flags: int = RW) -> int:
    argument = uapi.IommuIoasMap(flags=flags, ioas_id=ioas, user_va=address, length=length)
    p.ioctl(iommu, uapi.IOMMU_IOAS_MAP, argument)
    return argument.iova


# ---- memory


def test_the_kernel_reads_and_writes_the_memory_outside(p, pages):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    pages.bytes[:24] = bytes(uapi.VfioDeviceBindIommufd(iommufd=iommu))
    assert p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, HERE) == 0
    assert pages.bytes[12:16] == b"\1\0\0\0"
    assert p.memory.read(HERE + 12, 4) == b"\1\0\0\0"


def test_an_address_that_the_object_refuses_is_a_bad_address(m, p):
    dev, before = p.open("/dev/vfio/devices/vfio0"), counts(m)
    assert refused(p.ioctl, dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, HERE - 4) == "EFAULT"
    assert counts(m) == before
    with pytest.raises(KernelError):
        p.memory.read(HERE - 1, 4)


def test_memory_is_pinned_by_asking_whether_it_is_covered(p, pages):
    iommu, ioas = space(p)
    map_(p, iommu, ioas, HERE + PAGE, 2 * PAGE)
    assert pages.asked == [(HERE + PAGE, 2 * PAGE, True)]
    assert refused(map_, p, iommu, ioas, HERE + 5 * PAGE, 2 * PAGE) == "EFAULT"
    map_(p, iommu, ioas, HERE + 6 * PAGE, 2 * PAGE, uapi.IOMMU_IOAS_MAP_READABLE)
    assert pages.asked[-1] == (HERE + 6 * PAGE, 2 * PAGE, False)
    assert p.machine.check() == []


def test_a_mapping_remembers_the_memory_it_was_made_from_until_it_is_pinned(p, pages):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    ioas = uapi.IommuIoasAlloc()
    p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    map_(p, iommu, ioas.out_ioas_id, HERE, PAGE)
    assert pages.asked == []
    p.ioctl(dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=ioas.out_ioas_id))
    assert pages.asked == [(HERE, PAGE, True)]


def test_buffers_of_calls_lie_where_the_memory_outside_has_nothing(m):
    class Everywhere(Pages):
        def ranges(self, first: int, end: int) -> list[tuple[int, int]]:
            low, high = max(first, 0x7F0000000000), min(end, 0x7F0000100000)
            return [(low, high)] if low < high else []

    p = m.process("full", memory=Everywhere())
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    assert bind(p, dev, iommu) == 1
    assert p.task.mm.value._place == 0x7F0000100000


def test_the_registers_of_a_device_are_mapped_beside_the_memory_outside(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    assert p.mmap(PAGE, fd=dev) >= 0x7F0000000000
    with pytest.raises(KernelError, match="EEXIST"):
        p.mmap(PAGE, fd=dev, address=HERE)


def test_a_container_maps_registers_that_lie_outside_and_charges_the_memory_beside_them_only(m):
    """`follow_fault_pfn` (drivers/vfio/vfio_iommu_type1.c); an iommufd cannot pin them."""

    class WithRegisters(Pages):
        def devices(self, first: int, end: int) -> list[tuple[int, int]]:
            low, high = max(first, HERE + 4 * PAGE), min(end, HERE + 5 * PAGE)
            return [(low, high)] if low < high else []

        def _fits(self, address: int, size: int, write: bool) -> bool:
            return super()._fits(address, size, write) and not self.devices(address, address + size)

    p = m.process("qemu", ("CAP_SYS_RAWIO",), memory=WithRegisters())
    container, group = p.open("/dev/vfio/vfio"), p.open("/dev/vfio/1")
    p.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(container.to_bytes(4, "little")))
    p.ioctl(container, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
    wanted = uapi.VfioIommuType1DmaMap(flags=3, vaddr=HERE + 3 * PAGE, iova=0x100000, size=2 * PAGE)
    assert p.ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, wanted) == 0
    assert p.status()["VmLck"] == 4


def test_kvm_reads_the_memory_outside_too(m, p, pages):
    kvm = p.open("/dev/kvm")
    number = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(number, uapi.KVM_CREATE_DEVICE, wanted)
    dev = p.open("/dev/vfio/devices/vfio0")
    pages.bytes[:4] = dev.to_bytes(4, "little")
    attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=HERE)
    assert p.ioctl(wanted.fd, uapi.KVM_SET_DEVICE_ATTR, attr) == 0
    assert m.check() == []


# ---- what is wrong outside


@pytest.mark.parametrize(
    ("method", "wrong", "told"),
    [
        ("read", ZeroDivisionError("oh"), "read(0x10000, 4) raised ZeroDivisionError: oh"),
        ("read", b"ab", "read(0x10000, 4) gave 2 bytes where 4 bytes were asked for"),
        ("read", 7, "read(0x10000, 4) gave int where 4 bytes were asked for"),
        ("write", KeyError("x"), "write(0x1000c, 4 bytes) raised KeyError: 'x'"),
    ],
)
def test_a_mistake_outside_is_told_in_one_sentence_and_the_kernel_unwinds(m, p, pages, method, wrong, told):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    pages.bytes[:24] = bytes(uapi.VfioDeviceBindIommufd(iommufd=iommu))
    before = counts(m)
    pages.fault[method] = wrong
    with pytest.raises(OutsideError) as caught:
        p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, HERE)
    assert str(caught.value) == f"the memory of 'qemu', kept outside, is at fault: {told}"
    assert counts(m) == before
    assert m.check() == []
    pages.fault.clear()
    assert p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, HERE) == 0


def test_a_mistake_while_pinning_leaves_nothing_pinned(m, p, pages):
    iommu, ioas = space(p)
    before = counts(m)
    pages.fault["covered"] = RuntimeError("no idea")
    with pytest.raises(OutsideError, match=r"covered\(0x10000, 0x1000, True\) raised RuntimeError: no idea"):
        map_(p, iommu, ioas, HERE, PAGE)
    assert counts(m) == before
    assert p.status()["VmPin"] == 0
    assert m.check() == []


def test_a_mistake_in_ranges_stops_a_call_before_it_begins(m, p, pages):
    dev, before = p.open("/dev/vfio/devices/vfio0"), counts(m)
    pages.fault["ranges"] = 5
    with pytest.raises(OutsideError, match="gave int, no pairs of addresses"):
        p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd())
    assert counts(m) == before
    assert m.pending == []


def test_an_object_without_the_four_methods_is_refused(m):
    with pytest.raises(TypeError, match="bytearray has no read, write, covered, ranges"):
        m.process("poor", memory=bytearray(4))
    assert "poor" not in m.processes


def test_what_only_the_owner_of_the_memory_can_do_is_refused(p):
    for call in (
        lambda: p.memory.map(PAGE),
        lambda: p.memory.unmap(HERE, PAGE),
        lambda: p.memory.protect(HERE, PAGE, 1),
        lambda: p.fork("child"),
        p.exec,
    ):
        with pytest.raises(ValueError, match="kept outside of the machine"):
            call()
    assert p.machine.check() == []


def test_a_machine_with_memory_outside_has_no_branch_after_it(m):
    m.process("before").open("/dev/iommu")
    step = len(m.trace) - 1
    m.process("qemu", memory=Pages()).open("/dev/iommu")
    with pytest.raises(
        ValueError, match="cannot be repeated, so it has no branch: the memory of 'qemu' is kept outside"
    ):
        m.branch(len(m.trace) - 1)
    assert set(m.branch(step).processes) == {"before"}


def test_the_process_ends_like_any_other(m, p, pages):
    before = counts(m)
    q = m.process("second", memory=pages)
    iommu, ioas = space(q)
    map_(q, iommu, ioas, HERE, PAGE)
    q.exit()
    assert counts(m) == before
    assert m.check() == []


# ---- files of the host


@pytest.fixture
def real():
    """Real descriptors by kind, closed afterwards."""
    fds = {"eventfd": os.eventfd(0, os.EFD_NONBLOCK), "memfd": os.memfd_create("guest")}
    os.truncate(fds["memfd"], 2 * PAGE)
    yield fds
    for fd in fds.values():
        os.close(fd)


def descriptors_of(fd: int) -> int:
    """How many descriptors this process has for the very file of this one."""

    def identity(fd: str) -> tuple[str, list[str]]:
        """What the file is, an inode or the number of an eventfd."""
        told = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        return os.readlink(f"/proc/self/fd/{fd}"), [line for line in told if line.startswith(("ino:", "eventfd-id:"))]

    found = []
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one by which the directory is read
            found.append(identity(each))
    return found.count(identity(str(fd)))


@linux
def test_an_interrupt_signals_the_real_eventfd(m, real):
    p = m.process("vmm")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    event = p.import_fd(real["eventfd"])
    irqs = bytes(
        uapi.VfioIrqSet(
            argsz=24,
            flags=uapi.VFIO_IRQ_SET_DATA_EVENTFD | uapi.VFIO_IRQ_SET_ACTION_TRIGGER,
            index=uapi.VFIO_PCI_MSI_IRQ_INDEX,
            count=1,
        )
    )
    p.ioctl(dev, uapi.VFIO_DEVICE_SET_IRQS, bytearray(irqs + event.to_bytes(4, "little")))
    p.close(event)  # the interrupt holds it
    fire = uapi.VfioIrqSet(
        argsz=20,
        flags=uapi.VFIO_IRQ_SET_DATA_NONE | uapi.VFIO_IRQ_SET_ACTION_TRIGGER,
        index=uapi.VFIO_PCI_MSI_IRQ_INDEX,
        count=1,
    )
    with pytest.raises(BlockingIOError):
        os.eventfd_read(real["eventfd"])
    for _ in range(3):
        p.ioctl(dev, uapi.VFIO_DEVICE_SET_IRQS, fire)
    assert os.eventfd_read(real["eventfd"]) == 3
    assert any("HostFile.add, outside of the machine" in str(micro) for micro in m.trace.micro)
    assert m.check() == []


@linux
def test_a_full_counter_stays_as_it_is(m, real):
    p = m.process("vmm")
    event = p.import_fd(real["eventfd"])
    os.eventfd_write(real["eventfd"], 2**64 - 2)
    assert p.poll(event, 5) == 1
    with pytest.raises(KernelError, match="waiting for room"):
        p.write(event, (1).to_bytes(8, "little"))
    assert p.read(event, 8) == (2**64 - 2).to_bytes(8, "little")
    assert p.poll(event, 5) == 4
    p.write(event, (5).to_bytes(8, "little"))
    assert os.eventfd_read(real["eventfd"]) == 5


@linux
def test_a_part_of_a_real_memory_file_is_mapped(m, real):
    p = m.process("vmm")
    iommu, ioas = space(p)
    fd = p.import_fd(real["memfd"])

    def map_file(start: int, length: int) -> int:
        argument = uapi.IommuIoasMapFile(flags=RW, ioas_id=ioas, fd=fd, start=start, length=length)
        return p.ioctl(iommu, uapi.IOMMU_IOAS_MAP_FILE, argument)

    assert map_file(PAGE, PAGE) == 0
    assert refused(map_file, PAGE, 2 * PAGE) == "EINVAL"
    os.truncate(real["memfd"], 3 * PAGE)
    assert map_file(PAGE, 2 * PAGE) == 0
    assert m.check() == []


@linux
def test_a_real_memory_file_is_one_and_the_same_memory_however_it_is_reached(m, real):
    """A page of it counts as pinned, is found in the page table, and is read and written there by software."""
    mapped = mmap.mmap(real["memfd"], 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    lab = Lab(m, memory=ProgramMemory(os.getpid()))
    file = lab.p.import_fd(real["memfd"])
    wanted = uapi.IommuIoasMapFile(flags=RW | FIXED, ioas_id=lab.ioas, fd=file, start=PAGE, length=PAGE, iova=FIRST)
    lab.call(wanted, uapi.IOMMU_IOAS_MAP_FILE)
    here = {"check_map__iova": FIRST, "check_map__length": PAGE}
    lab.test("MD_CHECK_MAP", lab.auto, check_map__uptr=address + PAGE, **here)
    assert refused(lab.test, "MD_CHECK_MAP", lab.auto, check_map__uptr=address, **here) == "EINVAL"
    for page, refs in enumerate((0, 1)):
        place = {"check_refs__uptr": address + page * PAGE, "check_refs__length": PAGE}
        lab.test("MD_CHECK_REFS", **place, check_refs__refs=refs)
        assert refused(lab.test, "MD_CHECK_REFS", **place, check_refs__refs=1 - refs) == "EIO"
    access = lab.test("CREATE_ACCESS", lab.ioas).create_access.out_access_fd
    mapped[:4] = b"told"
    whole = {"access_rw__iova": FIRST, "access_rw__length": 4, "access_rw__uptr": address}
    lab.test("ACCESS_RW", access, **whole, access_rw__flags=uapi.MOCK_ACCESS_RW_WRITE)
    assert mapped[PAGE : PAGE + 4] == os.pread(real["memfd"], 4, PAGE) == lab.p.pread(file, 4, PAGE) == b"told"
    assert m.check() == []
    lab.p.exit()
    assert m.check() == []


@linux
@pytest.mark.parametrize("kind", ["eventfd", "memfd"])
def test_the_duplicate_lives_as_long_as_the_file_in_the_machine(m, real, kind):
    p, begin = m.process("vmm"), counts(m)
    assert descriptors_of(real[kind]) == 1
    fd = p.import_fd(real[kind])
    again = p.dup(fd)
    assert descriptors_of(real[kind]) == 2
    p.close(fd)
    assert descriptors_of(real[kind]) == 2
    p.close(again)
    assert descriptors_of(real[kind]) == 1
    assert counts(m) == begin


@linux
def test_closed_descriptors_are_refused(m):
    p, before = m.process("vmm"), counts(m)
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        p.import_fd(read)
    assert counts(m) == before


def test_memory_outside_may_say_what_of_it_belongs_to_a_device(m):
    class WithRegisters(Pages):
        def covered(self, address: int, size: int, write: bool) -> bool:
            return not self.devices(address, address + size)

        def devices(self, first: int, end: int) -> list[tuple[int, int]]:
            return [(HERE, HERE + PAGE)] if first < HERE + PAGE else []

    p = m.process("vmm", memory=WithRegisters())
    iommu, ioas = space(p)
    with pytest.raises(KernelError, match="registers of a device"):
        map_(p, iommu, ioas, HERE, PAGE)


@linux
def test_any_other_file_is_one_that_vfio_knows_nothing_of(m):
    p, (read, write) = m.process("vmm"), os.pipe()
    dev, iommu, pipe = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu"), p.import_fd(read)
    os.close(read)
    os.close(write)
    bind(p, dev, iommu)
    irqs = struct.pack("<5Ii", 24, uapi.VFIO_IRQ_SET_DATA_EVENTFD | uapi.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, 1, pipe)
    assert refused(p.ioctl, dev, uapi.VFIO_DEVICE_SET_IRQS, bytearray(irqs)) == "EINVAL"


def test_a_path_is_read_no_further_than_its_size_where_every_address_answers(m):
    class Endless(Pages):
        def read(self, address: int, size: int) -> bytes:
            if size > 1:
                raise OSError(errno.EFAULT, "only byte by byte")
            return b"x"

    async def code() -> bytes:
        return await copy_some_from_user(HERE, 100)

    p = m.process("odd", memory=Endless())
    thread = m.engine.spawn(code(), memory=p.task.mm.value)
    m.engine.run(thread)
    assert thread.result == b"x" * 100


def test_an_open_file_can_be_handed_to_a_process_whose_memory_is_outside(m, p):
    giver = m.process("giver")
    dev = giver.open("/dev/vfio/devices/vfio0")
    assert p.start("receive_fd", 7, giver.task.files.fd.slots[dev]).value() == 7
    giver.exit()
    iommu = p.open("/dev/iommu")
    assert bind(p, 7, iommu) == 1
    p.exit()
    assert m.check() == []


@linux
def test_a_full_table_takes_nothing_over(m, real):
    p = m.process("vmm")
    p.setrlimit(7, 3, 3)
    assert refused(p.import_fd, real["eventfd"]) == "EMFILE"
    assert descriptors_of(real["eventfd"]) == 1


@linux
def test_a_machine_with_a_file_of_the_host_has_no_branch_after_it(m, real):
    m.process("vmm").import_fd(real["eventfd"])
    with pytest.raises(ValueError, match="a file of the host was given to 'vmm'"):
        m.branch(len(m.trace) - 1)


# ---- the effect


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(OSError(errno.ENOSPC, "full"), "ENOSPC"), (OSError("?"), "EIO"), (ValueError("bad"), "EFAULT")],
)
def test_what_fails_outside_is_an_errno_for_the_kernel(raised, seen):
    def fail() -> None:
        raise raised

    async def code() -> str:
        try:
            await call_outside(fail)
        except KernelError as error:
            return error.name
        return ""

    engine = Engine()
    thread = engine.spawn(code())
    engine.run(thread)
    assert thread.result == seen
    assert (thread.outside_error is None) == isinstance(raised, OSError)
