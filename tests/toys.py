"""A kernel of four lines: doors that can be opened, with a lock and counts. For tests that need no VFIO."""

from __future__ import annotations

from typing import Any

from vfiosim.engine import (
    Completion,
    Count,
    Engine,
    Field,
    KObject,
    Lock,
    Phase,
    Table,
    Thread,
    alloc,
    completion,
    count,
    field,
    free,
    get,
    kernel,
    load,
    load_count,
    mutex,
    put,
    refuse_if,
    release,
    say,
    store,
    table,
    wait_for,
    xa_alloc,
    xa_store,
)
from vfiosim.trace import Recorder, Trace
from vfiosim.uapi import Errno

HOSTILE = "<script>window.hacked = 1</script> & \"quoted\" 'too'"


class Person(KObject):
    """Somebody with keys."""

    kind = "person"
    root = "a person"
    keys: Table[Any] = table(first=1)


class Door(KObject):
    """What can be opened."""

    kind = "door"
    users: Count = count()
    lock: Lock = mutex()
    left: Completion = completion()
    owner: Field[Any] = field(None, link="weak")
    opened: Field[int] = field(0)


class Key(KObject):
    """What opens a door; it may own a tag."""

    kind = "key"
    held: Count = count()
    tag: Field[Any] = field(None, link="owns")


class Tag(KObject):
    """Lives as long as its key."""

    kind = "tag"


class House:
    """An engine with a person and a door, and a recorder of all that happens to them."""

    def __init__(self) -> None:
        self.engine = Engine(trace=True)
        self.person, self.door = Person(self.engine, "ann"), Door(self.engine, "front")
        for thing in (self.person, self.door):
            self.engine.objects[thing.oid] = thing
        self.recorder = Recorder(self.engine)

    @property
    def trace(self) -> Trace:
        """All up to now."""
        return Trace.of(self.recorder)

    def start(self, code: Any, name: str) -> Thread:
        """A thread that has done nothing yet."""
        return self.engine.spawn(code, name, process=self.person)

    def run(self, code: Any, name: str = "ann") -> Thread:
        """A thread that has gone as far as it can."""
        thread = self.start(code, name)
        self.engine.run(thread)
        return thread


@kernel("doors/key.c")
async def make_key(person: Person, door: Door) -> int:
    """A key with a tag, held by its person; it holds the door."""
    say(Phase.VALIDATE, "{} wants a key for {}.", person, door)
    await load(door.opened)
    say(Phase.ACQUIRE, "A key is made, and holds {}.", door)
    key = await alloc(Key)
    await store(key.tag, await alloc(Tag))
    await get(door.users, key, "opens it")
    say(Phase.PUBLISH, "The key goes on the ring.")
    number = await xa_alloc(person.keys, key)
    assert number is not None
    await get(key.held, person, f"key {number}")
    return number


@kernel("doors/key.c")
async def lose_key(person: Person, door: Door, number: int) -> None:
    """The key dies, and what it held is given back."""
    say(Phase.UNWIND, "Key {} is lost.", number)
    key = await xa_store(person.keys, number, None)
    assert isinstance(key, Key)
    if await put(key.held, person, f"key {number}"):
        await put(door.users, key, "opens it")
        await free(await load(key.tag))
        await free(key)


@kernel("doors/door.c")
async def open_door(door: Door, sentence: str = "somebody is inside") -> int:
    """Open it for oneself, unless somebody has."""
    say(Phase.VALIDATE, "Open {}.", door)
    await load_count(door.users)
    say(Phase.LOCK, "Take the lock of {}.", door)
    async with door.lock:
        opened = await load(door.opened)
        say(Phase.VALIDATE, "Nobody may be inside.")
        await refuse_if(opened > 0, Errno.EBUSY, "nobody_inside", sentence)
        say(Phase.PUBLISH, "The door is open.")
        await store(door.opened, opened + 1)
    return 0


async def point_at(door: Door, target: KObject) -> None:
    """A bare pointer."""
    say(Phase.PUBLISH, "{} remembers {}.", door, target)
    await store(door.owner, target)


async def wait_until_left(door: Door) -> None:
    """Wait for a signal."""
    say(Phase.VALIDATE, "Wait for {}.", door)
    await load(door.opened)
    say(Phase.UNWIND, "Nobody may be left.")
    await wait_for(door.left)


async def unlock_what_is_not_locked(door: Door) -> None:
    """An oops."""
    say(Phase.UNWIND, "Unlock {} without having it.", door)
    await load(door.opened)
    await release(door.lock)


async def hold(target: Count, holder: KObject, reason: str) -> None:
    """One reference."""
    await get(target, holder, reason)


async def kill(thing: KObject) -> None:
    """One death."""
    await free(thing)
