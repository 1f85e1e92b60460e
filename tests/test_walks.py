"""CONTRIBUTING walks through additions: a toy of each, added by the written steps and by nothing else, works with all there is."""

from __future__ import annotations

from typing import Any

import pytest

from vfiosim import KernelError, Machine
from vfiosim.engine import Field, Phase, load, refuse_if, say, store
from vfiosim.engine.functions import FUNCTIONS, Wrong, kernel
from vfiosim.engine.operations import OPERATIONS, WRITE, WROTE, arrow, declared, effect, looks, writes
from vfiosim.engine.requests import check_effect
from vfiosim.explore.accesses import conflict
from vfiosim.kernel.vfio.vfio import VfioDevice
from vfiosim.uapi import Errno


def _incremented_words(say, answer, target):
    return f"{say(target)} by one{arrow(say, answer)}"


@effect(Field, touches=writes, does=WROTE, orders=True, words=_incremented_words)
def increment(engine, thread, target):
    """Add one to a field in one step; the answer is the new value (`atomic_inc_return`)."""
    engine.touch(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, target.value, target.value + 1))
    target.value += 1
    return target.value


@kernel("drivers/vfio/vfio_main.c")
async def vfio_toy_call(device: VfioDevice, most: int) -> int:
    """A toy of a kernel function: counts opens that never were. EBUSY beyond `most`."""
    say(Phase.VALIDATE, "Is there room for one more?")
    count = await load(device.open_count)
    await refuse_if(count >= most, Errno.EBUSY, "toy_room_left", "the toy is full")
    return await increment(device.open_count)


# No other test meets them.
TOYS = FUNCTIONS.pop("vfio_toy_call"), OPERATIONS.pop(increment)
NOBODY: Any = None


@pytest.fixture(autouse=True)
def _toys_are_there_for_a_while():
    FUNCTIONS["vfio_toy_call"], OPERATIONS[increment] = TOYS
    yield
    del FUNCTIONS["vfio_toy_call"], OPERATIONS[increment]


def done(machine: Machine, most: int) -> int:
    device = next(iter(machine.built.vfio_devices.values()))

    async def called():
        return await vfio_toy_call(device, most)

    return machine._in_kernel(called(), "toy")


def test_a_new_effect_happens_in_one_step_that_the_journal_knows():
    machine = Machine("small")
    device = next(iter(machine.built.vfio_devices.values()))
    before = len(machine.engine.micro)
    assert done(machine, most=2) == 1
    names = [one[1][0].__name__ for one in machine.engine.micro[before:]]
    assert names.count("increment") == 1
    assert device.open_count.value == 1


def test_a_search_knows_by_its_declaration_that_a_new_effect_conflicts_with_a_load():
    machine = Machine("small")
    device = next(iter(machine.built.vfio_devices.values()))
    touched = declared((increment,)).touches(NOBODY, (increment, device.open_count))
    assert ((device.oid, "open_count"), WRITE) in touched
    looked = looks(NOBODY, (None, device.open_count))
    assert conflict(touched, looked)


def test_a_trace_tells_a_new_effect_in_the_words_of_its_declaration():
    machine = Machine("small")
    done(machine, most=2)
    micro = next(one for one in machine.trace.micro if one.operation == "increment")
    assert micro.text == "increment vfio_device vfio0.open_count by one → 1"


def test_a_new_effect_takes_from_a_student_what_it_declares_and_nothing_else():
    check_effect(increment, (next(iter(Machine("small").built.vfio_devices.values())).open_count,))
    with pytest.raises(Wrong, match="argument 1, which must be a field"):
        check_effect(increment, (7,))


def test_a_new_kernel_function_refuses_by_name_and_says_where_it_comes_from():
    with pytest.raises(KernelError) as caught:
        done(Machine("small"), most=0)
    assert (caught.value.name, caught.value.check) == ("EBUSY", "toy_room_left")
    assert str(FUNCTIONS["vfio_toy_call"]) == "vfio_toy_call (drivers/vfio/vfio_main.c, v7.2)"


def test_a_new_kernel_function_can_be_replaced_in_one_machine():
    async def vfio_toy_call(device, most):
        await store(device.open_count, 7)
        return 7

    machine = Machine("small")
    with machine.patched(vfio_toy_call=vfio_toy_call):
        assert done(machine, most=0) == 7
    with pytest.raises(KernelError):
        done(machine, most=0)
