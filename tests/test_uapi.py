"""The user-space ABI: `vfiosim.uapi` against what a C compiler measured in the headers of Linux 7.2."""

import ast
import copy
import ctypes
import errno as host
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from vfiosim import uapi
from vfiosim.uapi import STRUCTS, Errno, KernelError

ROOT = Path(__file__).parents[1]
MEASURED = json.loads((ROOT / "assets" / "uapi.json").read_text(encoding="utf-8"))
RECORDED_ERRNOS = {
    *("EPERM", "ENOENT", "EIO", "ENXIO", "E2BIG", "EBADF", "ENOMEM", "EACCES", "EFAULT", "EBUSY", "EEXIST", "ENODEV"),
    *("EINVAL", "EMFILE", "ENOTTY", "ENOSPC", "ESPIPE", "EOVERFLOW", "EBADFD", "EMSGSIZE", "EOPNOTSUPP", "EADDRINUSE"),
}


def measured_form(field: uapi.Member) -> dict[str, object]:
    """A field as the measurement describes it."""
    form: dict[str, object] = {"name": field.name, "off": field.offset, "size": field.size, "kind": field.kind}
    if field.kind == "int":
        form["signed"] = field.signed
    if field.kind == "array":
        form |= {"count": field.count, "elem_size": field.elem_size}
    return form | ({"struct": field.struct} if field.struct else {})


# ---- The same as the headers


def test_the_package_has_exactly_the_structs_requests_and_constants_of_the_headers() -> None:
    assert set(STRUCTS) == set(MEASURED["structs"])
    assert set(uapi.REQUESTS) == set(MEASURED["requests"])
    assert set(uapi.CONSTANTS) == set(MEASURED["constants"])


@pytest.mark.parametrize("name", MEASURED["structs"])
def test_every_struct_has_the_kernels_size_and_offsets(name: str) -> None:
    measured = MEASURED["structs"][name]
    assert ctypes.sizeof(STRUCTS[name]) == measured["size"]
    assert [measured_form(field) for field in STRUCTS[name].fields()] == measured["fields"]


def test_every_struct_is_found_under_its_name_in_camel_case() -> None:
    for name, cls in STRUCTS.items():
        assert cls.__name__ == "".join(part.capitalize() for part in name.split("_"))
        assert cls.kernel_name == name
        assert getattr(uapi, cls.__name__) is cls


def test_every_request_has_the_kernels_number() -> None:
    numbers = {name: request.number for name, request in uapi.REQUESTS.items()}
    assert numbers == {name: measured["nr"] for name, measured in MEASURED["requests"].items()}
    assert numbers == {name: getattr(uapi, name) for name in numbers}


def test_every_request_takes_what_the_kernel_reads() -> None:
    for name, measured in MEASURED["requests"].items():
        request = uapi.REQUESTS[name]
        assert request.name == name
        if measured["arg"] in STRUCTS:
            assert (request.argument, request.struct) == ("struct", STRUCTS[measured["arg"]])
            assert ctypes.sizeof(STRUCTS[measured["arg"]]) == measured["size"]
        else:
            assert request.struct is None
            assert request.argument in ((measured["arg"],) if measured["arg"] else (None, "int"))


def test_every_constant_has_the_kernels_value() -> None:
    measured = MEASURED["constants"]
    assert measured == uapi.CONSTANTS
    assert measured == {name: getattr(uapi, name) for name in measured}


def test_fields_with_file_descriptors_and_pointers_are_known() -> None:
    roles = {"fd_in": uapi.FD_FIELDS_IN, "fd_out": uapi.FD_FIELDS_OUT, "ptr": uapi.PTR_FIELDS}
    assert {role: set(fields) for role, fields in MEASURED["roles"].items()} == roles


def test_request_numbers_are_built_and_never_typed_in() -> None:
    assigned = {}
    for path in (ROOT / "vfiosim" / "uapi").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned[node.targets[0].id] = node.value
    for name in uapi.REQUESTS:
        value = assigned[name]
        assert isinstance(value, ast.Call)
        assert isinstance(value.func, ast.Name)
        assert value.func.id in ("_IO", "_IOW", "_IOWR")


def test_a_request_number_has_direction_size_type_and_command() -> None:
    create = uapi.KVM_CREATE_DEVICE
    assert (create >> 30, create >> 16 & 0x3FFF, create >> 8 & 0xFF, create & 0xFF) == (3, 12, 0xAE, 0xE0)
    assert (uapi.KVM_SET_DEVICE_ATTR >> 30, uapi.VFIO_DEVICE_GET_INFO >> 16) == (1, 0)


# ---- The same on every host


def declared(cls: Any) -> Iterator[tuple[str, Any, int, int]]:
    """Name, type, offset and size of the members as ctypes knows them, hidden ones included."""
    for name, ctype in cls._fields_:
        member = getattr(cls, name)
        yield name, ctype, member.offset, ctypes.sizeof(ctype)


def nested(cls: Any) -> Iterator[Any]:
    """The class and all struct and union types inside it."""
    yield cls
    for _, ctype, _, _ in declared(cls):
        if issubclass(ctype, (ctypes.Structure, ctypes.Union)):
            yield from nested(ctype)


def test_no_layout_depends_on_how_a_host_aligns() -> None:
    for outer in STRUCTS.values():
        for cls in nested(outer):
            end = 0
            for name, _, offset, size in declared(cls):
                assert offset == (0 if issubclass(cls, ctypes.Union) else end), f"a hole before {cls.__name__}.{name}"
                end = max(end, offset + size)
            assert end == ctypes.sizeof(cls), f"a hole at the end of {cls.__name__}"


def test_no_field_has_a_type_whose_size_depends_on_the_host() -> None:
    fixed = {ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64}
    for outer in STRUCTS.values():
        for cls in nested(outer):
            for _, ctype, _, _ in declared(cls):
                element = ctype._type_ if issubclass(ctype, ctypes.Array) else ctype
                assert element in fixed or issubclass(element, (ctypes.Structure, ctypes.Union))


def test_bytes_are_little_endian() -> None:
    assert bytes(uapi.VfioGroupStatus(flags=0x01020304)) == bytes([8, 0, 0, 0, 4, 3, 2, 1])


# ---- Making and changing a struct


def test_the_size_field_is_filled_in_unless_it_is_given() -> None:
    assert uapi.VfioDeviceInfo().argsz == 24
    assert uapi.IommuIoasMap().size == 40
    assert uapi.VfioDeviceInfo(argsz=0).argsz == 0


def test_only_a_first_field_is_a_size_field() -> None:
    assert uapi.VfioRegionInfo().size == 0
    assert uapi.VfioBitmap(pgsize=4096).size == 0


def test_the_kernel_sees_what_the_caller_wrote_not_a_size_filled_in() -> None:
    assert uapi.VfioDeviceInfo.from_buffer_copy(bytes(24)).argsz == 0


def test_an_unknown_field_is_refused_with_the_names_of_the_real_ones() -> None:
    valid = "its fields are argsz, flags, pt_id, pasid"
    with pytest.raises(TypeError, match=rf"vfio_device_attach_iommufd_pt has no field 'ptid'; {valid}"):
        uapi.VfioDeviceAttachIommufdPt(ptid=1)
    with pytest.raises(AttributeError, match=valid):
        uapi.VfioDeviceAttachIommufdPt().ptid = 1


def test_a_hidden_field_cannot_be_reached() -> None:
    with pytest.raises(TypeError, match="has no field '_pad'"):
        uapi.VfioIommuType1InfoCapMigration(_pad=1)


INTEGERS = [(name, field) for name, cls in STRUCTS.items() for field in cls.fields() if field.kind == "int"]


def test_a_field_keeps_every_value_of_its_width_and_wraps_as_c_does() -> None:
    choose = Random(0)
    for name, field in INTEGERS:
        half = 1 << 8 * field.size - 1
        edges = (-half, -1, 0, 1, half - 1, half, 2 * half - 1)
        for value in (*edges, choose.randint(-half, 2 * half - 1), choose.randint(-half, 2 * half - 1)):
            struct = STRUCTS[name]()
            struct.set(field.name, value)
            assert (struct.get(field.name) - value) % (2 * half) == 0, (name, field.name, value)
            assert (struct.get(field.name) < 0) == (field.signed and bool(value & half)), (name, field.name, value)


def test_a_value_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    for name, field in INTEGERS:
        bits = 8 * field.size
        struct = STRUCTS[name]()
        before = bytes(struct)
        for value in (-(1 << bits - 1) - 1, 1 << bits, -(1 << 100), 1 << 100):
            with pytest.raises(ValueError, match=rf"{field.name.rpartition('.')[2]} has {bits} bits and takes"):
                struct.set(field.name, value)
        assert bytes(struct) == before


def test_minus_one_is_all_ones_in_an_unsigned_field_and_all_ones_is_minus_one_in_a_signed_one() -> None:
    assert uapi.IommuDestroy(id=-1).id == 0xFFFFFFFF
    assert uapi.VfioDeviceBindIommufd(iommufd=0xFFFFFFFF).iommufd == -1


def test_what_is_not_an_integer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"iommu_destroy\.id takes an integer, not '1'"):
        uapi.IommuDestroy(id="1")


def test_an_array_is_assigned_as_a_whole_and_its_elements_are_checked() -> None:
    info = uapi.IommuHwInfo(__reserved=[1, -1, 2])
    assert list(info.get("__reserved")) == [1, 0xFF, 2]
    info.set("__reserved", [7])
    assert list(info.get("__reserved")) == [7, 0, 0]
    with pytest.raises(ValueError, match=r"iommu_hw_info.__reserved has 3 elements, not 4"):
        info.set("__reserved", [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"__reserved\[1\] has 8 bits"):
        info.set("__reserved", [0, 1 << 8])


def test_bytes_fill_a_byte_array() -> None:
    info = uapi.IommuHwInfo()
    info.set("__reserved", b"\1\2\3")
    assert bytes(info)[29:32] == b"\1\2\3"


def test_what_follows_a_struct_is_not_part_of_it() -> None:
    with pytest.raises(ValueError, match="appended to its bytes"):
        uapi.VfioIrqSet(data=b"\1")


def test_a_nested_struct_is_assigned_whole_or_by_field() -> None:
    get = uapi.VfioIommuType1DirtyBitmapGet(bitmap={"pgsize": 4096}, iova=1)
    get.bitmap.size = 8
    get.set("bitmap.data", 16)
    assert dict(get.bitmap) == {"pgsize": 4096, "size": 8, "data": 16}
    get.bitmap = uapi.VfioBitmap(size=1)
    assert dict(get)["bitmap.size"] == 1
    with pytest.raises(ValueError, match=r"vfio_bitmap\.size has 64 bits"):
        get.bitmap.size = 1 << 64


def test_members_of_a_union_share_their_bytes() -> None:
    device = uapi.VfioPciDependentDevice(devid=-1)
    assert device.group_id == 0xFFFFFFFF
    command = uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_PASID_CHECK_HWPT, **{"pasid_check.hwpt_id": 5})
    assert command.pasid_attach.pt_id == 5


def test_iterating_gives_the_name_and_value_of_every_field() -> None:
    reply = uapi.IommuIovaRange(start=1, last=2)
    assert list(reply) == [("start", 1), ("last", 2)]
    assert all(dict(cls()) for cls in STRUCTS.values())


def test_a_struct_reads_well() -> None:
    bind = uapi.VfioDeviceBindIommufd(flags=uapi.VFIO_DEVICE_BIND_FLAG_TOKEN, iommufd=-1, token_uuid_ptr=4096)
    assert repr(bind) == ("VfioDeviceBindIommufd(argsz=24, flags=0x1, iommufd=-1, out_devid=0, token_uuid_ptr=0x1000)")
    assert repr(uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_TRIGGER_VEVENT)) == (
        "IommuTestCmd(size=72, op=17, id=0, trigger_vevent=DevId(dev_id=0))"
    )


def test_reserved_fields_show_only_when_they_are_not_zero() -> None:
    assert "__reserved" not in repr(uapi.IommuIoasMap())
    assert "__reserved=1" in repr(uapi.IommuIoasMap(__reserved=1))


def test_a_struct_can_be_copied_and_pickled() -> None:
    bind = uapi.VfioDeviceBindIommufd(iommufd=3)
    for twin in (copy.copy(bind), copy.deepcopy(bind), pickle.loads(pickle.dumps(bind))):
        twin.iommufd = 4
        assert (bind.iommufd, bytes(twin)[:8]) == (3, bytes(bind)[:8])


def test_every_struct_says_what_it_is_for() -> None:
    for cls in STRUCTS.values():
        assert cls.__doc__
        assert cls.__doc__ != uapi.Struct.__doc__


# ---- Names of request numbers


def test_a_number_that_two_requests_share_has_both_names() -> None:
    assert set(uapi.request_names(uapi.VFIO_IOMMU_MAP_DMA)) == {"VFIO_DEVICE_PCI_HOT_RESET", "VFIO_IOMMU_MAP_DMA"}
    assert uapi.request_names(uapi.IOMMU_DESTROY) == ("IOMMU_DESTROY",)
    assert uapi.request_names(4660) == ()


def test_the_kind_of_file_decides_between_two_names() -> None:
    shared = uapi.VFIO_IOMMU_MAP_DMA
    assert uapi.request_name(shared, "device") == "VFIO_DEVICE_PCI_HOT_RESET"
    assert uapi.request_name(shared, "container") == uapi.request_name(shared, "iommufd") == "VFIO_IOMMU_MAP_DMA"
    assert uapi.request_name(shared) == "VFIO_IOMMU_MAP_DMA or VFIO_DEVICE_PCI_HOT_RESET"


def test_every_request_is_found_by_its_number_and_file() -> None:
    for name, request in uapi.REQUESTS.items():
        assert uapi.request_name(request.number, request.file) == name


def test_an_unknown_number_is_shown_in_hexadecimal() -> None:
    assert uapi.request_name(4660) == "0x1234"


# ---- Errors


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other numbers")
def test_error_numbers_are_those_of_linux() -> None:
    assert {name: getattr(host, name) for name in Errno.__members__} == dict(Errno.__members__)


def test_every_recorded_error_has_a_number() -> None:
    assert set(Errno.__members__) >= RECORDED_ERRNOS


def test_every_error_has_a_short_sentence_of_its_own() -> None:
    sentences = [error.sentence for error in Errno]
    assert all(10 < len(sentence) < 100 and not sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


def test_a_kernel_error_tells_what_refused_why_and_where() -> None:
    error = KernelError(Errno.EBUSY, "the group file is open", check="group_is_closed", where="group.py:41")
    assert str(error) == "[EBUSY] the group file is open (group_is_closed, group.py:41)"
    assert (error.errno, error.name, error.check, error.where) == (16, "EBUSY", "group_is_closed", "group.py:41")
    assert error.sentence == error.strerror == "the group file is open"


def test_a_kernel_error_is_an_os_error_with_the_number_of_linux() -> None:
    with pytest.raises(OSError, match="EBADFD") as caught:
        raise KernelError(Errno.EBADFD)
    assert caught.value.errno == 77
    assert type(caught.value.errno) is int


def test_a_kernel_error_without_details_says_what_its_number_means() -> None:
    assert str(KernelError(Errno.ENOTTY)) == f"[ENOTTY] {Errno.ENOTTY.sentence}"
    assert str(KernelError(4095)) == "[E4095] error number 4095"


@pytest.mark.parametrize("number", [Errno.EPERM, Errno.EAGAIN, Errno.EEXIST, 4095])
def test_a_kernel_error_survives_pickling_and_copying(number: int) -> None:
    error = KernelError(number, "why", check="check", where="file.py:1")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is KernelError
        assert (str(twin), twin.errno, twin.check, twin.where) == (str(error), error.errno, "check", "file.py:1")
