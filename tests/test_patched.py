"""Functions of a student's own: whatever is wrong with one is told in a sentence, and harms nothing."""

import asyncio
import functools
import gc
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from vfiosim import KernelError, KernelOops, Machine, PatchError, uapi
from vfiosim.engine import FUNCTIONS, acquire, load, refuse_if, shared, store
from vfiosim.engine.lifetime import get
from vfiosim.explore import explore
from vfiosim.kernel.vfio.vfio_main import vfio_df_open
from vfiosim.machine import decode, encode
from vfiosim.puzzles import PUZZLES
from vfiosim.uapi import Errno

ROOT = Path(__file__).parents[1]
NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD


@pytest.fixture(autouse=True, scope="module")
def only_new_objects_are_collected():
    """What other tests have cached is not looked through again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_coroutine_is_forgotten():
    """No warning that a coroutine was never awaited, whatever a test does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


def bind(function, name="vfio_df_open", **options):
    """A machine on which a bind runs with a function of one's own: the machine, its process, and what the bind raises."""
    m = Machine(**options)
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    try:
        with m.patched(**{name: function}):
            p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    except Exception as error:
        return m, p, error
    raise AssertionError("the bind went well")


def works(m, p):
    """All locks are free, and the same process can do something sensible."""
    held = [cell.path for thing in m.engine.objects.values() for cell in thing.cells() if getattr(cell, "holder", None)]
    assert held == []
    assert p.task.alive.value
    other = m.process("other")
    other.open("/dev/vfio/devices/vfio1")
    p.exit()
    assert m.pending == []
    return True


async def endless(df):
    while True:
        pass


async def endless_although_it_catches(df):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


async def endless_although_it_catches_everything(df):
    while True:
        try:
            while True:
                try:
                    _ = df.device
                except:  # noqa: E722
                    continue
        except BaseException:
            continue


async def endless_although_it_keeps_what_it_catches(df):
    while True:
        try:
            while True:
                pass
        except BaseException as error:
            kept = error  # noqa: F841


async def endless_although_it_keeps_it_in_a_call(df):
    while True:
        try:
            _ = [1, 2].index(len("12"))
        except BaseException as error:
            kept = error  # noqa: F841


class Swallows:
    def __enter__(self):
        return self

    def __exit__(self, *kept):
        self.kept = kept
        return True


async def endless_although_each_layer_keeps_it(df):
    kept: list[object] = []
    while True:
        with Swallows():
            while True:
                try:
                    kept.append(sorted([2, 1], key=lambda n: -n))
                except BaseException as error:
                    kept.append(error)
                finally:
                    kept[1:] = []


async def returns_although_it_ran_too_long(df):
    try:
        while True:
            pass
    except BaseException as error:
        return error


async def endless_in_a_helper(df):
    def count(n):
        while n >= 0:
            n += 1

    count(1)


async def endless_effects(df):
    while True:
        await load(df.access_granted)


async def divides(df):
    await load(df.access_granted)
    return 1 // 0


async def says_nothing(df):
    raise ValueError


async def awaits_a_number(df):
    await 3  # type: ignore[misc]


async def awaits_asyncio(df):
    await asyncio.sleep(0)


class Odd:
    def __init__(self, *what):
        self.what = what

    def __await__(self):
        yield self.what


async def awaits_a_tuple(df):
    await Odd(1, 2)


async def awaits_an_empty_tuple(df):
    await Odd()


async def loads_a_number(df):
    await load(3)  # type: ignore[arg-type]


async def stores_a_list(df):
    await store(df.access_granted, [1])


async def takes_a_number(df):
    await acquire(3)  # type: ignore[arg-type]


async def counts_for_nobody(df):
    await get(df.device.refcount, 3, "mine")  # type: ignore[arg-type]


async def refuses_with_a_word(df):
    await refuse_if(True, "EPERM", "mine", "no")  # type: ignore[arg-type]


async def sleeps(df):
    await asyncio.sleep(1)


async def sleeps_not_at_all(df):
    await asyncio.sleep(0)


async def leaves(df):
    raise SystemExit


async def closes_itself(df):
    raise GeneratorExit


async def stores_a_text(df):
    await store(df.access_granted, "yes")


async def stores_another_object(df):
    await store(df.device.kvm, df)


async def takes_no_argument():
    await load(3)  # type: ignore[arg-type]


def no_coroutine():
    @functools.wraps(divides)
    def three(df):
        return 3

    return three


def endless_before_there_is_a_coroutine():
    @functools.wraps(divides)
    def forever(df):
        while True:
            pass

    return forever


wrong = [
    (endless, "your function endless (for vfio_df_open) runs on and on, and awaits no effect (line 2"),
    (endless_although_it_catches, "runs on and on, and awaits no effect"),
    (endless_although_it_catches_everything, "runs on and on, and awaits no effect"),
    (endless_in_a_helper, "your function count runs on and on"),
    (endless_effects, "has awaited 10,000 effects in one call, and does not come to an end (line 3"),
    (divides, "raises ZeroDivisionError: integer division or modulo by zero (line 3"),
    (says_nothing, "raises ValueError (line 2"),
    (awaits_a_number, "raises TypeError: object int can't be used in 'await' expression (line 2"),
    (awaits_asyncio, "awaits None, which is no effect"),
    (awaits_a_tuple, "awaits (1, 2), which is no effect"),
    (awaits_an_empty_tuple, "awaits (), which is no effect"),
    (loads_a_number, "gives load 3 as argument 1, which must be a field"),
    (stores_a_list, "is refused: a store takes an immutable value or a kernel object, not a list"),
    (takes_a_number, "gives acquire 3 as argument 1, which must be a lock"),
    (counts_for_nobody, "gives get 3 as argument 2, which must be a kernel object"),
    (refuses_with_a_word, "gives refuse_if 'EPERM' as argument 2, which must be a number"),
    (sleeps, "your function sleeps (for vfio_df_open) raises RuntimeError: no running event loop (line 2"),
    (sleeps_not_at_all, "your function sleeps_not_at_all (for vfio_df_open) awaits None, which is no effect"),
    (leaves, "your function leaves (for vfio_df_open) raises SystemExit (line 2"),
    (closes_itself, "your function closes_itself (for vfio_df_open) raises GeneratorExit (line 2"),
    (stores_a_text, "is refused: vfio_device_file 1.access_granted holds a number, not 'yes' (line 2"),
    (stores_another_object, "is refused: vfio_device vfio0.kvm holds a kvm or None, not vfio_device_file 1 (line 2"),
    (takes_no_argument, "your vfio_df_open cannot be called as the kernel calls it"),
    (endless_before_there_is_a_coroutine(), "your function forever runs on and on, and awaits no effect"),
    (no_coroutine(), "gives back 3 when it is called, and must give back a coroutine"),
]
every = pytest.mark.parametrize(("function", "told"), wrong, ids=[f[0].__name__ + f[1][:8] for f in wrong])


def relative(text, function):
    """A sentence with a line of a function, as the line of the file that it is."""
    before, found, after = text.partition("(line ")
    return f"{before}{found}{function.__code__.co_firstlineno + int(after) - 1}" if found else text


@every
@pytest.mark.parametrize("trace", [True, False])
def test_what_is_wrong_is_told_in_a_sentence_and_the_machine_works_on(function, told, trace):
    started = time.monotonic()
    m, p, error = bind(function, trace=trace)
    assert isinstance(error, PatchError)
    assert relative(told, function) in str(error)
    assert "\n" not in str(error)
    assert any(str(error) in what for what in m.check())
    assert works(m, p)
    assert time.monotonic() - started < 20


@pytest.mark.one_python  # what ends a function is proved under each by the test above
@every
def test_in_an_exploration_it_is_a_verdict_with_that_sentence(function, told):
    puzzle = PUZZLES["R1"]
    patches = {"vfio_df_open": function}
    result = explore(puzzle.setup, puzzle.programs(), puzzle.properties[:1], patches=patches, looks=1)
    assert result.verdict == "broken"
    found = [witness for witness in result.violations if relative(told, function) in witness.what]
    assert found
    assert any("PatchError" in repr(call.error) for call in found[0].machine.calls)


@pytest.mark.parametrize(
    "function",
    [
        endless_although_it_keeps_what_it_catches,
        endless_although_it_keeps_it_in_a_call,
        endless_although_each_layer_keeps_it,
        returns_although_it_ran_too_long,
    ],
)
def test_a_function_ends_although_it_keeps_what_should_end_it(function):
    name = function.__name__
    program = f"from tests.test_patched import *; m, p, error = bind({name}); print(error, works(m, p))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert "runs on and on, and awaits no effect" in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("True"), done.stderr


def test_the_locks_that_are_given_back_are_told_and_shown():
    m, _, _ = bind(divides)
    assert any("; given back: " in what and "vfio_device_set vfio0.lock" in what for what in m.check())
    steps = [str(step) for step in m.trace]
    assert any("the simulator gives vfio_device_set vfio0.lock back" in step for step in steps)
    assert m.trace.calls[-1].ended.startswith("fails: your function divides")
    twin, _ = decode(encode(m), {"vfio_df_open": divides})
    assert twin.trace == m.trace
    assert m.branch(-1).trace == m.trace


def test_the_same_call_goes_well_with_the_next_attempt():
    _, p, error = bind(raises_early, "iommufd_ctx_from_fd")
    assert isinstance(error, PatchError)
    again = uapi.VfioDeviceBindIommufd(iommufd=4)
    assert p.ioctl(3, BIND, again) == 0
    assert again.out_devid == 1


async def raises_early(fd):
    raise ZeroDivisionError


def test_a_null_pointer_is_an_oops_as_in_the_kernel():
    async def follows_nothing(df):
        nothing = await load(df.kvm)
        await load(nothing.users_count)

    m, _, error = bind(follows_nothing)
    assert isinstance(error, KernelOops)
    assert "null pointer" in str(error)
    assert m.check()


def test_a_tracer_that_was_there_is_there_again():
    def tracer(frame, event, arg):
        return None

    sys.settrace(tracer)
    try:
        bind(divides)
        assert sys.gettrace() is tracer
        bind(endless)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(None)


def test_a_machine_with_no_function_of_ones_own_has_no_guard():
    m = Machine()
    assert m.engine.guard is None
    m.patch(vfio_df_open=vfio_df_open)
    assert m.engine.guard is None


def test_an_interrupted_call_gives_its_locks_back():
    async def interrupts(df):
        await load(df.access_granted)
        raise KeyboardInterrupt

    m = Machine()
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    with m.patched(vfio_df_open=interrupts), pytest.raises(KeyboardInterrupt):
        p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    assert works(m, p)


# ---- an await that was forgotten


async def forgets_a_check(df):
    refuse_if(True, Errno.EPERM, "mine", "no")  # type: ignore[unused-awaitable]
    await load(df.access_granted)


async def forgets_a_call(df):
    vfio_df_open(df)  # type: ignore[unused-coroutine]


async def forgets_a_load(df):
    granted = load(df.access_granted)
    await refuse_if(bool(granted), Errno.EPERM, "mine", "no")


async def forgets_in_an_argument(df):
    await refuse_if(load(df.access_granted), Errno.EPERM, "mine", "no")  # type: ignore[arg-type]


async def forgets_in_a_test(df):
    if load(df.access_granted):  # type: ignore[truthy-bool]
        await refuse_if(True, Errno.EPERM, "mine", "no")


async def forgets_on_return(df):
    return vfio_df_open(df)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (forgets_a_check, "forgets an await before refuse_if(True, Errno.EPERM, 'mine', 'no') (line 2 of it)"),
        (forgets_a_call, "forgets an await before vfio_df_open(df) (line 2 of it)"),
        (forgets_a_load, "forgets an await before load(df.access_granted) (line 2 of it)"),
        (forgets_in_an_argument, "forgets an await before load(df.access_granted) (line 2 of it)"),
        (forgets_in_a_test, "forgets an await before load(df.access_granted) (line 2 of it)"),
        (forgets_on_return, "forgets an await before vfio_df_open(df) (line 2 of it)"),
    ],
)
def test_a_forgotten_await_is_found_before_anything_runs(function, told):
    m, p, error = bind(function)
    assert isinstance(error, PatchError)
    assert told in str(error)
    assert m.check() == []
    assert works(m, p)


async def awaits_later(df):
    wanted = load(df.access_granted)
    granted = await wanted
    async with shared(df.device.group.group_lock):
        await refuse_if(not granted, Errno.EPERM, "mine", "no")


def test_what_is_awaited_later_is_not_forgotten():
    _, _, error = bind(awaits_later)
    assert isinstance(error, KernelError)
    assert error.check == "mine"


# ---- a function that does not do the same each time


@pytest.mark.parametrize("seed", range(6))
def test_a_function_that_does_not_repeat_is_noticed_and_never_proves_anything(seed):
    chance = random.Random(seed)

    async def tosses_a_coin(df):
        if chance.random() < 0.5:
            await load(df.access_granted)

    async def answers_by_chance(df, argument):
        return chance.choice([0, 1])

    puzzle = PUZZLES["R1"]
    for name, function in (("vfio_df_open", tosses_a_coin), ("vfio_df_ioctl_bind_iommufd", answers_by_chance)):
        found = explore(puzzle.setup, {"B": puzzle.programs()["B"]}, [], patches={name: function})  # looks 16 times
        assert not found.complete
        assert found.verdict != "safe"
        assert found.limit.startswith(
            f"with a function of your own in the place of {name}, the same schedule does not go"
        )


def test_a_schedule_in_which_a_function_does_not_repeat_is_told_in_a_sentence():
    puzzle = PUZZLES["R1"]
    opens = []

    async def fewer_each_time(df):
        opens.append(df)
        for _ in range(100 // len(opens)):
            await load(df.access_granted)

    found = explore(puzzle.setup, {"B": puzzle.programs()["B"]}, [], patches={"vfio_df_open": fewer_each_time})
    with pytest.raises(PatchError, match="the same schedule does not go the same way twice"):
        _ = next(iter(found.outcomes.values())).machine


def test_a_function_that_repeats_is_explored_to_the_end():
    puzzle = PUZZLES["R1"]

    async def opens(df):
        await FUNCTIONS["vfio_df_open"].function(df)

    found = explore(puzzle.setup, puzzle.programs(), puzzle.properties, patches={"vfio_df_open": opens}, looks=1)
    assert (found.verdict, found.complete) == ("safe", True)
