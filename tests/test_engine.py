"""The rules of the engine, each as a claim, on objects that have nothing to do with VFIO."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vfiosim.engine import (
    Count,
    Engine,
    Field,
    Intervals,
    KernelOops,
    KObject,
    Lock,
    Micro,
    Phase,
    Table,
    acquire,
    alloc,
    complete,
    completion,
    copy_from_user,
    copy_to_user,
    count,
    exchange,
    field,
    first_between,
    free,
    get,
    get_unless_zero,
    hand_over,
    in_order,
    intervals,
    kernel,
    load,
    load_count,
    mutex,
    pin_pages,
    put,
    put_if_last,
    refuse_if,
    release,
    require,
    return_to_user,
    rwsem,
    say,
    shared,
    slots_of,
    store,
    store_release,
    table,
    wait_for,
    wait_for_timeout,
    wait_until_zero,
    warn_on,
    xa_alloc,
    xa_load,
    xa_store,
)
from vfiosim.uapi import Errno, KernelError


class Thing(KObject):
    kind = "thing"
    number: Field[int] = field(0)
    other: Field[KObject | None] = field(None)
    refs: Count = count()
    lock: Lock = mutex()
    second: Lock = mutex()
    slots: Table[Thing] = table(first=1)
    done = completion()


def run(engine: Engine, code, label: str = "", **more):
    """Run one piece of kernel code to its end or to where it must wait."""
    thread = engine.spawn(code, label, **more)
    engine.run(thread)
    return thread


@pytest.fixture(params=[True, False], ids=["traced", "untraced"])
def engine(request) -> Engine:
    return Engine(trace=request.param)


@pytest.fixture
def thing(engine: Engine):
    return run(engine, _new_thing()).result


async def _new_thing() -> Thing:
    return await alloc(Thing)


# ---- rule 1: cells, and what may be stored


def test_a_store_of_something_that_can_change_is_refused(thing):
    async def code():
        await store(thing.number, [1])

    with pytest.raises(TypeError, match="immutable value or a kernel object, not a list"):
        run(Engine(), code())


def test_kernel_code_that_awaits_anything_but_an_effect_is_a_bug_that_is_named(engine):
    class Stranger:
        def __await__(self):
            yield "hello"

    async def code():
        await Stranger()

    with pytest.raises(TypeError, match="may only await effects"):
        run(engine, code())


# ---- rule 2: what is one effect, and what is two


def _add_one(thing):
    async def code():
        await store(thing.number, await load(thing.number) + 1)

    return code()


def test_two_plain_increments_can_lose_one(engine, thing):
    a, b = engine.spawn(_add_one(thing)), engine.spawn(_add_one(thing))
    for _ in range(2):  # both enter, both load
        engine.step(a)
        engine.step(b)
    engine.run(a)
    engine.run(b)
    assert thing.number.value == 1


def test_two_references_taken_at_once_are_never_lost(engine, thing):
    async def code(reason):
        await get(thing.refs, thing, reason)

    a, b = engine.spawn(code("a")), engine.spawn(code("b"))
    while engine.step(a) | engine.step(b):
        pass
    assert thing.refs.value == 2
    assert thing.refs.held == {(thing, "a"): 1, (thing, "b"): 1}


def test_exchange_reads_and_writes_in_one_effect(engine, thing):
    async def code():
        return await exchange(thing.number, 7), await load(thing.number)

    assert run(engine, code()).result == (0, 7)


# ---- references and lives


def test_the_last_put_says_so(engine, thing):
    async def code():
        await get(thing.refs, thing, "a")
        await get(thing.refs, thing, "b")
        return await put(thing.refs, thing, "a"), await put(thing.refs, thing, "b")

    assert run(engine, code()).result == (False, True)


def test_a_reference_on_nothing_cannot_be_taken_unless_zero(engine, thing):
    async def code():
        failed = await get_unless_zero(thing.refs, thing, "a")
        await get(thing.refs, thing, "b")
        return failed, await get_unless_zero(thing.refs, thing, "a"), await load_count(thing.refs)

    assert run(engine, code()).result == (False, True, 2)


def test_put_if_last_leaves_a_count_of_two_alone(engine, thing):
    async def code():
        await get(thing.refs, thing, "a")
        await get(thing.refs, thing, "b")
        refused = await put_if_last(thing.refs, thing, "a")
        await put(thing.refs, thing, "b")
        return refused, await put_if_last(thing.refs, thing, "a"), await load_count(thing.refs)

    assert run(engine, code()).result == (False, True, 0)


def test_a_reference_that_changes_hands_is_never_counted_twice(engine, thing):
    async def code():
        await get(thing.refs, thing, "finder")
        await hand_over(thing.refs, (thing, "finder"), (thing, "keeper"))

    run(engine, code())
    assert thing.refs.value == 1
    assert thing.refs.held == {(thing, "keeper"): 1}


def test_a_reference_given_back_twice_stays_visible_as_a_debt(engine, thing):
    async def code():
        await put(thing.refs, thing, "never taken")

    run(engine, code())
    assert thing.refs.held == {(thing, "never taken"): -1}
    assert thing.refs.value == -1


@pytest.mark.parametrize(
    "touch",
    [
        lambda t: load(t.number),
        lambda t: store(t.number, 1),
        lambda t: exchange(t.number, 1),
        lambda t: get(t.refs, t, ""),
        lambda t: put(t.refs, t, ""),
        lambda t: load_count(t.refs),
        lambda t: xa_load(t.slots, 1),
        lambda t: xa_store(t.slots, 1, t),
        lambda t: xa_alloc(t.slots, t),
        lambda t: acquire(t.lock),
        lambda t: complete(t.done),
        lambda t: wait_until_zero(t.refs, 5),
        free,
    ],
)
def test_touching_freed_memory_is_reported(engine, thing, touch):
    async def code():
        await free(thing)
        await touch(thing)

    run(engine, code(), "late")
    assert len(engine.violations) == 1
    assert "use after free: late touches thing 1" in engine.violations[0]


# ---- tables


def test_the_lowest_free_slot_is_claimed_and_freed_ones_are_used_again(engine, thing):
    async def code():
        first = [await xa_alloc(thing.slots, thing) for _ in range(3)]
        await xa_store(thing.slots, 2, None)
        await xa_store(thing.slots, 0, None)  # which is never given out
        return first, await xa_alloc(thing.slots, thing), await xa_alloc(thing.slots, thing, 4)

    assert run(engine, code()).result == ([1, 2, 3], 2, None)


class Piece(KObject):
    kind = "piece"

    def __init__(self, engine: Engine, first: int, last: int) -> None:
        super().__init__(engine)
        self.first, self.last = first, last


class Space(KObject):
    kind = "space"
    pieces: Intervals[Piece] = intervals()
    sem: Lock = rwsem()


async def add(space: Space, first: int, last: int) -> Piece:
    piece = await alloc(Piece, first, last)
    await xa_store(space.pieces, first, piece)
    return piece


@pytest.fixture
def space(engine: Engine):
    space = run(engine, alloc_of(Space)).result
    for first, last in ((50, 59), (10, 19), (30, 39)):
        run(engine, add(space, first, last))
    return space


async def alloc_of(kind):
    return await alloc(kind)


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [(0, 9, None), (0, 10, 10), (19, 19, 10), (20, 29, None), (15, 55, 10), (20, 55, 30), (59, 99, 50), (60, 99, None)],
)
def test_the_lowest_range_that_touches_another_is_found(engine, space, first, last, found):
    answer = run(engine, first_of(space, first, last)).result
    assert (answer.first if answer else None) == found


async def first_of(space, first, last):
    return await first_between(space.pieces, first, last)


def test_ranges_come_in_order_and_go_one_at_a_time(engine, space):
    async def code():
        before = await in_order(space.pieces)
        await xa_store(space.pieces, 30, None)
        return [piece.first for piece in before], [piece.first for piece in await in_order(space.pieces)]

    assert run(engine, code()).result == ([10, 30, 50], [10, 50])


async def hold(lock, how):
    async with how(lock):
        await store_nothing(lock)


async def store_nothing(lock):
    await xa_load(lock.owner.pieces, 0)


def test_readers_share_a_lock_and_a_writer_waits_for_all_of_them(engine, space):
    readers = [engine.spawn(hold(space.sem, shared), f"r{n}") for n in range(2)]
    writer = engine.spawn(hold(space.sem, lambda lock: lock), "w")
    for reader in readers:
        engine.step(reader)
        engine.step(reader)
    assert space.sem.readers == readers
    engine.run(writer)
    assert writer.why_blocked() == f"w waits for {space.sem.path}, held by r0"
    engine.run(readers[0])
    engine.run(writer)
    assert writer.state == "blocked"
    engine.run(readers[1])
    engine.run(writer)
    assert (writer.state, space.sem.holder) == ("done", None)


def test_a_reader_waits_for_the_writer(engine, space):
    writer = engine.spawn(hold(space.sem, lambda lock: lock), "w")
    engine.step(writer)
    engine.step(writer)
    reader = run(engine, hold(space.sem, shared), "r")
    assert reader.why_blocked() == f"r waits for {space.sem.path}, held by w"
    engine.run(writer)
    engine.run(reader)
    assert reader.state == "done"


class Pages:
    """A memory whose first page can be written, and whose second can only be read."""

    def pinnable(self, address: int, size: int, write: bool) -> bool:
        return address + size <= (4096 if write else 8192)

    def unpinnable(self, address: int, size: int, write: bool) -> str:
        return "its end is not there, or can only be read"

    def unshare(self, address: int, size: int) -> None:
        """Nothing of it is private."""


@pytest.mark.parametrize(("size", "write", "fails"), [(4096, True, False), (4097, True, True), (8192, False, False)])
def test_pinning_fails_with_efault_where_the_memory_does_not_allow_it(engine, size, write, fails):
    async def code():
        await pin_pages(Pages(), 0, size, write)  # type: ignore[arg-type]

    error = run(engine, code()).error
    assert isinstance(error, KernelError) is fails
    assert error is None or (error.name, error.check) == ("EFAULT", "pin_pages")


# ---- rule 3: every errno has a named check behind it


def test_a_refusal_carries_check_sentence_and_line(engine):
    @kernel("drivers/test.c")
    async def strict(value):
        await refuse_if(value > 3, Errno.EINVAL, "at_most_three", "three is the limit")

    error = run(engine, strict(4)).error
    assert isinstance(error, KernelError)
    assert (error.errno, error.name, error.check, error.sentence) == (
        22,
        "EINVAL",
        "at_most_three",
        "three is the limit",
    )
    assert error.where is not None
    assert "test_engine.py:" in error.where
    assert run(engine, strict(3)).error is None


def test_a_check_can_be_taken_out_by_its_name(engine):
    async def code():
        await refuse_if(True, Errno.EPERM, "guard", "no")
        return "past the guard"

    engine.take_out("guard")
    assert run(engine, code()).result == "past the guard"


def test_a_required_pointer_is_handed_on_or_refused(engine, thing):
    async def code(value):
        return await require(value, Errno.ENOENT, "is_there", "it is not there")

    assert run(engine, code(thing)).result is thing
    error = run(engine, code(None)).error
    assert isinstance(error, KernelError)
    assert error.name == "ENOENT"


# ---- rule 4: unwinding


def test_a_refusal_under_a_lock_gives_the_lock_back(engine, thing):
    async def code():
        async with thing.lock:
            await refuse_if(True, Errno.EBUSY, "busy", "busy")

    run(engine, code())
    assert thing.lock.holder is None


def test_a_coroutine_dropped_half_way_under_a_lock_dies_in_peace(engine, thing):
    async def code():
        async with thing.lock:
            await load(thing.number)
            await load(thing.number)

    dropped = code()
    thread = engine.spawn(dropped)
    engine.step(thread)
    engine.step(thread)
    assert thing.lock.holder is thread
    dropped.close()  # raises RuntimeError if unwinding awaits
    assert inspect.getcoroutinestate(dropped) == inspect.CORO_CLOSED
    assert thing.lock.holder is thread  # nothing was done on the way out


# ---- rules 5 and 9: a run repeats


def _busy(thing):
    async def code():
        for _ in range(3):
            async with thing.lock:
                await store(thing.number, await load(thing.number) + 1)
            await get(thing.refs, thing, "r")
        return await load(thing.number)

    return code()


def _scheduled(order: str) -> list[tuple[str, str]]:
    engine = Engine()
    thing = run(engine, _new_thing()).result
    threads = {name: engine.spawn(_busy(thing), name) for name in "ab"}
    for name in order:
        engine.step(threads[name])
    engine.settle()
    return [(m.thread.label, repr(m.request[0].__name__)) for m in (Micro(*entry) for entry in engine.micro)]


def test_the_same_schedule_gives_the_same_run():
    assert _scheduled("abba" * 5) == _scheduled("abba" * 5)
    assert _scheduled("abba" * 5) != _scheduled("aabb" * 5)


def test_a_run_does_not_depend_on_the_hash_seed():
    script = "from tests.test_engine import _scheduled; print(_scheduled('abba' * 5))"
    root = Path(__file__).parents[1]
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=root,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{_scheduled('abba' * 5)}\n"}


# ---- rule 7: two grains


def test_say_opens_a_step_and_is_no_effect():
    engine = Engine()
    thing = run(engine, _new_thing()).result

    async def code():
        say(Phase.ACQUIRE, "{} is taken.", thing)
        await get(thing.refs, thing, "a")
        await get(thing.refs, thing, "b")

    before = len(engine.micro)
    run(engine, code())
    said = [Micro(*entry).saying for entry in engine.micro[before:]]
    assert [bool(s) for s in said] == [False, True, False]  # entering the kernel, the first get, the second
    assert said[1] == (Phase.ACQUIRE, "{} is taken.", (thing,))


# ---- rule 8: waiting


def test_a_thread_waits_for_a_lock_and_names_its_holder_until_it_is_free_again(engine, thing):
    async def code():
        async with thing.lock:
            await load(thing.number)

    first, second = engine.spawn(code(), "first"), engine.spawn(code(), "second")
    engine.step(first)
    engine.step(first)
    engine.run(second)
    assert second.state == "blocked"
    assert second.waits_for is thing.lock
    assert second.why_blocked() == "second waits for thing 1.lock, held by first"
    engine.run(first)
    assert second.why_blocked() == "thing 1.lock is free again: second can go on"
    engine.settle()
    assert second.state == "done"


def test_a_lock_taken_twice_by_one_thread_waits_for_itself(engine, thing):
    async def code():
        await acquire(thing.lock)
        await acquire(thing.lock)

    thread = run(engine, code(), "one")
    assert thread.why_blocked() == "one waits for thing 1.lock, held by itself"


def test_woken_threads_run_oldest_first(engine, thing):
    async def waiter():
        await wait_for(thing.done)
        await store(thing.number, await load(thing.number) * 10 + 1)

    async def doubler():
        await wait_for(thing.done)
        await store(thing.number, await load(thing.number) * 10 + 2)

    old, young = engine.spawn(waiter()), engine.spawn(doubler())
    engine.settle()
    assert (old.state, young.state) == ("blocked", "blocked")

    async def waker():
        await complete(thing.done)
        await complete(thing.done)

    run(engine, waker())
    engine.settle()
    assert thing.number.value == 12


def test_a_wait_with_a_limit_ends_when_the_clock_is_moved_and_not_before(engine, thing):
    async def code():
        await get(thing.refs, thing, "held")
        return await wait_until_zero(thing.refs, 60_000)

    thread = run(engine, code())
    engine.sleep(59_999)
    assert thread.state == "blocked"
    engine.sleep(1)
    assert thread.result is False


@pytest.mark.parametrize("signal", [True, False])
def test_a_wait_for_a_signal_with_a_limit_tells_whether_it_came_in_time(engine, thing, signal):
    async def code():
        return await wait_for_timeout(thing.done, 1000)

    async def waker():
        await complete(thing.done)

    waiter = run(engine, code())
    engine.sleep(999)
    assert waiter.state == "blocked"
    if signal:
        run(engine, waker())
    engine.sleep(1)
    assert waiter.result is signal


def test_two_objects_of_one_kind_never_have_the_same_name(engine):
    async def two():
        return (await alloc(KObject, "x")).oid, (await alloc(KObject, "x")).oid

    assert run(engine, two()).result == ("object x", "object x#2")


def test_the_slots_of_a_table_are_listed_oldest_first(engine, thing):
    async def code():
        await xa_store(thing.slots, "b", thing)
        await xa_store(thing.slots, "a", thing)
        return await slots_of(thing.slots)

    assert run(engine, code()).result == ("b", "a")


def test_a_thread_moved_by_hand_is_not_moved_by_others(engine, thing):
    thread = engine.spawn(_add_one(thing))
    thread.manual = True
    engine.settle()
    assert thing.number.value == 0
    engine.run(thread)
    assert thing.number.value == 1


def test_time_does_not_run_backwards(engine):
    with pytest.raises(ValueError, match="only moves forwards"):
        engine.sleep(-1)


# ---- an oops


def test_an_oops_unwinds_nothing_and_leaves_locks_locked(engine, thing):
    async def code():
        async with thing.lock:
            raise KernelOops("NULL pointer dereference")

    thread = run(engine, code())
    assert thread.state == "oops"
    assert thing.lock.holder is thread
    assert engine.violations == ["oops: NULL pointer dereference"]


def test_giving_back_a_lock_that_another_has_is_an_oops(engine, thing):
    async def take():
        await acquire(thing.lock)

    async def steal():
        await release(thing.lock)

    run(engine, take())
    assert run(engine, steal(), "thief").state == "oops"
    assert "thief unlocks thing 1.lock, which it does not hold" in engine.violations[0]


def test_a_warning_is_noted_and_the_thread_goes_on(engine, thing):
    async def careless():
        await warn_on(False, "all is well")
        warned = await warn_on(True, "the number is wrong")
        await store(thing.number, 5)
        return warned

    thread = run(engine, careless())
    assert thread.result is True
    assert engine.violations == ["warning: the number is wrong"]
    assert thing.number.value == 5


# ---- rule 10: the patch table


@kernel("drivers/test.c")
async def answer() -> int:
    return 42


async def _ask() -> int:
    return await answer()


def test_a_patch_belongs_to_one_machine_and_ends_with_its_block(engine):
    async def mine() -> int:
        return 43

    other = Engine()
    with engine.patched(answer=mine):
        assert run(engine, _ask()).result == 43
        assert run(other, _ask()).result == 42
    assert run(engine, _ask()).result == 42


def test_patching_a_function_that_is_not_there_says_so(engine):
    with pytest.raises(ValueError, match="no kernel function named 'no_such'"), engine.patched(no_such=_ask):
        pass


# ---- rule 11: lines


def test_each_effect_knows_the_line_of_kernel_code_that_asked(thing):
    engine = Engine()

    async def inner():
        await load(thing.number)  # line A

    async def outer():
        await inner()
        async with thing.lock:  # line B
            await inner()

    run(engine, outer())
    source = Path(__file__).read_text().splitlines()
    lines = [source[Micro(*entry).line.number - 1].strip() for entry in engine.micro[1:]]
    assert lines == [
        "await load(thing.number)  # line A",
        "async with thing.lock:  # line B",
        "await load(thing.number)  # line A",
        "async with thing.lock:  # line B",
    ]


# ---- the journal


def test_the_journal_has_every_change_with_its_old_value():
    engine = Engine()
    thing = run(engine, _new_thing()).result
    start = len(engine.journal or [])

    async def code():
        await store(thing.number, 5)
        await get(thing.refs, thing, "r")
        async with thing.lock:
            await xa_alloc(thing.slots, thing)
        await free(thing)

    thread = run(engine, code())
    assert [(c.key, c.old, c.new) for c in engine.changes(start)] == [
        (None, 0, 5),
        ((thing, "r"), 0, 1),
        (None, None, thread),
        (1, None, thing),
        (None, thread, None),
        (None, "alive", None),
    ]


def test_an_untraced_run_keeps_nothing_and_ends_in_the_same_state():
    results = []
    for trace in (True, False):
        engine = Engine(trace)
        thing = run(engine, _new_thing()).result
        run(engine, _busy(thing))
        results.append((thing.number.value, dict(thing.refs.held).values(), bool(engine.micro)))
    (number, refs, kept), (number2, refs2, kept2) = results
    assert (number, list(refs)) == (number2, list(refs2)) == (3, [3])
    assert (kept, kept2) == (True, False)


# ---- user memory


class Tiny:
    """Eight bytes at address 100; the last four cannot be written."""

    def __init__(self) -> None:
        self.data = bytearray(b"12345678")

    def read(self, address: int, size: int) -> bytes:
        if not 100 <= address <= address + size <= 108:
            raise OSError
        return bytes(self.data[address - 100 : address - 100 + size])

    def write(self, address: int, data: bytes) -> None:
        room = max(0, 104 - address)
        self.data[address - 100 : address - 100 + min(room, len(data))] = data[:room]
        if len(data) > room:
            raise OSError


def test_copies_reach_user_memory_and_a_bad_address_is_efault(engine):
    memory = Tiny()

    async def code(address):
        data = await copy_from_user(address, 4)
        await copy_to_user(address, data[::-1])
        return data

    assert run(engine, code(100), memory=memory).result == b"1234"
    assert bytes(memory.data) == b"43215678"
    for address in (99, 105):
        error = run(engine, code(address), memory=memory).error
        assert isinstance(error, KernelError)
        assert error.name == "EFAULT"


def test_a_copy_that_fails_half_way_leaves_what_was_written(engine):
    memory = Tiny()

    async def code():
        await copy_to_user(102, b"abcd")

    error = run(engine, code(), memory=memory).error
    assert isinstance(error, KernelError)
    assert error.name == "EFAULT"
    assert bytes(memory.data) == b"12ab5678"


def test_a_kernel_thread_has_no_user_memory(engine):
    async def code():
        await copy_from_user(100, 1)

    with pytest.raises(RuntimeError, match="no user memory"):
        run(engine, code())


def test_a_thread_is_made_of_a_coroutine_and_nothing_else(engine, thing):
    with pytest.raises(TypeError, match="a thread runs a coroutine"):
        engine.spawn(load(thing.number))


# ---- taking protections out


class Gate(KObject):
    """A gate with an order to keep."""

    kind = "gate"
    ready = field(0)
    open = field(0)
    users = count()


async def _open_gate(gate):
    await store(gate.ready, 1)
    await store_release(gate.open, 1)
    await store(gate.ready, 2)
    await return_to_user(0)


def _gate(*names):
    engine = Engine()
    gate = Gate(engine)
    engine.take_out(*names)
    return engine, gate


def test_a_release_store_whose_order_is_taken_out_is_seen_before_what_was_stored_earlier():
    engine, gate = _gate("order of open")
    thread = engine.spawn(_open_gate(gate))
    seen = []
    while engine.step(thread) or not thread.ended:
        seen.append((gate.ready.value, gate.open.value))
    assert seen[:4] == [(0, 0), (0, 0), (0, 1), (1, 1)]
    assert (gate.ready.value, thread.late) == (2, [])


def test_with_its_order_a_release_store_is_seen_last():
    engine, gate = _gate()
    thread = engine.spawn(_open_gate(gate))
    seen = []
    while engine.step(thread) or not thread.ended:
        seen.append((gate.ready.value, gate.open.value))
    assert (0, 1) not in seen


def test_a_thread_reads_its_own_late_stores():
    engine, gate = _gate("order of open")

    async def code():
        await store(gate.ready, 5)
        return await load(gate.ready)

    thread = engine.spawn(code())
    engine.run(thread)
    assert thread.result == 5


def test_a_count_without_its_look_at_zero_is_taken_although_it_is_zero():
    engine, gate = _gate("gate.users")

    async def code():
        return await get_unless_zero(gate.users, gate, "anyway")

    thread = engine.spawn(code())
    engine.run(thread)
    assert (thread.result, gate.users.value) == (True, 1)


def test_a_reference_that_was_taken_out_is_neither_taken_nor_given_back():
    engine, gate = _gate("inside")

    async def code():
        await get(gate.users, gate, "inside")
        await put(gate.users, gate, "inside")
        await get(gate.users, gate, "beside")

    engine.run(engine.spawn(code()))
    assert gate.users.held == {(gate, "beside"): 1}


def test_a_name_that_nobody_came_by_is_told_with_those_that_sound_like_it():
    engine, gate = _gate("insid")
    without = engine.take_out("insid")

    async def code():
        await get(gate.users, gate, "inside")

    engine.run(engine.spawn(code()))
    assert without.missing() == ["'insid' (there is inside)"]


def test_without_a_protection_a_null_pointer_is_an_oops_and_not_our_error():
    engine, gate = _gate("anything")

    async def code():
        pointer: Any = await load(gate.ready) or None
        return pointer.left

    thread = engine.spawn(code(), "ann")
    engine.run(thread)
    assert str(thread.error) == "ann reads left through a null pointer"


def test_objects_of_a_thread_with_a_prefix_are_named_after_what_this_thread_did():
    engine = Engine()

    async def code():
        return (await alloc(Gate)).oid, (await alloc(Gate, "side")).oid

    threads = [engine.spawn(code(), name) for name in ("A", "B")]
    for thread in threads:
        thread.prefix = thread.label
    for thread in reversed(threads):
        engine.run(thread)
    assert [thread.result for thread in threads] == [("gate A1", "gate side#A1"), ("gate B1", "gate side#B1")]
