"""What a pointer that leads nowhere does: an oops where a protection is missing, an error of ours everywhere else."""

from typing import Any

import pytest

from vfiosim import Machine, uapi
from vfiosim.engine import Engine, KernelOops, free, get_unless_zero, load
from vfiosim.puzzles.programs import CTX, DEV, bind, make, ready_to_bind

from .toys import Door

CONFIG_SPACE = uapi.VFIO_PCI_CONFIG_REGION_INDEX << 40


def _door() -> tuple[Engine, Door]:
    engine = Engine()
    return engine, Door(engine)


def test_looking_at_the_count_of_freed_memory_is_reported() -> None:
    engine, door = _door()

    async def late() -> bool:
        await free(door)
        return await get_unless_zero(door.users, door, "late")

    thread = engine.spawn(late(), "ann")
    engine.run(thread)
    assert thread.result is False
    assert engine.violations == [f"use after free: ann touches {door.users.path}"]


async def _trusting(door: Door) -> Any:
    owner = await load(door.owner)
    assert owner is not None
    return owner


def test_without_a_protection_a_promise_that_does_not_hold_is_an_oops() -> None:
    engine, door = _door()
    engine.take_out("anything")
    thread = engine.spawn(_trusting(door), "ann")
    engine.run(thread)
    assert thread.state == "oops"
    assert str(thread.error) == "ann follows a null pointer in _trusting"


def test_where_nothing_was_taken_out_it_is_an_error_of_ours() -> None:
    engine, door = _door()
    with pytest.raises(AssertionError):
        engine.run(engine.spawn(_trusting(door), "ann"))


def _card() -> Machine:
    return ready_to_bind("vmm", topology="lab")


def test_configuration_space_can_be_read_from_the_first_open_to_the_last_close() -> None:
    machine = make(_card(), bind("vmm"))
    vmm = machine.processes["vmm"]
    assert vmm.pread(DEV, 4, CONFIG_SPACE) == bytes.fromhex("3412e811")
    vmm.close(DEV)
    assert vmm.open("/dev/vfio/devices/vfio0") == DEV
    make(machine, bind("vmm", DEV, CTX))
    assert vmm.pread(DEV, 4, CONFIG_SPACE) == bytes.fromhex("3412e811")
    assert machine.check() == []


def test_configuration_space_without_its_tables_is_an_oops() -> None:
    machine = _card()

    async def vfio_config_init(core: Any) -> None:
        """Forget them."""

    with machine.patched(vfio_config_init=vfio_config_init):
        make(machine, bind("vmm"))
        with pytest.raises(KernelOops, match="a table that is not there"):
            machine.processes["vmm"].pread(DEV, 4, CONFIG_SPACE)
