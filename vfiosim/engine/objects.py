"""What kernel code works on: objects made of *cells*.

A cell is one piece of shared state: a field, a reference count, a table of slots, a lock, a completion. Kernel code holds
cells, never their values: to see or change one it awaits an effect (`effects.py`), and that is where another thread may run.
Attributes of an object that are not cells are set at its birth and never change, so they are read without an effect. Yet they are
gone with the object: a read afterwards is a use after free too, see `notice_reads`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from .functions import Wrong, running

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")


class Cell:
    """One piece of shared state of `owner`; `guard` names the lock that protects it, as written in the kernel."""

    __slots__ = ("guard", "name", "owner")
    born_with: ClassVar[frozenset[str]] = frozenset(
        ("guard", "name", "owner", "link", "first", "spin")
    )  # and never changes

    def __init__(self, owner: KObject, name: str, guard: str) -> None:
        self.owner = owner
        self.name = name
        self.guard = guard

    @property
    def path(self) -> str:
        """Where it is, for people and for traces: `vfio_group 1.opened_file`."""
        return f"{self.owner.oid}.{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    def __bool__(self) -> bool:
        raise Wrong(f"takes the field {self.path} itself for true or false: write `await load(…)` for its value")


class Field(Cell, Generic[T]):
    """A value: an int, a string, bytes, a tuple, None or a pointer to another object.

    `link` says what a pointer means: "" (not drawn), "weak" (a bare pointer, nothing keeps the target alive), "owns" (the target
    lives exactly as long as this object, unless it has a count of its own) or "note" (no field of any kernel: shown nowhere).
    `notes`: given its object, a field that no kernel has, and the one whose value it gets in the same step as a store to this one.
    """

    __slots__ = ("link", "notes", "value")

    def __init__(self, owner: KObject, name: str, guard: str, value: T, link: str, notes: Notes | None) -> None:
        super().__init__(owner, name, guard)
        self.value = value
        self.link = link
        self.notes = notes


Notes: TypeAlias = Callable[[Any], tuple[Field[Any], Field[Any]]]


class Count(Cell):
    """A reference count that knows its holders: the number is the sum of the ledger, there is no other.

    An entry below zero is a reference given back that was never taken.
    """

    __slots__ = ("held", "value")

    def __init__(self, owner: KObject, name: str, guard: str) -> None:
        super().__init__(owner, name, guard)
        self.held: dict[tuple[KObject, str], int] = {}
        self.value = 0

    def change(self, key: tuple[KObject, str], by: int) -> int:
        """Add `by` to the entry of this holder and reason; the answer is the entry. Only effects call this."""
        held = self.held
        left = held.get(key, 0) + by
        if left:
            held[key] = left
        else:
            del held[key]
        self.value += by
        return left


class Table(Cell, Generic[T]):
    """Slots with numbers or names (an xarray, a descriptor table, the device nodes), each read or changed in one effect.

    Numbers are given out from `first` on, the lowest free one at a time. `link` is that of a `Field`, for all slots.
    """

    __slots__ = ("_beside", "_free", "first", "link", "slots")

    def __init__(self, owner: KObject, name: str, guard: str, first: int, link: str = "") -> None:
        super().__init__(owner, name, guard)
        self.first = first
        self.link = link
        self.slots: dict[Any, T] = {}
        self._free = first  # no free slot below this one
        self._beside: Container[int] = ()

    def give_out_beside(self, taken: Container[int]) -> None:
        """From now on these numbers are given to nobody, for they are taken outside of the machine."""
        self._beside, self._free = taken, self.first

    def lowest_free(self) -> int:
        """The lowest slot number that is not taken."""
        number = self._free
        while number in self.slots or number in self._beside:
            number += 1
        self._free = number
        return number

    def put(self, number: Any, value: T | None) -> None:
        """Fill a slot, or empty it with None; only effects call this."""
        if value is None:
            self.slots.pop(number, None)
            if isinstance(number, int):
                self._free = max(self.first, min(self._free, number))
        else:
            self.slots[number] = value


class Intervals(Table[T]):
    """A table of ranges that never overlap: the slot is the first number of a range, `last` of its value the last one.

    Finding a range, adding one and taking one away costs about the same however many there are.
    """

    __slots__ = ("_starts",)

    def __init__(self, owner: KObject, name: str, guard: str, link: str = "") -> None:
        super().__init__(owner, name, guard, 0, link)
        self._starts: list[int] = []

    def put(self, number: Any, value: T | None) -> None:
        """Add the range that begins at `number`, or take it away with None; only effects call this."""
        if value is None:
            if self.slots.pop(number, None) is not None:
                del self._starts[bisect_left(self._starts, number)]
        elif number in self.slots:
            self.slots[number] = value
        else:
            self.slots[number] = value
            insort(self._starts, number)

    def overlapping(self, first: int, last: int) -> T | None:
        """The lowest range that has a number from `first` to `last`."""
        starts = self._starts
        index = bisect_right(starts, first) - 1
        if index >= 0 and self.slots[starts[index]].last >= first:  # type: ignore[attr-defined]
            return self.slots[starts[index]]
        if index + 1 < len(starts) and starts[index + 1] <= last:
            return self.slots[starts[index + 1]]
        return None

    def in_order(self) -> tuple[T, ...]:
        """All ranges, upwards."""
        return tuple(self.slots[start] for start in self._starts)


class Plan:
    """A cell as declared in a class body; every object of the class gets one of its own."""

    def __init__(self, make: Callable[[KObject, str], Cell]) -> None:
        self.make = make


def field(default: T, *, guard: str = "", link: str = "", notes: Notes | None = None) -> Field[T]:
    """Declare a `Field` that starts as `default`."""
    return cast("Field[T]", Plan(lambda owner, name: Field(owner, name, guard, default, link, notes)))


def count(*, guard: str = "") -> Count:
    """Declare a `Count` that starts at zero."""
    return cast(Count, Plan(lambda owner, name: Count(owner, name, guard)))


def table(*, first: int = 0, guard: str = "", link: str = "") -> Table[Any]:
    """Declare a `Table` whose lowest slot number is `first`."""
    return cast("Table[Any]", Plan(lambda owner, name: Table(owner, name, guard, first, link)))


def intervals(*, guard: str = "", link: str = "") -> Intervals[Any]:
    """Declare an `Intervals` without ranges."""
    return cast("Intervals[Any]", Plan(lambda owner, name: Intervals(owner, name, guard, link)))


class KObject:
    """A kernel object: a node of the picture, a holder and a target of references.

    * born by `alloc`, which gives it a name that no other object of its kind ever had in this machine;
    * its cells are declared in the class body and made anew for each object;
    * dies by `free`: touching a cell or reading an attribute afterwards is a use after free, and is reported.

    `kind` is the name of the C struct. `root` says why an object needs no holder (see `owners.py`); "" if it needs one.
    """

    kind: ClassVar[str] = "object"
    root: ClassVar[str] = ""
    stays_readable: ClassVar[bool] = False  # its memory may be looked at after its death
    own_class: ClassVar[type[Any]]  # as it was made, whoever looks at it (`notice_reads`)
    _plans: ClassVar[dict[str, Plan]] = {}

    def __init_subclass__(cls) -> None:
        plans = dict(cls._plans)
        for name, value in list(vars(cls).items()):
            if isinstance(value, Plan):
                plans[name] = value
                delattr(cls, name)
        cls._plans = plans
        cls.own_class = cls

    def __init__(self, engine: Engine, label: str = "") -> None:
        self.label = engine.unique(self.kind, label)
        self.oid = f"{self.kind} {self.label}"
        self.freed = False
        attributes = self.__dict__
        for name, plan in self._plans.items():
            attributes[name] = plan.make(self, name)

    def cells(self) -> Iterator[Cell]:
        """Its cells in the order of declaration."""
        return map(self.__dict__.__getitem__, self._plans)

    def shown_cells(self) -> list[Cell]:
        """Those that a kernel has, too."""
        return [cell for cell in self.cells() if not isinstance(cell, Field) or cell.link != "note"]

    def __repr__(self) -> str:
        return f"<{self.oid}>"

    __str__ = __repr__


KObject.own_class = KObject
O = TypeVar("O", bound=KObject)  # noqa: E741


_NOTICING: dict[type[KObject], type[KObject]] = {}


def notice_reads(thing: KObject) -> None:
    """From now on the engine comes to know each time a thread reads an attribute of this object that is no cell.

    The object gets a class like its own, with such attributes as properties. An object costs nothing before.
    """
    kind = type(thing)
    if kind is kind.own_class:
        if kind not in _NOTICING:
            _NOTICING[kind] = _noticing(kind, vars(thing))
        thing.__class__ = _NOTICING[kind]


def _noticing(kind: type[KObject], attributes: Iterable[str]) -> type[KObject]:
    known = {*kind._plans, "label", "oid", "freed"}
    told = {name: _noticed(name) for name in attributes if name not in known and not name.startswith("_")}
    made: Any = type(kind.__name__, (kind,), {**told, "__module__": kind.__module__})
    made.own_class = kind
    return cast("type[KObject]", made)


def _noticed(name: str) -> Any:
    def look(thing: KObject) -> None:
        if running.thread is not None:
            running.thread.engine.notice(running.thread, thing, name)

    def read(thing: KObject) -> Any:
        look(thing)
        own = vars(thing)
        return own[name] if name in own else getattr(thing.own_class, name)

    def write(thing: KObject, value: Any) -> None:
        look(thing)
        vars(thing)[name] = value

    return property(read, write)


def init(thing: KObject, **parts: object) -> None:
    """Give an object that nobody else can find as yet what it was not born with, once and for good.

    No effect: nobody can come between. Raises RuntimeError for an attribute that is set already.
    """
    for name, part in parts.items():
        if vars(thing).get(name):
            raise RuntimeError(f"{thing.oid}.{name} is set already, and never changes")
        setattr(thing, name, part)


class Objects(dict[str, KObject]):
    """Every object that lives, by its name, oldest first; and quickly those of one class."""

    def __init__(self) -> None:
        super().__init__()
        self._by_class: dict[type[KObject], dict[str, KObject]] = {}
        self._of: dict[type[KObject], list[dict[str, KObject]]] = {}  # the same, as they were asked for

    def __setitem__(self, oid: str, thing: KObject) -> None:
        super().__setitem__(oid, thing)
        if thing.own_class not in self._by_class:
            self._by_class[thing.own_class] = {}
            self._of.clear()
        self._by_class[thing.own_class][oid] = thing

    def forget(self, thing: KObject) -> None:
        """It lives no longer."""
        if self.pop(thing.oid, None) is not None:
            del self._by_class[thing.own_class][thing.oid]

    def of(self, kind: type[O]) -> list[O]:
        """Those of a class and of the classes made from it."""
        if kind not in self._of:
            self._of[kind] = [things for one, things in self._by_class.items() if issubclass(one, kind)]
        found: list[Any] = []
        for things in self._of[kind]:
            found += things.values()
        return found
