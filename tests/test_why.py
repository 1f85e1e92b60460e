"""Who keeps this alive? The answers, as claims."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tests.toys import Door, House, Key, hold, kill, make_key, point_at
from vfiosim import Machine, uapi
from vfiosim.engine import store
from vfiosim.why import why


@pytest.fixture
def house() -> House:
    house = House()
    house.run(make_key(house.person, house.door))
    return house


def key_of(house: House) -> Key:
    key = house.engine.objects["key 1"]
    assert isinstance(key, Key)
    return key


def test_every_way_from_a_root_is_told_shortest_first(house: House) -> None:
    house.run(hold(house.door.users, house.person, "stands in it"))
    assert str(why(house.engine, "door front")).splitlines() == [
        "door front is kept alive by:",
        "  person ann --stands in it--> door front",
        "  person ann --key 1--> key 1 --opens it--> door front",
    ]


def test_a_notebook_folds_all_ways_but_the_shortest(house: House) -> None:
    house.run(hold(house.door.users, house.person, "stands in it"))
    shown, folded = why(house.engine, "door front")._repr_html_().split("<details><summary>1 more path</summary>")
    assert "stands in it" in shown
    assert "opens it" in folded


def test_a_notebook_breaks_no_word_of_an_answer(house: House) -> None:
    answer = why(house.engine, "door front")
    page = answer._repr_html_()
    assert "word-break: normal" in page
    assert unescape(re.sub(r"<[^>]*>", "\n", page)).split() == str(answer).split()


def test_an_owning_pointer_keeps_alive_and_a_weak_one_does_not(house: House) -> None:
    house.run(point_at(house.door, key_of(house)))
    assert why(house.engine, "tag 1").paths[0].words == "person ann (key 1) holds key 1, which owns tag 1"
    assert str(why(house.engine, "tag 1")).splitlines()[1:] == ["  person ann --key 1--> key 1 --owns--> tag 1"]
    assert len(why(house.engine, "key 1").paths) == 1


def test_a_root_needs_no_holder(house: House) -> None:
    answer = why(house.engine, "ann")
    assert answer.kept
    assert str(answer) == "person ann needs no holder: it is a person."


def test_nothing_may_keep_an_object(house: House) -> None:
    alone = Door(house.engine, "back")
    house.engine.objects[alone.oid] = alone
    assert str(why(house.engine, "back")) == "Nothing keeps door back alive."


def test_a_reference_whose_holder_died_is_lost(house: House) -> None:
    back = Door(house.engine, "back")
    house.engine.objects[back.oid] = back
    house.run(hold(back.users, key_of(house), "opens it too"))
    house.run(kill(key_of(house)))
    answer = why(house.engine, "door back")
    assert not answer.kept
    assert str(answer).splitlines() == [
        "Nothing that can be reached keeps door back alive, yet it is counted: it has leaked.",
        "  lost reference: key 1 is gone, but door back.users still counts it (opens it too)",
    ]


def test_a_ring_that_nobody_holds_is_named(house: House) -> None:
    left, right = Door(house.engine, "left"), Door(house.engine, "right")
    for thing, other in ((left, right), (right, left)):
        house.engine.objects[thing.oid] = thing
        house.run(hold(thing.users, other, "leads to it"))
    answer = why(house.engine, "door left")
    assert not answer.kept
    assert "  cycle: door left --leads to it--> door right --leads to it--> door left" in str(answer).splitlines()


def test_a_running_call_is_a_root_while_it_runs(house: House) -> None:
    thread = house.start(make_key(house.person, house.door), "bob")
    house.engine.step(thread)
    house.run(hold(key_of(house).held, thread, "looks at it"))
    assert "  thread bob --looks at it--> key 1" in str(why(house.engine, "key 1"))
    house.engine.run(thread)
    assert why(house.engine, "key 1").lost


@pytest.mark.parametrize("name", ["door front", "front", "FRONT", "fro", "door"])
def test_a_short_name_will_do_while_it_fits_one_object(house: House, name: str) -> None:
    assert why(house.engine, name).name == "door front"


def test_a_name_that_fits_none_or_several_is_answered_with_one_sentence(house: House) -> None:
    with pytest.raises(ValueError, match=r"there is no living object 'door frnt'; do you mean 'door front'\?"):
        why(house.engine, "door frnt")
    house.run(make_key(house.person, house.door))
    with pytest.raises(ValueError, match="'key' fits several objects: 'key 1', 'key 2'"):
        why(house.engine, "key")
    with pytest.raises(ValueError, match="there is no living object 'qqq'; there are 'person ann'"):
        why(house.engine, "qqq")


def test_a_trace_and_its_states_can_be_asked_as_well(house: House) -> None:
    answer = why(house.engine, "tag")
    assert why(house.trace, "tag") == why(house.trace.state(-1 + len(house.trace)), "tag") == answer
    with pytest.raises(ValueError, match="no living object"):
        why(house.trace.state(-1), "tag")
    with pytest.raises(TypeError, match="not a str"):
        why("tag", "tag")


def test_what_was_freed_is_told_to_be_gone_by_who_has_seen_it(house: House) -> None:
    key = key_of(house).oid
    house.run(kill(key_of(house)))
    assert str(why(house.trace, key)) == f"Nothing keeps {key} alive: it is gone."
    with pytest.raises(ValueError, match="no living object"):
        why(house.engine, key)


def test_after_close_of_the_iommufd_number_the_binding_keeps_its_context() -> None:
    machine = Machine()
    vmm = machine.process("vmm")
    device, iommufd = vmm.open("/dev/vfio/devices/vfio0"), vmm.open("/dev/iommu")
    vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    vmm.close(iommufd)
    answer = machine.why("iommufd_ctx")
    assert answer.kept
    assert any(f"fd {device}" in str(path) for path in answer.paths)
    assert not any(f"fd {iommufd}" in str(path) for path in answer.paths)


def test_a_pointer_to_what_is_counted_does_not_own_it(house: House) -> None:
    house.run(store_tag(key_of(house), house.door))
    assert [link.sort for path in why(house.engine, "door").paths for link in path.links] == ["counted", "counted"]


async def store_tag(key: Key, thing: Door) -> None:
    await store(key.tag, thing)
