"""Four versions of BIND: every row of their comparison is a claim, asked through the public door."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

import vfiosim.kernel
from tests.calls import add, counts, refused, vm
from vfiosim import KernelError, Machine, uapi
from vfiosim.engine import FUNCTIONS
from vfiosim.kernel import posted
from vfiosim.kernel.task import ALL_CAPABILITIES
from vfiosim.kernel.unsupported import Unsupported
from vfiosim.kernel.variants import VARIANTS, Variant
from vfiosim.topology import DeviceSpec, Topology
from vfiosim.views.graph import graph

KERNEL = Path(vfiosim.kernel.__file__).parent
MERGED, POSTED = ("v7.2", "v6.6"), ("v5", "v5r")
EVERY = MERGED + POSTED
NIC, TTY, CCW, LED = (f"/dev/vfio/devices/vfio{n}" for n in (0, 4, 5, 6))
NOIOMMU = Topology("without", (DeviceSpec("nic", "0000:00:04.0", 0, noiommu=True),))


class Bench:
    """A machine of one version and a program with an iommufd; `bind` uses the struct and the number of that version."""

    def __init__(self, kernel: str, topology: Topology | str = "versions", **more) -> None:
        self.m = Machine(topology, kernel=kernel)
        self.variant = self.m.variant
        self.p = self.m.process("vmm", **more)
        self.iommu = self.p.open("/dev/iommu")

    def argument(self, **more):
        return self.variant.layout(**{"iommufd": self.iommu, **more})

    def bind(self, dev: int, **more) -> int:
        argument = self.argument(**more)
        self.p.ioctl(dev, self.variant.bind_request, argument)
        return argument.out_devid

    def new_problems(self) -> list[str]:
        return [problem for problem in self.m.check() if not problem.startswith("warning: the driver no-dma")]


@pytest.fixture(params=EVERY)
def b(request) -> Bench:
    return Bench(request.param)


def of(*names):
    return pytest.mark.parametrize("b", names, indirect=True)


def test_the_picture_shows_the_argument_of_bind_as_the_struct_of_its_version_has_it(b):
    dev, before = b.p.open(NIC), len(b.m.trace)
    b.p.ioctl(dev, b.variant.bind_request, argument := b.argument())
    drawn = graph(b.m.trace[before:])
    keys = {row.cell: row.key for node in drawn.nodes for row in node.rows if node.kind == "thread"}
    shown = {name: drawn.frame(drawn.at_step[-1]).get(keys.get(name, "")) for name in dict(argument)}
    read = {"v6.6": 16}.get(b.variant.name, 24)
    assert shown == {one.name: str(argument.get(one.name)) if one.offset < read else None for one in argument.fields()}


# ---- versions as data


def test_the_default_is_7_2_and_an_unknown_version_is_refused_in_one_sentence():
    assert Machine().variant is VARIANTS["v7.2"]
    with pytest.raises(ValueError, match=re.escape("there is no kernel 'v6.5' here; there is v7.2, v6.6, v5, v5r")):
        Machine(kernel="v6.5")


def test_no_kernel_code_asks_for_the_name_of_a_version():
    asking = [path.name for path in KERNEL.rglob("*.py") if "variant.name" in path.read_text()]
    assert set(asking) <= {"variants.py"}


def test_every_switch_makes_a_difference_somewhere():
    told = {"name", "title", "assumptions"}
    values = {f.name: {getattr(v, f.name) for v in VARIANTS.values()} for f in fields(Variant) if f.name not in told}
    assert all(len(several) > 1 for several in values.values())


def test_the_two_answers_of_the_review_are_one_function():
    one, other = VARIANTS["v5"], VARIANTS["v5r"]
    assert replace(other, name=one.name, title=one.title, assumptions=one.assumptions) == one
    v5, v5r = posted.POSTED["v5"], posted.POSTED["v5r"]
    changed = {name for name in v5 if v5r[name] is not v5[name]}
    assert changed == {"vfio_df_ioctl_bind_iommufd"}


@pytest.mark.parametrize("kernel", EVERY)
def test_a_function_of_another_version_is_whole_and_shown_under_its_own_tag(kernel):
    b = Bench(kernel)
    b.bind(b.p.open(NIC))
    shown = {one.kernel_tag for one in b.m.trace.micro if one.kernel_function == "vfio_df_ioctl_bind_iommufd"}
    assert shown == {kernel}
    for name, function in posted.POSTED.get(kernel, {}).items():
        assert list(inspect.signature(function).parameters) == list(
            inspect.signature(FUNCTIONS[name].function).parameters
        )


@pytest.mark.parametrize("kernel", ["v6.6", *POSTED])
def test_what_is_assumed_is_said_in_sentences(kernel):
    assumed = VARIANTS[kernel].assumptions
    assert len(assumed) >= 2
    assert all(sentence.endswith(".") for sentence in assumed)
    assert len(VARIANTS["v5r"].assumptions) > len(VARIANTS["v5"].assumptions)
    assert not VARIANTS["v7.2"].assumptions


# ---- the struct and its number


def test_two_layouts_of_24_bytes_have_their_fields_at_different_places():
    posted, merged = uapi.VfioDeviceBindIommufdV5, uapi.VfioDeviceBindIommufd
    places = {f.name: (f.offset, f.size) for f in posted.fields()}
    assert places == {"argsz": (0, 4), "flags": (4, 4), "dev_cookie": (8, 8), "iommufd": (16, 4), "out_devid": (20, 4)}
    assert len(bytes(posted())) == len(bytes(merged())) == 24
    assert "vfio_device_bind_iommufd_v5" not in uapi.STRUCTS


def test_a_bound_device_gets_id_1_in_every_version(b):
    assert b.bind(b.p.open(NIC)) == 1
    assert b.new_problems() == []


@of(*POSTED)
def test_the_posted_number_is_0x3b77_and_18_is_nothing(b):
    dev = b.p.open(NIC)
    assert b.variant.bind_request == 0x3B77 == uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT
    assert refused(b.p.ioctl, dev, 0x3B76, b.argument()) == "EINVAL"  # the gate
    assert b.bind(dev, dev_cookie=0xC0FFEE) == 1
    assert b.m.calls[-1].shown.startswith(f"ioctl({dev}, VFIO_DEVICE_BIND_IOMMUFD, ")
    assert b.m.trace[b.m.trace.calls[-1].steps][0].sentence == f"vmm calls ioctl({dev}, VFIO_DEVICE_BIND_IOMMUFD)."
    for number in (0x3B76, 0x3B78, 0x3B79):  # ATTACH and DETACH must be somewhere
        with pytest.raises(Unsupported):
            b.p.ioctl(dev, number, bytearray(24))


@of(*MERGED)
def test_the_merged_number_is_0x3b76_and_the_next_is_attach(b):
    assert b.variant.bind_request == 0x3B76
    dev = b.p.open(NIC)
    b.bind(dev)
    ioas = uapi.IommuIoasAlloc()
    b.p.ioctl(b.iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    assert b.p.ioctl(dev, 0x3B77, uapi.VfioDeviceAttachIommufdPt(pt_id=ioas.out_ioas_id)) == 0


@pytest.mark.parametrize(("b", "minimum"), [("v7.2", 16), ("v6.6", 16), ("v5", 24), ("v5r", 24)], indirect=["b"])
def test_argsz_must_reach_the_minimum(b, minimum):
    dev = b.p.open(NIC)
    assert refused(b.bind, dev, argsz=minimum - 1) == "EINVAL"
    assert b.bind(dev, argsz=minimum) == 1


def copied(b, size: int, argsz: int) -> str:
    """What BIND says to an argument of which only `size` bytes can be read."""
    data = bytes(b.argument(argsz=argsz))[:size]
    try:
        b.p.ioctl(b.p.open(NIC), b.variant.bind_request, b.p.memory.map(size, data))
    except KernelError as error:
        return error.name
    return ""


def test_only_7_2_looks_at_argsz_before_it_copies_the_rest(b):
    """Four readable bytes with a wrong argsz: EINVAL where it comes first, EFAULT where all bytes are copied first."""
    assert copied(b, 4, argsz=1) == ("EINVAL" if b.variant.name == "v7.2" else "EFAULT")


def test_the_smallest_argument_is_as_long_as_its_struct(b):
    size = 24 if b.variant.name in POSTED else 16
    assert copied(b, size - 1, argsz=size) == "EFAULT"
    assert copied(b, size, argsz=size) == ""


def test_bytes_beyond_the_struct_must_be_zero_in_7_2_only(b):
    data = bytearray(bytes(b.argument(argsz=40))) + bytearray(15) + b"\1"
    call = (b.p.open(NIC), b.variant.bind_request, data)
    if b.variant.name == "v7.2":
        assert refused(b.p.ioctl, *call) == "E2BIG"
    else:
        assert b.p.ioctl(*call) == 0


@of("v6.6")
def test_6_6_reads_16_bytes_and_never_a_token(b):
    assert refused(b.bind, b.p.open(NIC), flags=uapi.VFIO_DEVICE_BIND_FLAG_TOKEN) == "EINVAL"
    assert b.bind(b.p.open(NIC), token_uuid_ptr=0xDEAD) == 1


@pytest.mark.parametrize(("b", "flags"), [("v7.2", 2), ("v6.6", 1), ("v5", 1), ("v5r", 1)], indirect=["b"])
def test_unknown_flags_are_refused(b, flags):
    assert refused(b.bind, b.p.open(NIC), flags=flags) == "EINVAL"


# ---- which devices


@of(*MERGED)
def test_a_driver_without_operations_cannot_register_its_device(b):
    assert b.m.built.devices["led"].driver.value is None
    assert "led" not in b.m.built.vfio_devices
    assert refused(b.p.open, LED) == "ENOENT"
    assert b.m.check() == ["warning: the driver no-dma cannot bind its device to an iommufd"]
    address = b.m.built.devices["led"].address
    # by hand no driver gets a mediated device
    assert refused(b.p.write_file, "/sys/bus/mdev/drivers/no-dma/bind", address) == "ENODEV"


@pytest.mark.parametrize("path", [LED, TTY])
def test_as_posted_a_device_without_the_operation_cannot_be_bound(path):
    b = Bench("v5")
    dev = b.p.open(path)
    before = counts(b.m)
    assert refused(b.bind, dev) == "ENODEV"
    assert counts(b.m) == before
    assert refused(b.bind, dev, flags=1) == "EINVAL"  # which is looked at before


@pytest.mark.parametrize("path", [LED, TTY])
def test_with_the_first_question_answered_yes_it_binds_with_id_0(path):
    b = Bench("v5r")
    before = counts(b.m)
    dev = b.p.open(path)
    assert b.bind(dev) == 0
    assert refused(b.bind, dev) == "EINVAL"
    assert refused(b.bind, b.p.open(path)) == "EINVAL"
    assert b.m.check() == []
    assert b.bind(b.p.open(NIC)) == 1  # 0 was never an object's ID
    for fd in (dev, dev + 1, dev + 2):
        b.p.close(fd)
    assert counts(b.m) == before


def test_an_emulated_device_has_an_id_since_its_bind_makes_an_access():
    found = {}
    for kernel in EVERY:
        b = Bench(kernel)
        before = counts(b.m)
        dev = b.p.open(CCW)
        found[kernel] = b.bind(dev)
        assert b.new_problems() == []
        b.p.close(dev)
        assert counts(b.m) == before
    assert found == {"v7.2": 1, "v6.6": 1, "v5": 0, "v5r": 0}


@of(*MERGED)
def test_the_sample_driver_has_the_operations_since_they_were_merged(b):
    assert b.bind(b.p.open(TTY)) == 1


@of(*POSTED)
def test_the_group_lets_a_device_without_operations_through(b):
    """The old way always did: it has no ID to give back."""
    group = b.p.open("/dev/vfio/6")
    ioas = uapi.IommuIoasAlloc()
    b.p.ioctl(b.iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    b.p.ioctl(b.iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=ioas.out_ioas_id, op=1))
    b.p.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(b.iommu.to_bytes(4, "little")))
    name = bytearray(b.m.built.devices["led"].address.encode() + b"\0")
    dev = b.p.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, name)
    assert dev > group
    assert b.m.check() == []


# ---- groups, second binds, tokens, VMs


def test_a_file_from_a_group_is_refused_either_by_its_kind_or_by_the_open_group(b):
    group = b.p.open("/dev/vfio/1")
    ioas = uapi.IommuIoasAlloc()
    b.p.ioctl(b.iommu, uapi.IOMMU_IOAS_ALLOC, ioas)
    b.p.ioctl(b.iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=ioas.out_ioas_id, op=1))
    b.p.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(b.iommu.to_bytes(4, "little")))
    dev = b.p.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(b"0000:01:00.0\0"))
    assert refused(b.bind, dev) == ("EINVAL" if b.variant.name in MERGED else "EBUSY")
    b.p.close(group)  # an iommufd keeps the device open without it
    assert refused(b.bind, dev) == "EINVAL"  # at the latest since the file has an iommufd
    assert b.new_problems() == []


def test_an_open_group_is_busy_in_every_version(b):
    b.p.open("/dev/vfio/1")
    assert refused(b.bind, b.p.open(NIC)) == "EBUSY"


def test_a_second_bind_and_a_second_file_are_refused_in_every_version(b):
    dev = b.p.open(NIC)
    b.bind(dev)
    assert refused(b.bind, dev) == "EINVAL"
    assert refused(b.bind, b.p.open(NIC)) == "EINVAL"


def test_a_bad_iommufd_is_refused_in_every_version(b):
    dev, before = b.p.open(NIC), counts(b.m)
    assert refused(b.bind, dev, iommufd=99) == "EBADF"
    assert refused(b.bind, dev, iommufd=dev) == "EBADFD"
    assert b.bind(dev) == 1
    assert counts(b.m) != before


def test_an_id_that_cannot_be_written_undoes_everything_in_every_version(b):
    dev, before = b.p.open(NIC), counts(b.m)
    where = b.p.memory.map(24, bytes(b.argument()), prot=1)
    assert refused(b.p.ioctl, dev, b.variant.bind_request, where) == "EFAULT"
    assert counts(b.m) == before
    assert b.bind(dev) == 1


def test_bind_takes_the_vm_in_every_version(b):
    _, kv = vm(b.p)
    dev = b.p.open(NIC)
    add(b.p, kv, dev)
    b.bind(dev)
    assert b.m.built.vfio_devices["nic"].kvm.value is not None
    assert b.new_problems() == []


def test_only_7_2_asks_a_virtual_function_for_its_token():
    card = (
        DeviceSpec("pf", "0000:01:00.0", 1, model="nvme", vfs=1),
        DeviceSpec("vf", "0000:01:00.1", 2, model="nvme VF", physfn="0000:01:00.0"),
    )
    found = {}
    for kernel in EVERY:
        b = Bench(kernel, Topology("card", card))
        b.bind(b.p.open(NIC))
        try:
            b.bind(b.p.open("/dev/vfio/devices/vfio1"))
            found[kernel] = "bound"
        except KernelError as error:
            found[kernel] = error.name
    assert found == {"v7.2": "EACCES", "v6.6": "bound", "v5": "bound", "v5r": "bound"}


@pytest.mark.parametrize(("b", "answer"), [("v7.2", "EOPNOTSUPP"), ("v6.6", "EINVAL")], indirect=["b"])
def test_6_6_knows_no_pasid(b, answer):
    dev = b.p.open(TTY)  # mtty takes none
    b.bind(dev)
    wish = uapi.VfioDeviceAttachIommufdPt(flags=uapi.VFIO_DEVICE_ATTACH_PASID, pasid=1)
    assert refused(b.p.ioctl, dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, wish) == answer


# ---- noiommu


@of(*MERGED)
def test_a_negative_iommufd_is_no_descriptor(b):
    assert refused(b.bind, b.p.open(NIC), iommufd=-1) == "EINVAL"


@of(*POSTED)
def test_a_negative_iommufd_was_noiommu_mode(b):
    before = counts(b.m)
    dev = b.p.open(NIC)
    assert b.bind(dev, iommufd=-1) == 0
    device = b.m.built.vfio_devices["nic"]
    assert device.open_count.value == 1
    assert device.iommufd_device.value is None
    assert refused(b.bind, dev) == "EINVAL"
    assert b.m.check() == []
    b.p.close(dev)
    assert counts(b.m) == before


@pytest.mark.parametrize("kernel", POSTED)
def test_noiommu_mode_takes_raw_io(kernel):
    b = Bench(kernel, caps=tuple(cap for cap in ALL_CAPABILITIES if cap != "CAP_SYS_RAWIO"))
    dev, before = b.p.open(NIC), counts(b.m)
    assert refused(b.bind, dev, iommufd=-1) == "EPERM"
    assert counts(b.m) == before
    assert b.bind(dev) == 1


@pytest.mark.parametrize("kernel", POSTED)
def test_a_failed_noiommu_bind_leaves_the_file_unbound(kernel):
    b = Bench(kernel)
    dev, before = b.p.open(NIC), counts(b.m)
    where = b.p.memory.map(24, bytes(b.argument(iommufd=-5)), prot=1)
    assert refused(b.p.ioctl, dev, b.variant.bind_request, where) == "EFAULT"
    assert counts(b.m) == before
    assert b.bind(dev) == 1


def test_a_device_without_iommu_has_a_node_in_the_posted_versions_only():
    for kernel in EVERY:
        b = Bench(kernel, NOIOMMU)
        if kernel in MERGED:
            assert refused(b.p.open, NIC) == "ENOENT"
        else:
            dev = b.p.open(NIC)
            assert b.bind(dev, iommufd=-1) == 0
            assert b.m.check() == []


@pytest.mark.parametrize("kernel", EVERY)
def test_a_branch_keeps_the_version(kernel):
    b = Bench(kernel)
    b.bind(b.p.open(NIC))
    twin = b.m.branch(len(b.m.trace) - 1)
    assert twin.variant is b.variant
    assert twin.built.vfio_devices["nic"].open_count.value == 1


@pytest.mark.parametrize("kernel", POSTED)
def test_what_became_of_a_device_without_iommu_in_a_real_iommufd_is_not_guessed(kernel):
    b = Bench(kernel, NOIOMMU)
    dev, before = b.p.open(NIC), counts(b.m)
    with pytest.raises(Unsupported):
        b.bind(dev)
    assert counts(b.m) == before
    assert b.m.check() == []


@pytest.mark.parametrize(("kernel", "works"), [("v7.2", True), ("v6.6", False)])
def test_a_group_without_iommu_that_has_an_iommufd_is_modelled_since_its_repair(kernel, works):
    b = Bench(kernel, NOIOMMU)
    group = b.p.open("/dev/vfio/noiommu-0")
    b.p.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(b.iommu.to_bytes(4, "little")))
    before = counts(b.m)
    wish = (group, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(b"0000:00:04.0\0"))
    if works:
        assert b.p.ioctl(*wish) > group
    else:
        with pytest.raises(Unsupported):
            b.p.ioctl(*wish)
        assert counts(b.m) == before
    assert b.m.check() == []
