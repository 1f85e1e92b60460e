"""Functions of a student's own: whatever is wrong with one is told in a sentence, and harms nothing."""

import gc
import random
import signal
import time
import warnings

import pytest

from tests.bound import BIND, IOMMU, NODE, bind, works
from vfiosim import KernelError, KernelOops, Machine, PatchError, uapi
from vfiosim.engine import FUNCTIONS, acquire, load, refuse_if, shared, store
from vfiosim.engine.lifetime import get
from vfiosim.explore import explore
from vfiosim.kernel.vfio.vfio_main import vfio_df_open
from vfiosim.machine import decode, encode
from vfiosim.puzzles import PUZZLES
from vfiosim.uapi import Errno


@pytest.fixture(autouse=True, scope="module")
def only_new_objects_are_collected():
    """What other tests have cached is not looked through: to do so once takes seconds."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_coroutine_is_forgotten():
    """No warning that a coroutine was never awaited, whatever a test does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


async def endless(df):
    while True:
        pass


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


async def awaits_a_number(df):
    await 3  # type: ignore[misc]


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


async def stores_a_text(df):
    await store(df.access_granted, "yes")


async def stores_another_object(df):
    await store(df.device.kvm, df)


async def takes_no_argument():
    await load(3)  # type: ignore[arg-type]


wrong = [
    (endless, "your function endless (for vfio_df_open) runs on and on, and awaits no effect (line 2"),
    (endless_in_a_helper, "your function count runs on and on"),
    (endless_effects, "has awaited 10,000 effects in one call, and does not come to an end (line 3"),
    (divides, "raises ZeroDivisionError: integer division or modulo by zero (line 3"),
    (
        awaits_a_number,
        "awaits 3, which is no effect; kernel code awaits load, store, get, put, refuse_if and the like (line 2",
    ),
    (loads_a_number, "gives load 3 as argument 1, which must be a field"),
    (stores_a_list, "is refused: a store takes an immutable value or a kernel object, not a list"),
    (takes_a_number, "gives acquire 3 as argument 1, which must be a lock"),
    (counts_for_nobody, "gives get 3 as argument 2, which must be a kernel object"),
    (refuses_with_a_word, "gives refuse_if 'EPERM' as argument 2, which must be a number"),
    (stores_a_text, "is refused: vfio_device_file 1.access_granted holds a number, not 'yes' (line 2"),
    (stores_another_object, "is refused: vfio_device vfio0.kvm holds a kvm or None, not vfio_device_file 1 (line 2"),
    (takes_no_argument, "your vfio_df_open cannot be called as the kernel calls it"),
]
every = pytest.mark.parametrize(("function", "told"), wrong, ids=[function.__name__ for function, _ in wrong])


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
    result = explore(puzzle.setup, puzzle.programs(), puzzle.properties[:1], patches=patches)
    assert result.verdict == "broken"
    found = [witness for witness in result.violations if relative(told, function) in witness.what]
    assert found
    assert any("PatchError" in repr(call.error) for call in found[0].machine.calls)


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


def test_a_function_of_this_package_is_put_in_as_it_is():
    m = Machine()
    m.patch(vfio_df_open=vfio_df_open)
    assert m.engine.patches == {"vfio_df_open": vfio_df_open}


def test_an_interrupted_call_gives_its_locks_back():
    def ctrl_c(*_):
        raise KeyboardInterrupt

    m = Machine()
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    before = signal.signal(signal.SIGVTALRM, ctrl_c)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)  # seconds of work; ten thousand effects take many times as long
        with m.patched(vfio_df_open=endless_effects), pytest.raises(KeyboardInterrupt):
            p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
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
        (forgets_a_check, "forgets an await before refuse_if(True, Errno.EPERM, 'mine', 'no') (line 2"),
        (forgets_a_call, "forgets an await before vfio_df_open(df) (line 2"),
        (forgets_a_load, "forgets an await before load(df.access_granted) (line 2"),
        (forgets_in_an_argument, "forgets an await before load(df.access_granted) (line 2"),
        (forgets_in_a_test, "forgets an await before load(df.access_granted) (line 2"),
        (forgets_on_return, "forgets an await before vfio_df_open(df) (line 2"),
    ],
)
def test_a_forgotten_await_is_found_before_anything_runs(function, told):
    m, p, error = bind(function)
    assert isinstance(error, PatchError)
    assert relative(told, function) in str(error)
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


# ---- a function that would not do the same each time


def test_a_function_that_does_not_repeat_is_refused_before_anything_is_searched():
    chance = random.Random(0)
    opens = []

    async def tosses_a_coin(df):
        if chance.random() < 0.5:
            await load(df.access_granted)

    async def fewer_each_time(df):
        opens.append(df)
        for _ in range(100 // len(opens)):
            await load(df.access_granted)

    puzzle = PUZZLES["R1"]
    for function, told in ((tosses_a_coin, "uses `chance`"), (fewer_each_time, "changes `opens`")):
        with pytest.raises(PatchError, match=told):
            explore(puzzle.setup, {"B": puzzle.programs()["B"]}, [], patches={"vfio_df_open": function})


def test_a_function_of_ones_own_is_explored_to_the_end():
    puzzle = PUZZLES["R1"]
    original = FUNCTIONS["vfio_df_open"].function

    async def opens(df):
        await original(df)

    found = explore(puzzle.setup, puzzle.programs(), puzzle.properties, patches={"vfio_df_open": opens})
    assert (found.verdict, found.complete) == ("safe", True)
