"""What is read of an object without an effect goes with the object: the engine tells, and the search tries both orders."""

from typing import Any

import pytest

from tests.searches import beside, vast
from vfiosim import replay, uapi
from vfiosim.engine import Engine, Field, alloc, field, free, return_to_user
from vfiosim.engine.kinds import check_kind
from vfiosim.engine.objects import KObject
from vfiosim.explore import explore
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.iommufd import DEVICE, HERE, IOAS
from vfiosim.puzzles.programs import DEV, ask


class Card(KObject):
    """Something with a fixed attribute."""

    kind = "card"

    def __init__(self, engine: Engine, slot: int) -> None:
        super().__init__(engine)
        self.slot = slot


def violations(notices: bool, *, after_its_death: bool) -> list[str]:
    """A thread makes a card, reads its slot, and frees it; in the one order or the other."""
    engine = Engine()
    if notices:
        engine.notice_all()

    async def code() -> None:
        card = await alloc(Card, 7)
        if after_its_death:
            await free(card)
        assert card.slot == 7
        if not after_its_death:
            await free(card)
        await return_to_user(None)

    engine.run(engine.spawn(code(), "A"))
    return engine.violations


@pytest.mark.parametrize("notices", [False, True])
def test_an_attribute_of_a_freed_object_is_a_use_after_free_and_of_a_living_one_it_is_none(notices: bool) -> None:
    assert violations(notices, after_its_death=True) == ["use after free: A touches card 1.slot"]
    assert violations(notices, after_its_death=False) == []


def test_a_read_between_two_effects_comes_too_late_if_the_object_is_gone_by_the_second_one() -> None:
    engine = Engine()
    engine.notice_all()
    made: list[Card] = []

    async def reader() -> None:
        made.append(await alloc(Card, 7))
        assert made[0].slot == 7
        await return_to_user(None)

    async def other() -> None:
        await free(made[0])

    first, second = engine.spawn(reader(), "A"), engine.spawn(other(), "B")
    engine.steps(first, 2)
    engine.run(second)
    assert engine.violations == []
    engine.run(first)
    assert engine.violations == ["use after free: A touches card 1.slot"]


class Box(KObject):
    """Something that holds a card; its class knows cards by their name only."""

    kind = "box"
    card: Field["Card | None"] = field(None)


def test_a_field_still_takes_what_its_class_declares_when_one_of_that_kind_was_freed() -> None:
    assert "use after free" in str(violations(True, after_its_death=True))
    engine = Engine(trace=False)
    box, card = Box(engine), Card(engine, 7)
    check_kind(box.card, card)
    with pytest.raises(TypeError, match="holds a card or None, not 'a text'"):
        check_kind(box.card, "a text")


def test_an_object_whose_reads_are_noticed_is_still_of_its_class() -> None:
    engine = Engine()
    engine.notice_all()

    async def code() -> None:
        card = await alloc(Card, 7)
        card.slot = 8
        assert (card.slot, card.own_class, isinstance(card, Card)) == (8, Card, True)
        assert engine.objects.of(Card) == [card]

    thread = engine.spawn(code(), "A")
    engine.run(thread)
    assert (thread.state, thread.error) == ("done", None)


def closed_while(call: Any) -> dict[str, list[Any]]:
    return {"A": [("vmm", "close", DEV)], "B": [call]}


def destroyed_while(call: Any) -> dict[str, list[Any]]:
    return {"A": [ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=IOAS))], "B": [call]}


ALLOC = ask(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=DEVICE, pt_id=IOAS))
INFO = ask(uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo(dev_id=DEVICE))
FLAGS = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA
MAP = ask(uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap(flags=FLAGS, ioas_id=IOAS, user_va=HERE, length=4096))
FREED = [
    pytest.param(closed_while(INFO), "iommufd_device 1.dev", id="hw_info"),
    pytest.param(closed_while(ALLOC), "iommufd_device 1.", id="hwpt_alloc"),
    pytest.param(destroyed_while(MAP), "iommufd_ioas 2.", id="map"),
]


@pytest.mark.parametrize(("programs", "what"), FREED)
def test_a_call_that_holds_nothing_goes_on_with_what_another_one_has_freed(programs: Any, what: str) -> None:
    machine = PUZZLES["R14"].setup
    broken = explore(machine, programs, [], ["running call"], seconds=60)
    late = [one for one in broken.violations if one.what.startswith(f"use after free: B touches {what}")]
    assert late, [one.what for one in broken.violations]
    assert late[0].what in late[0].machine.check()


def test_with_its_references_it_does_not() -> None:
    assert explore(PUZZLES["R14"].setup, closed_while(INFO), []).verdict == "safe"


@beside("R14")
def test_the_short_text_of_such_a_counterexample_shows_it_too() -> None:
    shown = vast("R14", "running call").counterexample
    assert shown is not None
    assert shown.what in replay(shown.replay).machine.check()


def test_an_attribute_that_others_of_the_class_have_may_still_be_given_to_an_object_that_is_noticed() -> None:
    class Late(KObject):
        kind = "late"
        colour = "none"

    engine = Engine()
    engine.notice_all()
    seen: list[str] = []

    async def code() -> None:
        first = await alloc(Late)
        first.colour = "red"
        await free(first)
        second = await alloc(Late)
        await free(await alloc(Late))
        seen.append(second.colour)
        second.colour = "blue"
        seen.append(second.colour)
        await return_to_user(None)

    engine.run(engine.spawn(code(), "A"))
    assert seen == ["none", "blue"]
