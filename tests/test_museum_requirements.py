"""What a repair of the museum has to leave working: a call that does nothing any more is not mended."""

import re
import textwrap
from inspect import signature, unwrap
from typing import Any

import pytest

from tests.searches import ONLY_THE_PUT, beside, each_room
from tests.turns import by_night, turns
from vfiosim.engine import FUNCTIONS, PatchError, load
from vfiosim.lessons.museum_hints import HINTS
from vfiosim.museum import ROOMS, Proof, Room, StudentFunction
from vfiosim.museum.room import _source

every = each_room()


def repaired(room: Room) -> dict[str, str]:
    """The museum's own repair, as a reader would paste it."""
    return {name: _source(room.repair.get(name) or FUNCTIONS[name].function, name) for name in room.to_mend}


def proof(room: Room, texts: dict[str, str], **options: Any) -> Proof:
    """What the museum says of these functions."""
    return room.prove(*map(room.mine, texts.values()), recordings=False, **options)


def is_refuted(room: Room, texts: dict[str, str]) -> bool:
    """Is something found that goes wrong or no longer works? A search that only came to no end refutes nothing."""
    return proof(room, texts, first=True).refuted


def with_body(name: str, text: str, body: str) -> str:
    """A function of this name with that body; in it `once` is the function of `text`."""
    parameters = ", ".join(signature(unwrap(FUNCTIONS[name].function)).parameters)
    once = textwrap.indent(text.replace(f"async def {name}(", "async def once(", 1), "    ")
    return f"async def {name}({parameters}):\n{once}\n{textwrap.indent(body.replace('…', parameters), '    ')}\n"


USELESS = {
    "answers 0": "return 0",
    "does nothing": "pass",
    "refuses with EINVAL": "await refuse_if(True, Errno.EINVAL, 'no', 'never')",
    "refuses with ENOMEM": "await refuse_if(True, Errno.ENOMEM, 'no', 'never')",
    "works, then refuses": "await once(…)\nawait refuse_if(True, Errno.EINVAL, 'no', 'never')",
    "is as it was": "return await once(…)",
}


OFTEN = ("answers 0", "works, then refuses", "is as it was")  # the others are of the same kinds
USELESS_BODIES = [pytest.param(body, id=name, marks=by_night(name not in OFTEN)) for name, body in USELESS.items()]


@each_room(days=3)
@pytest.mark.parametrize("body", USELESS_BODIES)
def test_a_function_that_is_of_no_use_is_no_repair_whatever_the_others_are(room: Room, body: str) -> None:
    mended, faulty = repaired(room), {name: room.source(name) for name in room.to_mend}
    for name in room.to_mend:
        useless = with_body(name, faulty[name], body)
        assert is_refuted(room, faulty | {name: useless}), name
        if body != USELESS["is as it was"]:
            assert is_refuted(room, mended | {name: useless}), name


def test_a_function_that_keeps_something_from_call_to_call_is_refused_before_anything_is_proved() -> None:
    room, seen = ROOMS["pasid-zero"], []

    async def looks_longer_each_time(device: Any, pasid: int, pt_id: int) -> int:
        seen.append(pasid)
        for _ in seen:
            await load(device.iommufd_device)
        return int(await room.repair[room.to_mend[0]](device, pasid, pt_id))

    with pytest.raises(PatchError, match="changes `seen`, which was not made in this function"):
        room.prove(StudentFunction(room.to_mend[0], looks_longer_each_time, ""))


TWICE_DOES_HARM = (
    ("reference-before-check", "mtty_open_device"),
    ("list-used-too-long", "kvm_vfio_file_add"),
    ("last-put-under-the-lock", "kvm_device_release"),
    ("last-put-under-the-lock", "kvm_put_kvm"),
    ("mapped-into-itself", "iopt_map_file_pages"),
    ("release-after-free", "iommufd_fault_alloc"),
    ("return-without-unlock", "vfio_df_ioctl_bind_iommufd"),
    ("token-of-a-failed-bind", "vfio_df_ioctl_bind_iommufd"),
    ("backend-switch", "vfio_group_ioctl_set_container"),
)


@pytest.mark.parametrize(("name", "function"), turns(TWICE_DOES_HARM, days=3))
def test_what_is_done_twice_is_no_repair_where_twice_does_harm(name: str, function: str) -> None:
    room, texts = ROOMS[name], repaired(ROOMS[name])
    twice = with_body(function, texts[function], "await once(…)\nreturn await once(…)")
    assert is_refuted(room, texts | {function: twice})


NEVER_FAILS = "try:\n    return await once(…)\nexcept KernelError:\n    return 0"


LEAVES_OUT = (
    ("failed-second-bind", "return\nawait once(…)"),
    ("reference-before-check", NEVER_FAILS),
    ("list-used-too-long", NEVER_FAILS),
    ("mapped-into-itself", "if fd == 3:\n    return 0\nreturn await once(…)"),
    ("pasid-zero", "if pasid == 0:\n    return 0\nreturn await once(…)"),
    ("replace-that-detaches", NEVER_FAILS),
    ("replace-that-detaches", "if argument == 0x10_0000:\n    return 0\nreturn await once(…)"),
    ("release-after-free", NEVER_FAILS),
    ("release-after-free", "if ucmd.address == 0x10_0000:\n    return\nawait once(…)"),
    ("return-without-unlock", NEVER_FAILS),
    ("token-of-a-failed-bind", NEVER_FAILS),
    ("backend-switch", NEVER_FAILS),
    ("backend-switch", "if await get_user_u32(argument) == 6:\n    return 0\nreturn await once(…)"),
)


@pytest.mark.parametrize(("name", "body"), turns(LEAVES_OUT, days=3))
def test_to_leave_out_only_what_fails_and_say_that_it_was_done_is_no_repair(name: str, body: str) -> None:
    room, texts = ROOMS[name], repaired(ROOMS[name])
    function = room.to_mend[0]
    assert is_refuted(room, texts | {function: with_body(function, texts[function], body)})


GET_VM, PUT_VM, BEFORE_THE_VM = "vfio_df_get_kvm_safe", "vfio_device_put_kvm", "    async with df.kvm_ref_lock:\n"
BEFORE_THE_PUT, TELLS_ITS_VM = "    kvm = await load(device.kvm)\n", "    await kvm_vfio_file_set_kvm(file, device.kvm)"
ITS_OWN, HANDS_OVER = "get(file.f_ref, kv, LISTED)", 'hand_over(file.f_ref, (current(), "running call"), (kv, LISTED))'
BINDS = "            await bind_locked"
CASES: dict[
    str, tuple[str, list[tuple[str, str, str]]]
] = {  # half of a repair: the case of the report is mended, and not its kind
    "the VM of a card, not that of an emulated device": (
        "failed-second-bind",
        [
            (GET_VM, BEFORE_THE_VM, f"    if await load(df.device.iommufd_device):\n        return\n{BEFORE_THE_VM}"),
            (PUT_VM, BEFORE_THE_PUT, f"    if await load(device.iommufd_device):\n        return\n{BEFORE_THE_PUT}"),
        ],
    ),
    "the VM of the first file, not that of the second": (
        "failed-second-bind",
        [
            (GET_VM, BEFORE_THE_VM, f"    if await load(df.device.kvm) is not None:\n        return\n{BEFORE_THE_VM}"),
            (PUT_VM, BEFORE_THE_PUT, f"    if await load(device.open_count):\n        return\n{BEFORE_THE_PUT}"),
        ],
    ),
    "the file is there, but may be on no list any more": (
        "list-used-too-long",
        [
            ("kvm_vfio_file_add", "on_failure(fput", "cleanup(fput"),
            ("kvm_vfio_file_add", HANDS_OVER, ITS_OWN),
            ("kvm_vfio_file_add", TELLS_ITS_VM, f"    {TELLS_ITS_VM}"),
        ],
    ),
    "no device, but an iommufd is mapped": (
        "mapped-into-itself",
        [
            (
                "iopt_map_file_pages",
                "        else:\n",
                f"        else:\n{' ' * 12}await refuse_if(file.f_op is vfio_device_fops, Errno.EINVAL, '', '')\n",
            ),
        ],
    ),
    "memory, but no memory of a driver": (
        "mapped-into-itself",
        [
            (
                "iopt_map_file_pages",
                "        if file",
                "        await refuse_if(file.f_op is not shmem_file_operations, Errno.EINVAL, '', '')\n        if file",
            ),
        ],
    ),
    "no descriptor, but a descriptor of another kind": (
        "token-of-a-failed-bind",
        [
            (
                "vfio_df_ioctl_bind_iommufd",
                BINDS,
                f"{' ' * 12}await fput(await require(await fget(bind.iommufd), Errno.EBADF, '', ''))\n{BINDS}",
            ),
        ],
    ),
}


@pytest.mark.parametrize("case", turns(CASES, days=3))
def test_to_mend_the_case_of_the_report_and_not_its_kind_is_no_repair(case: str) -> None:
    name, edits = CASES[case]
    room = ROOMS[name]
    texts = {function: room.source(function) for function in room.to_mend}
    for function, old, new in edits:
        assert texts[function].count(old) == 1, old
        texts[function] = texts[function].replace(old, new)
    found = proof(room, texts)
    assert found.refuted, str(found)


def test_a_name_that_is_not_there_is_told_with_one_that_is_like_it() -> None:
    room = ROOMS["mapped-into-itself"]
    with pytest.raises(PatchError, match=r"uses `vfio_device_fop`, .*, but there is `vfio_device_fops` \(line 9\)$"):
        room.mine(room.source().replace("dma_buf_fops:", "vfio_device_fop:"))


STATEMENT = re.compile(r"<code>((?:await|async with|if|late|before) [^<].*?)</code>")
KEEPS = "            pages = await iopt_alloc_file_pages"
HINTED: dict[str, list[tuple[str, str, str]]] = {  # what stands above a line of the function, as the last hint says
    "failed-second-bind": [
        (GET_VM, BEFORE_THE_VM, "    device = df.device\n    {}\n"),
        (PUT_VM, BEFORE_THE_PUT, "    {}\n"),
    ],
    "mapped-into-itself": [("iopt_map_file_pages", KEEPS, "            {}\n")],
    "pasid-zero": [("vfio_iommufd_physical_pasid_attach_ioas", "    idev = await load", "    {}\n")],
    "replace-that-detaches": [("vfio_df_ioctl_attach_pt", "    await attach_and_tell", "    {}\n")],
    "token-of-a-failed-bind": [("vfio_df_ioctl_bind_iommufd", BINDS, f"{' ' * 12}{{}}\n{' ' * 12}{{}}\n    ")],
    "backend-switch": [("vfio_group_ioctl_set_container", "        await set_container(", "        {}\n        {}\n")],
}


@each_room(days=4)  # each repair of the museum is proved as it stands in test_museum.py
def test_the_code_of_the_last_hint_put_where_it_says_is_a_repair(room: Room) -> None:
    """Where it gives no statement it describes the repair of the museum."""
    texts = repaired(room) if room.name not in HINTED else {name: room.source(name) for name in room.to_mend}
    statements = STATEMENT.findall(HINTS[room.name][-1])
    for function, line, above in HINTED.get(room.name, []):
        assert texts[function].count(line) == 1
        texts[function] = texts[function].replace(line, above.format(*statements) + line)
    pasted = proof(room, texts)
    assert pasted.clean, str(pasted)
    assert pasted.counterexample is None


def test_another_repair_of_pasid_zero_is_one_too() -> None:
    """PASID 0 is the DMA without a PASID, in VFIO's book as well."""
    room, [name] = ROOMS["pasid-zero"], ROOMS["pasid-zero"].to_mend
    body = "if pasid == 0:\n    return await device.ops.attach_ioas(device, pt_id)\nreturn await once(…)"
    found = proof(room, {name: with_body(name, room.source(), body)})
    assert found.clean, str(found)


@beside("list-used-too-long")
def test_it_is_enough_to_keep_the_lock_of_the_list() -> None:
    room = ROOMS["list-used-too-long"]
    call = "    await kvm_vfio_file_set_kvm(file, device.kvm)\n"
    inside = room.source().rstrip() + "\n"
    inside = inside.replace(call, "").replace("(*files, file))\n", f"(*files, file))\n        {call}")
    found = room.prove(room.mine(inside))
    assert found.clean, str(found)


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        (
            "mapped-into-itself",
            "    return 0\n",
            "MAP_FILE of a file of memory must still succeed, and UNMAP give its pages back. "
            "With your function: IOMMU_IOAS_UNMAP answers ENOENT, not 0.",
        ),
        (
            "mapped-into-itself",
            "    await refuse_if(True, Errno.EINVAL, 'no', 'never')\n",
            "With your function: IOMMU_IOAS_MAP_FILE answers EINVAL, not 0.",
        ),
        ("pasid-zero", "    return 0\n", "With your function: IOMMU_DESTROY answers 0, not EBUSY."),
        ("reference-before-check", "    pass\n", "VFIO_DEVICE_BIND_IOMMUFD answers 0, not EEXIST."),
        ("replace-that-detaches", "    pass\n", "VFIO_DEVICE_ATTACH_IOMMUFD_PT answers None, not 0."),
    ],
)
def test_what_no_longer_works_is_told_with_the_call_and_its_answer(name: str, body: str, says: str) -> None:
    room = ROOMS[name]
    head = room.source()[: room.source().index(":\n") + 2]
    found = room.prove(room.mine(head + body))
    assert "NOT mended" in str(found)
    assert says in str(found)
    assert found.counterexample is not None
    assert len(found.counterexample.trace) > 0


def test_a_function_that_fails_as_soon_as_it_has_a_lock_is_told_in_a_sentence() -> None:
    room = ROOMS["pasid-zero"]
    found = room.prove(
        room.mine(room.source().replace("    idev = await load(device.iommufd_device)\n", "    idev = 1 // 0\n"))
    )
    assert "your function vfio_iommufd_physical_pasid_attach_ioas raises ZeroDivisionError" in str(found)


def test_a_name_that_is_not_there_is_told_before_anything_is_proved() -> None:
    room = ROOMS["pasid-zero"]
    with pytest.raises(PatchError, match="uses `idev`, and there is nothing of this name"):
        room.mine(room.source().replace("    idev = await load(device.iommufd_device)\n", ""))


@every
def test_a_room_says_beforehand_what_must_work(room: Room) -> None:
    assert room.must_still_work
    assert all(one.says in str(room) for one in room.must_still_work)


def test_a_vm_that_the_first_bind_no_longer_takes_is_missed_though_every_call_is_answered_as_before() -> None:
    room = ROOMS["failed-second-bind"]
    takes_none = "async def vfio_df_get_kvm_safe(df):\n    return None\n"
    found = room.prove(room.mine(ONLY_THE_PUT), room.mine(takes_none))
    assert not found.result.violations
    assert "The first BIND must still take the VM of its file" in str(found)
