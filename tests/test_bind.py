"""VFIO_DEVICE_BIND_IOMMUFD through the public door: its checks and their order, what it takes, what it gives back."""

from __future__ import annotations

import pytest

from tests.calls import add, bind, counts, fields, refused, vm
from vfiosim import KernelError, Machine, uapi

BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD
READ = 1


# ---- the example of the documentation


def test_the_five_lines_of_the_documentation_work():
    m = Machine()
    p = m.process("vmm")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    argument = uapi.VfioDeviceBindIommufd(iommufd=iommu)
    assert p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument) == 0
    assert argument.out_devid == 1
    assert len(m.trace) > 20
    assert m.check() == []
    assert m.why("vfio-dev vfio0").kept
    assert m.why("vfio-dev vfio0").name == "vfio_device vfio0"


def test_a_call_that_gives_back_ends_in_that_and_one_that_makes_something_visible_ends_in_this(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    twin = p.dup(dev)
    p.close(twin)  # nothing is released by this one
    p.close(dev)
    p.exit()
    said = [(step.phase, step.sentence) for step in p.machine.trace if "returns" in step.sentence]
    assert said == [
        *(("publish", f"The call returns {result}.") for result in (dev, iommu)),
        ("release", "The call gives its reference to file vfio0#1 back and returns 0."),
        ("publish", f"The call returns {twin}."),
        *(("release", text) for text in ("The call returns 0.", "The call returns 0.", "The call returns.")),
    ]


def test_what_only_checks_takes_nothing_and_only_who_was_refused_unwinds(p):
    dev = p.open("/dev/vfio/devices/vfio0")
    p.close(p.dup(dev))
    assert refused(bind, p, dev, -1, flags=0xFF) == "EINVAL"
    p.close(dev)
    calls = [[step for step in p.machine.trace if step.call == call] for call in range(1, 6)]
    for call in calls:
        assert ("unwind" in {step.phase for step in call}) == any(step.refused for step in call)
        assert [step.sentence for step in call if step.phase == "validate" and step.changes] == []
    assert [step.phase for step in calls[1]] == ["acquire", "publish"]
    assert [step.phase for step in calls[2]] == ["validate", "release", "release"]


def test_plain_bytes_are_as_good_as_a_structure(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    argument = bytearray(bytes(uapi.VfioDeviceBindIommufd(iommufd=iommu)))
    p.ioctl(dev, BIND, argument)
    assert argument[12:16] == b"\1\0\0\0"
    assert len(argument) == 24


def test_a_bind_tells_12_to_20_sentences_and_with_its_close_makes_at_least_100_effects(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    steps, effects = len(m.trace), len(m.engine.micro)
    bind(p, dev, iommu)
    told = m.trace[steps:]
    assert 12 <= len(told) <= 20
    assert {step.phase for step in told} >= {"validate", "block", "lock", "acquire", "publish"}
    p.close(dev)
    assert len(m.engine.micro) - effects >= 100
    assert m.trace[-2].phase == "release"


# ---- the order of the checks


def test_argsz_is_looked_at_before_anything_else(p):
    dev = p.open("/dev/vfio/devices/vfio0")
    assert refused(bind, p, dev, -1, argsz=8, flags=0xFF) == "EINVAL"
    assert refused(p.ioctl, dev, BIND, 0) == "EFAULT"
    tail = bytearray(bytes(uapi.VfioDeviceBindIommufd(argsz=32, iommufd=-1, flags=0xFF)) + b"\xff" + bytes(7))
    assert refused(p.ioctl, dev, BIND, tail) == "E2BIG"


def test_a_zero_tail_of_any_length_is_accepted(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    long = bytearray(bytes(uapi.VfioDeviceBindIommufd(argsz=9000, iommufd=iommu)) + bytes(9000 - 24))
    assert p.ioctl(dev, BIND, long) == 0


def test_an_argsz_beyond_the_buffer_is_a_bad_address(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    assert refused(bind, p, dev, iommu, argsz=4096) == "EFAULT"


def test_a_negative_iommufd_is_refused_before_the_group_is_looked_at(p):
    p.open("/dev/vfio/1")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    assert refused(bind, p, dev, -1) == "EINVAL"
    assert refused(bind, p, dev, iommu) == "EBUSY"
    assert refused(bind, p, dev, 777) == "EBUSY"


def test_a_bound_file_is_refused_before_its_iommufd_is_looked_at(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    assert refused(bind, p, dev, 777) == "EINVAL"


def test_a_second_file_learns_of_a_bad_iommufd_before_it_learns_that_the_device_is_taken(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    second = p.open("/dev/vfio/devices/vfio0")
    assert refused(bind, p, second, 777) == "EBADF"
    assert refused(bind, p, second, second) == "EBADFD"
    assert refused(bind, p, second, iommu) == "EINVAL"


def test_a_token_is_checked_before_the_iommufd(p):
    dev = p.open("/dev/vfio/devices/vfio0")
    assert refused(bind, p, dev, 777, flags=1) == "EFAULT"
    token = p.memory.map(16)
    assert refused(bind, p, dev, 777, flags=1, token_uuid_ptr=token) == "EINVAL"


def test_an_error_names_the_check_the_line_and_the_reason(p):
    p.open("/dev/vfio/1")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    with pytest.raises(OSError, match="EBUSY") as caught:
        bind(p, dev, iommu)
    error = caught.value
    assert isinstance(error, KernelError)
    assert (error.errno, error.check) == (16, "group_is_closed")
    assert error.where is not None
    assert error.where.startswith("vfiosim/kernel/vfio/group.py:")


# ---- what a bind takes, and gives back


def test_a_bind_takes_exactly_the_references_of_the_worked_example(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio0")
    machine, kv = vm(p)
    add(p, kv, dev)
    before, was = counts(m), fields(m)
    bind(p, dev, iommu)
    after, now = counts(m), fields(m)
    gained = {path: n - before.get(path, 0) for path, n in after.items() if n != before.get(path, 0)}
    assert gained == {
        "file iommu#1.f_ref": 2,  # the binding, and the object of the device
        "kvm 1.users_count": 1,
        "driver vfio-pci.module": 1,
        "iommufd_device 1.users": 2,  # the context, and the driver
        "iommufd_device 1.wait_cnt": 1,
        "iommufd_group 1.ref": 1,
        "iommu_group 1.kobj": 1,
    }
    assert (after["file iommu#1.f_ref"], after["file vfio0#1.f_ref"], after["kvm 1.users_count"]) == (3, 2, 3)
    assert now["vfio_device vfio0.open_count"] == now["vfio_group 1.cdev_device_open_cnt"] == 1
    assert now["iommu_group 1.owner_cnt"] == 1
    assert was["iommu_group 1.domain"] == "default domain"
    assert now["iommu_group 1.domain"] == "blocking domain"
    assert machine != kv


def test_an_emulated_device_gets_an_access_and_claims_no_dma(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio8")
    assert bind(p, dev, iommu) == 1
    assert counts(m)["iommufd_access 1.users"] == 2
    assert counts(m)["file iommu#1.f_ref"] == 3
    assert fields(m)["iommu_group 11.owner_cnt"] == 0
    assert not any(path.startswith("iommufd_group") for path in counts(m))


def test_the_last_close_gives_everything_back(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio0")
    before, was = counts(m), fields(m)
    bind(p, dev, iommu)
    p.close(dev)
    before.pop("file vfio0#1.f_ref")
    before["vfio_device vfio0.refcount"] -= 1
    before["cdev vfio0.kobj"] -= 1
    assert counts(m) == before
    assert {k: v for k, v in fields(m).items() if "vfio0#1" not in k} == {
        k: v for k, v in was.items() if not k.startswith(("file vfio0#1", "vfio_device_file"))
    }


@pytest.mark.parametrize("device", ["vfio0", "vfio8"])
def test_a_bind_whose_answer_cannot_be_written_leaves_no_trace(m, p, device):
    iommu, dev = p.open("/dev/iommu"), p.open(f"/dev/vfio/devices/{device}")
    before, was = counts(m), fields(m)
    argument = p.memory.map(24, bytes(uapi.VfioDeviceBindIommufd(iommufd=iommu)), prot=READ)
    assert refused(p.ioctl, dev, BIND, argument) == "EFAULT"
    assert counts(m) == before
    left = {path: value for path, value in fields(m).items() if value != was[path]}
    assert set(left) == {"vfio_device_file 1.devid"}  # which nobody reads before the next bind writes it
    assert m.check() == []
    assert bind(p, dev, iommu) == 1


def test_a_bind_that_must_not_own_the_dma_leaves_no_trace(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio7")
    before, was = counts(m), fields(m)
    assert refused(bind, p, dev, iommu) == "EPERM"
    assert (counts(m), fields(m)) == (before, was)
    assert m.check() == []


def test_two_functions_of_a_group_share_one_owner(m, p):
    iommu, other = p.open("/dev/iommu"), p.open("/dev/iommu")
    a, b = p.open("/dev/vfio/devices/vfio3"), p.open("/dev/vfio/devices/vfio4")
    bind(p, a, iommu)
    assert refused(bind, p, b, other) == "EPERM"
    assert bind(p, b, iommu) == 2
    assert fields(m)["iommu_group 3.owner_cnt"] == 2
    assert counts(m)["iommufd_group 1.ref"] == 2
    p.close(a)
    assert fields(m)["iommu_group 3.domain"] == "blocking domain"
    p.close(b)
    assert fields(m)["iommu_group 3.domain"] == "default domain"


def test_closing_the_iommufd_first_frees_nothing_until_the_device_file_goes(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio0")
    bind(p, dev, iommu)
    p.close(iommu)
    assert counts(m)["file iommu#1.f_ref"] == 2
    assert {"iommufd_ctx 1", "file iommu#1"} <= {*m.engine.objects}
    assert not m.check()
    p.close(dev)
    assert not any(oid.startswith(("iommufd_ctx", "file iommu")) for oid in m.engine.objects)


def test_a_duplicate_keeps_the_binding_after_close(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio0")
    bind(p, dev, iommu)
    twin = p.dup(dev)
    p.close(dev)
    assert p.ioctl(twin, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo()) == 0
    p.close(twin)
    assert fields(m)["vfio_device vfio0.open_count"] == 0


def test_a_forked_child_keeps_the_binding_after_its_parent(m, p):
    iommu, dev = p.open("/dev/iommu"), p.open("/dev/vfio/devices/vfio0")
    bind(p, dev, iommu)
    child = p.fork("child")
    p.exit()
    assert fields(m)["vfio_device vfio0.open_count"] == 1
    child.exit()
    assert fields(m)["vfio_device vfio0.open_count"] == 0
    assert m.check() == []


# ---- the gate


@pytest.mark.parametrize("name", [n for n, r in uapi.REQUESTS.items() if n != "VFIO_DEVICE_BIND_IOMMUFD"])
def test_before_a_bind_every_other_request_is_refused_with_einval(p, name):
    dev = p.open("/dev/vfio/devices/vfio0")
    assert refused(p.ioctl, dev, uapi.REQUESTS[name].number, bytearray(64)) == "EINVAL"


def test_after_a_bind_an_unknown_request_is_enotty(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind(p, dev, iommu)
    assert refused(p.ioctl, dev, 0x1234, 0) == "ENOTTY"


# ---- group and node


def test_opening_the_node_does_not_close_the_group_but_binding_does(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.close(p.open("/dev/vfio/1"))
    bind(p, dev, iommu)
    assert refused(p.open, "/dev/vfio/1") == "EBUSY"
    p.close(dev)
    p.close(p.open("/dev/vfio/1"))


def test_a_group_is_opened_by_one_file_at_a_time(p):
    first = p.open("/dev/vfio/1")
    assert refused(p.open, "/dev/vfio/1") == "EBUSY"
    p.close(first)
    p.open("/dev/vfio/1")


# ---- KVM


def test_a_vm_lives_on_in_the_device_that_was_bound_for_it(m, p):
    machine, kv = vm(p)
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    add(p, kv, dev)
    bind(p, dev, iommu)
    p.close(machine)
    p.close(kv)
    assert m.kvm_live() == 1
    p.close(dev)
    assert m.kvm_live() == 0


def test_which_vm_a_bind_took_is_noted_for_the_check_and_shown_as_a_field_nowhere(m, p):
    _machine, kv = vm(p)
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    add(p, kv, dev)
    bind(p, dev, iommu)
    thing = next(one for one in m.engine.objects.values() if one.kind == "vfio_device_file")
    assert thing.bound_for.value.oid == "kvm 1"
    assert "bound_for" not in f"{m.trace.end.objects} {m.trace.micro}"


def test_a_failed_second_bind_gives_away_the_vm_of_the_first_and_check_says_so(m, p):
    machine, kv = vm(p)
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    add(p, kv, dev)
    bind(p, dev, iommu)
    second = p.open("/dev/vfio/devices/vfio0")
    assert m.check() == []
    assert refused(bind, p, second, iommu) == "EINVAL"
    assert ["vfio0" in line and "kvm 1" in line for line in m.check()] == [True]
    p.close(kv)
    p.close(machine)
    assert m.kvm_live() == 0  # although the first file is still bound
    assert "gone already" in m.check()[0]


def test_a_failed_second_bind_for_another_vm_leaks_the_first_one_and_check_says_so(m, p):
    machine, kv = vm(p)
    other, other_kv = vm(p)
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    add(p, kv, dev)
    bind(p, dev, iommu)
    second = p.open("/dev/vfio/devices/vfio0")
    add(p, other_kv, second)
    assert refused(bind, p, second, iommu) == "EINVAL"
    p.exit()
    assert m.kvm_live() == 1
    assert [line for line in m.check() if "nobody will give that back" in line]
    assert "vfio_device vfio0 --bound for this VM--> kvm 1" in str(m.why("kvm 1"))
    assert (machine, other) != (kv, other_kv)


def test_a_failed_bind_that_never_reached_the_vm_disturbs_nothing(m, p):
    _machine, kv = vm(p)
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    add(p, kv, dev)
    bind(p, dev, iommu)
    second = p.open("/dev/vfio/devices/vfio0")
    assert refused(bind, p, second, 777) == "EBADF"
    assert m.check() == []


# ---- bad input


def test_bytes_that_cannot_be_written_are_refused_in_words(p):
    dev = p.open("/dev/vfio/devices/vfio0")
    with pytest.raises(TypeError, match="use a bytearray"):
        p.ioctl(dev, BIND, b"1234")
    with pytest.raises(TypeError, match="writable bytes, not str"):
        p.ioctl(dev, BIND, "bind please")


def test_an_unknown_topology_kernel_process_or_call_is_refused_in_words(m, p):
    with pytest.raises(ValueError, match="no topology 'huge'; there are lab, small"):
        Machine("huge")
    with pytest.raises(ValueError, match="no kernel 'v9'"):
        Machine(kernel="v9")
    with pytest.raises(ValueError, match="a process 'vmm' already"):
        m.process("vmm")
    with pytest.raises(ValueError, match="no call 'frobnicate'"):
        p.start("frobnicate")
    p.exit()
    with pytest.raises(ValueError, match="'vmm' has ended"):
        p.open("/dev/iommu")


def test_a_buffer_is_part_of_memory_only_while_its_call_runs(p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    regions = len(p.task.mm.value._regions)
    bind(p, dev, iommu)
    assert len(p.task.mm.value._regions) == regions


# ---- when no ID is left


@pytest.mark.parametrize("path", ["/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio8"])
def test_a_bind_that_finds_no_free_id_leaves_nothing_behind(m, p, monkeypatch, path):
    dev, iommu = p.open(path), p.open("/dev/iommu")
    before, objects = counts(m), len(m.engine.objects)
    monkeypatch.setattr("vfiosim.kernel.iommufd.main.LIMIT_31B", 1)
    assert refused(bind, p, dev, iommu) == "EBUSY"
    assert refused(p.ioctl, iommu, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc()) == "EBUSY"
    assert counts(m) == before
    assert len(m.engine.objects) == objects
    assert m.check() == []
    monkeypatch.undo()
    assert bind(p, dev, iommu) == 1
