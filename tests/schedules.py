"""Random little kernels, and every schedule of them without any reduction: what the explorer is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Any

from vfiosim.engine import (
    Completion,
    Count,
    Engine,
    Field,
    Intervals,
    KObject,
    Lock,
    Request,
    Table,
    Thread,
    acquire,
    alloc,
    complete,
    completion,
    count,
    exchange,
    field,
    free,
    get,
    get_unless_zero,
    hand_over,
    intervals,
    load,
    load_acquire,
    load_count,
    mutex,
    next_slot,
    put,
    put_if_last,
    refuse_if,
    return_to_user,
    rwsem,
    shared,
    store,
    store_release,
    table,
    wait_for,
    wait_for_timeout,
    wait_until_zero,
    xa_alloc,
    xa_load,
    xa_store,
)
from vfiosim.engine.operations import Accesses, name_of
from vfiosim.explore.accesses import accesses, can_go, conflict
from vfiosim.explore.model import given_back_twice
from vfiosim.explore.monitor import Monitor, orders
from vfiosim.explore.search import Search
from vfiosim.explore.statistics import Statistics
from vfiosim.explore.threads import UserThread
from vfiosim.invariants import Invariant
from vfiosim.uapi import Errno, KernelError

Op = tuple[Any, ...]
Programs = dict[str, list[list[Op]]]  # by thread: its calls, each a list of things to do


class Box(KObject):
    """Something to race for."""

    kind = "box"
    a: Field[Any] = field(0)
    b: Field[Any] = field(0)
    ptr: Field[Any] = field(None)
    refs: Count = count()
    spare: Count = count()
    slots: Table[Any] = table()
    ranges: Intervals[Any] = intervals()
    lock: Lock = mutex()
    sem: Lock = rwsem()
    done: Completion = completion()


def _differ(engine: Engine, box: Box) -> Iterator[str]:
    if box.a.value != box.b.value:
        yield f"{box.oid} has a={box.a.value} and b={box.b.value}"


def _held(engine: Engine, box: Box) -> Iterator[str]:
    if box.ptr.value is not None and not box.refs.value:
        yield f"{box.oid} is pointed to and not held"


ALIKE = Invariant("fields_alike", Box, ("box.a", "box.b"), lambda box: box.lock, "box.lock", False, _differ)
HELD = Invariant("pointer_is_held", Box, ("box.ptr", "box.refs < 1"), lambda _: None, "", False, _held)


def _held_twice(engine: Engine, box: Box) -> Iterator[str]:
    if box.label == "x" and box.ptr.value is not None and box.refs.value < 2:
        yield f"{box.oid} is pointed to and held by {box.refs.value}"


TWICE = Invariant("pointer_is_held_twice", Box, ("box.ptr", "box.refs < 2"), lambda _: None, "", False, _held_twice)


class LittleWorld:
    """Two boxes, threads that run programs on them, and what may be wrong; as a search sees it, or anybody else."""

    def __init__(
        self,
        programs: Programs,
        invariants: Iterable[Invariant] = (),
        without: Iterable[str] = (),
        timeouts: int = 0,
    ) -> None:
        self.engine = Engine(trace=False)
        self.boxes = [Box(self.engine, name) for name in ("x", "y")]
        for box in self.boxes:
            self.engine.objects[box.oid] = box
            box.ptr.value = box
            box.refs.change((box, "first"), 1)
        self.engine.take_out(*without)
        self._no_lock = "lock" in without
        self.invariants = list(invariants)
        self.monitor = Monitor(self.invariants)
        self.results: dict[str, list[str]] = {name: [] for name in programs}
        self.threads = [
            UserThread(name, [partial(self._begin, name, call) for call in calls], timeouts)
            for name, calls in programs.items()
        ]

    def _begin(self, thread: str, call: list[Op]) -> Thread:
        made = self.engine.spawn(self._call(thread, call), thread)
        made.prefix, made.manual = thread, True
        return made

    async def _call(self, thread: str, call: list[Op]) -> None:
        answers: list[Any] = []
        try:
            await perform(self.boxes, thread, call, answers)
            await return_to_user(0)
        except KernelError as error:
            await return_to_user(error.errno)
            answers.append(error.name)
        self.results[thread].append(" ".join(map(str, answers)))

    # ---- what a search asks

    def also(self, request: Request, sure: bool) -> Accesses:
        return self.monitor.places(request, sure)

    def wrong(self, thread: Thread | None, request: Request) -> list[tuple[str, bool]]:
        return self.monitor.broken(self.engine, thread) + [(what, False) for what in given_back_twice(request)]

    def took(self, thread: Thread, request: Request) -> Iterable[tuple[str, str]]:
        return orders(thread) if name_of(request) in ("acquire", "acquire_shared") else ()

    def at_the_end(self) -> Iterator[tuple[str, list[int]]]:
        for stuck in self.stuck():
            yield f"stuck: {', '.join(self.threads[number].label for number in stuck)}", stuck

    def outcome(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        state = [
            f"{box.oid} {box.freed} {box.a.value} {box.b.value} {box.refs.value} {sorted(box.slots.slots)} {box.done.value}"
            for box in self.boxes
        ]
        return (*((thread, tuple(found)) for thread, found in self.results.items()), ("state", tuple(state)))

    # ---- and what everybody can see

    def stuck(self) -> list[list[int]]:
        """Rings of threads each of which waits for a lock that the next one has, or one that waits for a lock of nobody."""
        waits: dict[int, Any] = {}
        for number, user in enumerate(self.threads):
            request = user.upcoming
            if request is not None and not can_go(request) and isinstance(request[1], Lock):
                waits[number] = request[1].holder
        rings = []
        for number in waits:
            ring, at = [], number
            while at in waits and at not in ring:
                ring.append(at)
                at = next((n for n, user in enumerate(self.threads) if user.running is waits[ring[-1]]), -1)
            if (at in ring or at == -1) and sorted(ring) not in rings:
                rings.append(sorted(ring))
        return rings

    def broken(self, touched: Accesses, alone_in: list[Lock]) -> list[str]:
        """Every invariant, looked at in the plainest way; where its lock was taken out, after what concerns it only.

        `alone_in`: the locks that the thread would have, if nobody has come between since: what is half-way is its own affair.
        """
        return [
            what
            for one in self.invariants
            if not (self._no_lock and one.guard) or ("invariant", one.name) in [place for place, _ in touched]
            for thing in self.engine.objects.values()
            if isinstance(thing, one.about)
            and ((lock := one.lock(thing)) is None or (lock.holder is None and lock not in alone_in))
            for what in one.broken(self.engine, thing)
        ]


async def perform(boxes: list[Box], thread: str, ops: list[Op], answers: list[Any]) -> None:  # noqa: C901
    """Do these things, and note every answer."""
    for name, which, *rest in ops:
        box = boxes[which]
        if name == "load":
            answers.append(await load(getattr(box, rest[0])))
        elif name == "acquire":
            answers.append(await load_acquire(getattr(box, rest[0])))
        elif name == "store":
            await store(getattr(box, rest[0]), rest[1])
        elif name == "release":
            await store_release(getattr(box, rest[0]), rest[1])
        elif name == "add":
            value = await load(getattr(box, rest[0]))
            await store(getattr(box, rest[0]), value + 1)
        elif name == "exchange":
            answers.append(await exchange(box.b, rest[0]))
        elif name == "lock":
            async with box.lock:
                await perform(boxes, thread, rest[0], answers)
        elif name == "keep":
            await acquire(box.lock)
        elif name == "write":
            async with box.sem:
                await perform(boxes, thread, rest[0], answers)
        elif name == "read":
            async with shared(box.sem):
                await perform(boxes, thread, rest[0], answers)
        elif name == "if":
            if await load(box.a):
                await perform(boxes, thread, rest[0], answers)
        elif name == "refuse":
            await refuse_if(bool(await load(box.a)), Errno.EBUSY, "a_is_zero", "a is not zero")
        elif name == "get":
            await get(box.refs, box, thread)
        elif name == "try":
            answers.append(await get_unless_zero(box.refs, box, thread))
            if answers[-1]:
                await perform(boxes, thread, rest[0], answers)
                await drop(box, thread)
        elif name == "drop":
            await drop(box, "first")
        elif name == "pass":
            await hand_over(box.refs, (box, rest[0]), (box, rest[1]))
        elif name == "put":
            await drop(box, rest[0])
        elif name == "last":
            answers.append(await put_if_last(box.refs, box, "first"))
        elif name == "free":
            await free(box)
        elif name == "count":
            answers.append(await load_count(box.refs))
        elif name == "xa_alloc":
            answers.append(await xa_alloc(box.slots, thread, 3))
        elif name == "xa_store":
            answers.append(await xa_store(box.slots, 0, rest[0]))
        elif name == "xa_load":
            answers.append(await xa_load(box.slots, 0))
        elif name == "xa_store 1":
            answers.append(await xa_store(box.slots, 1, rest[0]))
        elif name == "xa_load 1":
            answers.append(await xa_load(box.slots, 1))
        elif name == "next":
            answers.append(await next_slot(box.slots, 0))
        elif name == "new":
            fresh = await alloc(Box, "")
            await store(fresh.a, 1)
            await store(box.ptr, fresh)
        elif name == "signal":
            await complete(box.done)
        elif name == "wait":
            await wait_for(box.done)
        elif name == "wait a while":
            answers.append(await wait_for_timeout(box.done, 5))
        elif name == "until zero":
            answers.append(await wait_until_zero(box.spare, 5))
        elif name == "spare":
            await get(box.spare, box, thread)
        elif name == "use up":
            await put(box.spare, box, rest[0])
        else:
            raise AssertionError(name)


async def drop(box: Box, reason: str) -> None:
    """A reference less; with the last one it dies."""
    if await put(box.refs, box, reason):
        await store(box.ptr, None)
        await free(box)


LEAVES: list[Callable[[Random], Op]] = [
    lambda r: ("load", r.randrange(2), r.choice("ab")),
    lambda r: ("acquire", r.randrange(2), r.choice("ab")),
    lambda r: ("store", r.randrange(2), r.choice("ab"), r.randrange(3)),
    lambda r: ("store", r.randrange(2), r.choice("ab"), 1),
    lambda r: ("release", r.randrange(2), r.choice("ab"), r.randrange(3)),
    lambda r: ("release", 0, "a", 1),
    lambda r: ("add", r.randrange(2), r.choice("ab")),
    lambda r: ("exchange", r.randrange(2), r.randrange(3)),
    lambda r: ("refuse", r.randrange(2)),
    lambda r: ("get", 0),
    lambda r: ("drop", 0),
    lambda r: ("last", 0),
    lambda r: ("count", 0),
    lambda r: ("xa_alloc", r.randrange(2)),
    lambda r: ("xa_store", 0, r.choice([None, "p"])),
    lambda r: ("xa_load", 0),
    lambda r: ("next", 0),
    lambda r: ("new", r.randrange(2)),
    lambda r: ("signal", 0),
    lambda r: ("wait", 0),
    lambda r: ("free", 1),
]
BLOCKS = ("lock", "lock", "lock", "write", "read", "if", "try")


def some_ops(random: Random, room: int, depth: int = 0) -> list[Op]:
    """About so many effects."""
    ops: list[Op] = []
    while room > 0:
        if depth < 2 and room > 2 and random.random() < 0.4:
            inner = random.randint(1, room - 2)
            name = random.choice(BLOCKS)
            which = 0 if name == "try" else random.randrange(2)
            ops.append((name, which, some_ops(random, inner, depth + 1)))
            room -= inner + 2
        else:
            ops.append(random.choice(LEAVES)(random))
            room -= 2 if ops[-1][0] == "add" else 1
    return ops


def some_programs(seed: int) -> Programs:
    """Two or three threads, one of them perhaps with two calls; always the same for a seed."""
    random = Random(seed)
    if random.random() < 0.4:
        sizes = {"A": [1], "B": [2], "C": [1]}
    elif random.random() < 0.3:
        sizes = {"A": [1, 2], "B": [3]}
    else:
        sizes = {"A": [4], "B": [4]}
    return {thread: [some_ops(random, room) for room in calls] for thread, calls in sizes.items()}


def some_waits(seed: int) -> Programs:
    """Two or three threads that wait for a while, for a signal or until nobody holds something, and what ends their waits."""
    random = Random(seed)
    sizes = random.choice([{"A": [2], "B": [2]}, {"A": [1, 1], "B": [2]}, {"A": [1], "B": [1], "C": [1]}])
    choices: list[Callable[[], Op]] = [
        lambda: ("wait a while", 0),
        lambda: ("until zero", 0),
        lambda: ("signal", 0),
        lambda: ("spare", 0),
        lambda: ("use up", 0, random.choice(["A", "B", "first"])),
        lambda: ("add", 0, "a"),
        lambda: ("lock", 0, [("wait a while", 0)]),
    ]
    return {
        thread: [[random.choice(choices)() for _ in range(room)] for room in calls] for thread, calls in sizes.items()
    }


def some_counting(seed: int) -> Programs:
    """Two or three threads that add to and take from a count of three, and hand over in between."""
    random = Random(seed)
    sizes = random.choice([{"A": 2, "B": 2}, {"A": 1, "B": 2}, {"A": 1, "B": 1, "C": 1}, {"A": 2, "B": 1, "C": 1}])
    who = ["first", "second", "third", "A", "B"]
    choices: list[Callable[[], Op]] = [
        lambda: ("get", 0),
        *[lambda: ("put", 0, random.choice(who))] * 3,
        lambda: ("try", 0, []),
        lambda: ("pass", 0, random.choice(who), random.choice(who)),
    ]
    return {thread: [[random.choice(choices)() for _ in range(size)]] for thread, size in sizes.items()}


def some_references(seed: int) -> Programs:
    """Two or three threads that take, pass on and give back references of one box, more than there are too."""
    random = Random(seed)
    sizes = random.choice([{"A": 2, "B": 2}, {"A": 1, "B": 3}, {"A": 1, "B": 1, "C": 1}])
    who = ["first", "second", "A", "B"]
    choices: list[Callable[[], Op]] = [
        lambda: ("get", 0),
        lambda: ("put", 0, random.choice(who)),
        lambda: ("put", 0, random.choice(who)),
        lambda: ("try", 0, [("load", 0, "a")] if random.random() < 0.3 else []),
        lambda: ("pass", 0, random.choice(who), random.choice(who)),
        lambda: ("last", 0),
        lambda: ("count", 0),
    ]
    return {thread: [[random.choice(choices)() for _ in range(size)]] for thread, size in sizes.items()}


class Everything:
    """All schedules of threads, one after the other, with no reduction at all. Finds what `Statistics` has in the plainest way."""

    def __init__(self, begin: Callable[[], Any], limit: int) -> None:
        self.schedules = 0
        self.violations: dict[str, int] = {}  # and the fewest effects that lead there
        self.outcomes: dict[Any, int] = {}
        self.orders: set[tuple[str, str]] = set()
        # of each effect of the schedule: its thread, what it touched, and which effects had to come before
        self._past: list[tuple[int, Accesses, set[int]]] = []
        # after each of them, by thread: the effect with which it came in where a lock was taken out
        self._since: list[dict[int, int]] = [{}]
        path: list[tuple[int, list[int]]] = []  # which thread went, and which else could have gone
        while True:
            self._run(begin(), path)
            self.schedules += 1
            if self.schedules > limit:
                raise OverflowError(f"more than {limit} schedules")
            while path and not path[-1][1]:
                path.pop()
            if not path:
                return
            _, rest = path.pop()
            path.append((rest[0], rest[1:]))

    def _run(self, world: Any, path: list[tuple[int, list[int]]]) -> None:
        """One schedule. What comes before the last choice was seen in the one before it, so there it is only gone again."""
        depth = max(len(path) - 1, 0)
        for number, _ in path[:depth]:
            world.threads[number].step()
        del self._past[depth:], self._since[depth + 1 :]
        while True:
            able = [n for n, user in enumerate(world.threads) if (r := user.upcoming) is not None and can_go(r)]
            if not able:
                break
            if depth == len(path):
                path.append((able[0], able[1:]))
            self._since.append({**self._since[-1]})
            self._step(world, path[depth][0], depth + 1)
            depth += 1
        _least(self.outcomes, world.outcome(), depth)

    def _step(self, world: Any, number: int, depth: int) -> None:
        user = world.threads[number]
        thread, request = user.running, user.upcoming
        before = len(world.engine.violations)
        touched = world.also(request, True) + (accesses(thread, request) if thread else ())
        user.step()
        alone_in = self._alone_in(number, thread, touched) if world.engine.instead else []
        wrong = [*world.engine.violations[before:], *world.broken(touched, alone_in)]
        wrong += given_back_twice(request)
        for ring in world.stuck():
            wrong.append(f"stuck: {', '.join(world.threads[number].label for number in ring)}")
        for what in wrong:
            _least(self.violations, what, depth)
        if thread is not None:
            self.orders.update(world.took(thread, request))

    def _alone_in(self, number: int, thread: Thread | None, touched: Accesses) -> list[Lock]:
        """The locks that a thread would have, if it has met nobody since it came in. Notes its effect."""
        index, before = len(self._past), set[int]()
        for other, (who, its, earlier) in enumerate(self._past):
            if who == number or conflict(its, touched):
                before |= {other, *earlier}
        self._past.append((number, touched, before))
        if thread is None or not thread.inside:
            self._since[-1].pop(number, None)
            return []
        since = self._since[-1].setdefault(number, index)
        mine = {other for other in range(since, index) if self._past[other][0] == number} | {since} - {index}
        met = any(self._past[other][0] != number and mine & self._past[other][2] for other in before)
        return [] if met else thread.inside


def _least(found: dict[Any, int], what: Any, number: int) -> None:
    found[what] = min(number, found.get(what, number))


def searched(begin: Callable[[], Any]) -> Statistics:
    """What the explorer finds."""
    search = Search(begin)
    search.run()
    return search.statistics
