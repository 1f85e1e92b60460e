"""How a kernel was built and started is part of a machine: each switch, by what it changes, and by the line of 7.2 that says so.

What was recorded of kernels with other switches is compared in `test_conformance.py` (`assets/records/config-*`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.calls import PAGE, Space, bind, refused
from tests.edu import BUFFER, COMMAND, MASTER, MEMORY, copy, put
from vfiosim import Config, Machine, Topology, replay, uapi
from vfiosim.lab import Sandbox, Session
from vfiosim.lessons.order_of_checks_causes import through_the_group
from vfiosim.machine import decode, encode, program_of
from vfiosim.run.tree import Tree

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
HUGE = 1 << 21
DIRTY = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
LAB = Topology.named("lab")


def space(config=""):
    """A program with an edu that is bound, and an address space."""
    return Space(Machine("lab", config=config).process("vmm"))


# ---- the switches are named and checked


@pytest.mark.parametrize(
    "written", [{"vfio_group": False}, {"CONFIG_VFIO_GROUP": False}, "VFIO_GROUP=n", Config.of("VFIO_GROUP=n")]
)
def test_a_switch_is_set_by_its_name_in_a_table_a_line_or_a_config(written):
    machine = Machine(config=written)
    assert (machine.config.vfio_group, machine.config.vfio_noiommu) == (False, False)  # the second needs the first
    assert str(machine.config) == "VFIO_GROUP=n VFIO_NOIOMMU=n"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("VFIO_GROPU=n", "there is no switch of the kernel's configuration 'vfio_gropu'"),
        ("VFIO_GROUP", "a switch is set as in VFIO_GROUP=n"),
        ({"vfio_group": 0}, "the switch vfio_group is yes or no, and not 0"),
        ({"dma_entry_limit": -1}, "the switch dma_entry_limit is a number up to 0xffffffff, and not -1"),
        ("VFIO_GROUP=n IOMMUFD_VFIO_CONTAINER=y", "without VFIO_GROUP cannot have IOMMUFD_VFIO_CONTAINER"),
        ("VFIO_GROUP=n VFIO_DEVICE_CDEV=n", "without VFIO_GROUP cannot be without VFIO_DEVICE_CDEV"),
    ],
)
def test_what_cannot_be_set_is_refused_in_one_sentence(written, told):
    with pytest.raises(ValueError, match=told):
        Machine(config=written)


def test_a_machine_without_a_word_is_built_as_the_recorded_kernel():
    assert repr(Machine().config) == "Config()"


def test_what_devices_need_is_part_of_the_configuration():
    recorded = Topology("compat", LAB.devices, iommufd_container=True)
    assert Machine(recorded).config == Config(iommufd_vfio_container=True)
    assert Machine("lab", config="IOMMUFD_VFIO_CONTAINER=y").config == Machine(recorded).config


# ---- what it changes


def test_with_huge_pages_an_address_that_the_kernel_picks_is_aligned_as_the_memory_up_to_2_mib():
    for config, place in (("", PAGE), ("TRANSPARENT_HUGEPAGE=y", HUGE)):
        s = space(config)
        memory = -(-s.p.mmap(4 * HUGE) // HUGE) * HUGE
        assert s.map(memory, 2 * HUGE) == place


@pytest.mark.parametrize("config", ["ALLOW_UNSAFE_INTERRUPTS=y INTERRUPT_REMAPPING=n", "INTERRUPT_REMAPPING=n"])
def test_a_device_whose_interrupts_nobody_isolates_is_bound_only_where_that_is_allowed(config):
    p = Machine(config=config).process("vmm")
    dev, iommu = p.open(NODE), p.open(IOMMU)
    if "ALLOW" in config:
        assert bind(p, dev, iommu) == 1
        return
    assert refused(bind, p, dev, iommu) == "EPERM"
    p.write_file("/sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y")
    assert bind(p, dev, iommu) == 1


def test_a_kernel_without_nodes_shows_the_device_in_sys_and_knows_no_bind():
    """drivers/vfio/vfio.h:378 to 407: `vfio_device_add` makes no node, BIND is a stub."""
    session = Session(config="VFIO_DEVICE_CDEV=n")
    address = session.machine.built.devices["nic"].address
    assert session.process.listdir(f"/sys/bus/pci/devices/{address}/vfio-dev") == ("vfio0",)
    assert refused(session.process.listdir, "/dev/vfio/devices") == "ENOENT"
    assert session.open(NODE).result == "ENOENT"
    fd = through_the_group(session, "vfio0")
    assert session.get_info(fd).result == "0"
    assert [session.bind(fd, argsz=size, iommufd=-1).result for size in (0, 24)] == ["ENOTTY"] * 2
    assert not session.machine.check()


def test_a_program_that_runs_finds_the_folder_of_a_device_and_no_number_of_a_node():
    for config, named in (("", True), ("VFIO_DEVICE_CDEV=n", False)):
        tree = Tree(Machine(config=config))
        try:
            place = Path(tree.root, "sys/class/vfio-dev/vfio0")
            assert (place.is_dir(), (place / "dev").exists()) == (True, named)
        finally:
            tree.close()


def test_the_limit_of_mappings_is_what_the_module_was_loaded_with():
    p = Machine(config="DMA_ENTRY_LIMIT=7").process("vmm")
    assert p.read_file("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit") == b"7\n"


def test_an_iommu_that_tracks_notes_what_a_device_writes():
    """drivers/iommu/intel/iommu.c:2940 and 2973, `ssads_supported`; the recorded IOMMU answers EOPNOTSUPP."""
    assert refused(space().hwpt, DIRTY) == "EOPNOTSUPP"
    s = space("DIRTY_TRACKING=y")
    table = s.hwpt(DIRTY)
    s.attach(table)
    s.map(s.p.mmap(2 * PAGE), 2 * PAGE, iova=0x100000)
    s.p.ioctl(s.iommu, uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.IommuHwptSetDirtyTracking(hwpt_id=table, flags=1))
    put(s.p, s.dev, COMMAND, MEMORY | MASTER, 2)
    copy(s.p, s.dev, BUFFER, 0x100000 + PAGE)
    bits = s.p.mmap(PAGE)
    wanted = uapi.IommuHwptGetDirtyBitmap(hwpt_id=table, iova=0x100000, length=2 * PAGE, page_size=PAGE, data=bits)
    s.p.ioctl(s.iommu, uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, wanted)
    assert s.p.memory.read(bits, 1) == b"\2"


def test_a_table_that_nests_carries_that_of_a_guest_until_it_is_told_to_forget():
    """drivers/iommu/intel/nested.c: data of VT-d's own type; invalidations are for whole pages."""
    s = space("NESTING=y")
    parent = s.hwpt(uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    guest = bytes(uapi.IommuHwptVtdS1(pgtbl_addr=0x1000, addr_width=48))
    at = s.p.memory.map(PAGE, guest)

    def over(kind):
        wanted = uapi.IommuHwptAlloc(dev_id=s.devid, pt_id=parent, data_type=kind, data_len=len(guest), data_uptr=at)
        s.p.ioctl(s.iommu, uapi.IOMMU_HWPT_ALLOC, wanted)
        return wanted.out_hwpt_id

    def forget(**entry):
        raw = bytes(uapi.IommuHwptVtdS1Invalidate(**entry))
        where = s.p.memory.map(PAGE, raw)
        wanted = uapi.IommuHwptInvalidate(hwpt_id=nested, data_uptr=where, entry_len=len(raw), entry_num=1)
        s.p.ioctl(s.iommu, uapi.IOMMU_HWPT_INVALIDATE, wanted)
        return wanted.entry_num

    assert refused(over, uapi.IOMMU_HWPT_DATA_SELFTEST) == "EOPNOTSUPP"
    nested = over(uapi.IOMMU_HWPT_DATA_VTD_S1)

    assert forget(npages=2**64 - 1) == 1
    assert refused(forget, addr=1) == "EINVAL"
    assert refused(forget, flags=2) == "EOPNOTSUPP"


# ---- it goes wherever the machine goes


def test_a_shared_text_a_branch_and_a_program_have_the_configuration():
    m = space("VFIO_GROUP=n NESTING=y").p.machine
    found: dict[str, Machine] = {}
    exec(program_of(m), found)
    assert (
        m.config
        == decode(encode(m))[0].config
        == m.branch(-1).config
        == found["m"].config
        == replay(encode(m)).machine.config
    )
    assert found["m"].trace == m.trace


def test_the_program_of_a_machine_as_recorded_says_nothing_of_a_configuration():
    assert "config" not in program_of(Machine())


def test_the_sandbox_boots_a_kernel_with_the_switches_that_are_typed_and_says_what_is_wrong_with_one():
    box = Sandbox("small")
    pane = box.machine_pane
    pane.config.set("VFIO_GROUP=x")
    assert "a switch is set as in VFIO_GROUP=n" in pane.config.message
    pane.config.set("VFIO_GROUP=n")
    pane.boot.click()
    assert box.run.machine.config.vfio_group is False
    assert "/dev/vfio/1" not in box.run.machine.built.devtmpfs.nodes.slots
    box.undo.click()
    assert box.run.machine.config == Config()
    assert pane.config.text.value == ""
