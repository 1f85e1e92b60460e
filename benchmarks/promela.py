"""A small exploration as a model for SPIN: one Promela step for each effect, on variables that stand for the cells.

What a thread does is a tree: an effect, and for each answer that it can get what comes next. The tree is put together from the
schedules that the explorer runs. An answer that the explorer has not seen is an error in the model: so SPIN, which tries every
order of the steps, also checks that none was missed. Cells that one thread alone touches, or that nobody changes, need no
variable; their effects are steps all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vfiosim.engine import Cell, Count, Engine, Field, KObject, Micro, Table
from vfiosim.explore.model import MachineModel, Programs
from vfiosim.explore.monitor import Monitor
from vfiosim.explore.search import Search

Effect = tuple[str, str, tuple[Any, ...]]  # operation, cell or object, and what was given to it
_LOOKS = {"load", "load_acquire", "load_count", "xa_load", "next_slot", "slots_of"}
_NOTHING = {
    "begin",
    "alloc",
    "refuse_if",
    "warn_on",
    "return_to_user",
    "skipped",
    "copy_from_user",
    "copy_to_user",
    "hand_over",
}


def plain(value: Any) -> str:
    """A value as a text that is the same in every schedule."""
    if isinstance(value, KObject):
        return value.oid
    if isinstance(value, tuple):
        return f"({', '.join(map(plain, value))})"
    return "error" if isinstance(value, Exception) else repr(value)


@dataclass
class Tree:
    """An effect of a thread, and what follows each of its answers."""

    effect: Effect | None = None
    after: dict[str, Tree] = field(default_factory=dict)

    def walk(self) -> Iterator[Tree]:
        """This one and all that follow."""
        waiting = [self]
        while waiting:
            tree = waiting.pop()
            if tree.effect is not None:
                yield tree
                waiting += tree.after.values()

    def longest(self) -> int:
        """The most effects that the thread can do."""
        depth, level = 0, [self]
        while level := [tree for tree in level if tree.effect is not None]:
            depth, level = depth + 1, [after for tree in level for after in tree.after.values()]
        return depth


class Gathering(MachineModel):
    """Writes down what every thread did in a schedule."""

    trees: dict[str, Tree]
    start: int

    def outcome(self) -> Any:
        """Called at the end of each schedule."""
        at = dict(self.trees)
        for entry in self.engine.micro[self.start :]:
            micro = Micro(*entry)
            tree = at[micro.thread.prefix]
            tree.effect = effect_of(micro)
            at[micro.thread.prefix] = tree.after.setdefault(plain(micro.answer), Tree())
        return super().outcome()


def effect_of(micro: Micro) -> Effect:
    """What was asked for."""
    operation = micro.request[0].__name__.lstrip("_")
    target: Any = micro.request[1] if len(micro.request) > 1 else None
    gone = operation != "free" or not target.stays_readable  # what stays readable may be looked at after its death
    if operation in _NOTHING or not isinstance(target, Cell | KObject) or not gone:
        return (operation, "", ())
    name = target.path if isinstance(target, Cell) else target.oid
    return (
        operation,
        name,
        tuple(r if isinstance(r, int) and not isinstance(r, bool) else plain(r) for r in micro.request[2:]),
    )


def gathered(factory: Callable[..., Any], programs: Programs, prepare: Callable[[Any], None]) -> Model:
    """Run every schedule that matters, and make the model. `prepare` takes protections out of a machine."""
    trees = {thread: Tree() for thread in programs}
    first: dict[str, Any] = {}

    def begin() -> Gathering:
        machine = factory()
        prepare(machine)
        world = Gathering(machine, programs, Monitor([]))
        world.trees, world.start = trees, len(machine.engine.micro)
        if not first:
            first.update(beginning(machine.engine))
        return world

    Search(begin).run()
    return Model(trees, first)


def beginning(engine: Engine) -> dict[str, Any]:
    """The values of all cells."""
    found: dict[str, Any] = {}
    for thing in engine.objects.values():
        for cell in thing.cells():
            if isinstance(cell, Field):
                found[cell.path] = plain(cell.value)
            elif isinstance(cell, Count):
                found[cell.path] = cell.value
            elif isinstance(cell, Table):
                found[cell.path] = {slot: plain(value) for slot, value in cell.slots.items()} | {"first": cell.first}
    return found


class Model:
    """The Promela text of some trees."""

    def __init__(self, trees: dict[str, Tree], first: dict[str, Any]) -> None:
        self.trees, self._first = trees, first
        self._values: dict[str, int] = {"None": 0}
        self._names: dict[str, str] = {}
        self._slots: dict[str, set[Any]] = {}
        users: dict[str, set[str]] = {}
        changed: set[str] = set()
        self._freed: set[str] = set()
        for thread, tree in trees.items():
            for one in tree.walk():
                operation, name, given = one.effect or ("", "", ())
                users.setdefault(name, set()).add(thread)
                if operation not in _LOOKS:
                    changed.add(name)
                if operation == "free" and name:
                    self._freed.add(name)
                if operation in ("xa_load", "xa_store"):
                    self._slots.setdefault(name, set()).add(given[0])
                if operation == "xa_alloc":
                    self._slots.setdefault(name, set()).update(int(a) for a in one.after if a.isdigit())
        self.shared = {name for name, who in users.items() if name and len(who) > 1 and name in changed}
        for name, table in first.items():
            if isinstance(table, dict):
                self._slots.setdefault(name, set()).update(slot for slot in table if slot != "first")

    def variable(self, name: str, slot: Any = "") -> str:
        """The variable of a cell, or of one slot of a table."""
        return self._names.setdefault(f"{name}[{slot}]" if slot != "" else name, f"v{len(self._names)}")

    def value(self, text: Any) -> int:
        """The number that stands for a value."""
        return self._values.setdefault(str(text), len(self._values))

    def text(self, monitor: str = "") -> str:
        """The whole model. `monitor` is a condition that must never hold."""
        threads = [f"active proctype {thread}() {{\n{self._thread(tree)}\n}}" for thread, tree in self.trees.items()]
        if monitor:
            threads.append(f"active proctype monitor() {{\nend: ({monitor}) -> assert(false)\n}}")
        return "\n".join([*self._declared(), *threads, ""])

    def _declared(self) -> Iterator[str]:
        for path, name in self._names.items():
            cell, _, slot = path.partition("[")
            first = self._first.get(cell, 0)
            if isinstance(first, dict):
                held = {str(key): value for key, value in first.items()}
                first = self.value(held.get(slot[:-1], "None"))
            yield f"short {name} = {self.value(first) if isinstance(first, str) else first};  /* {path} */"

    def _thread(self, tree: Tree) -> str:
        lines: list[str] = []
        while tree.effect is not None:
            ways = [(*self._step(tree.effect, answer), after) for answer, after in tree.after.items()]
            if len(ways) == 1 and not ways[0][0]:
                lines.append(f"d_step {{ {ways[0][1]} }};" if ";" in ways[0][1] else f"{ways[0][1]};")
            elif len(ways) == 1 and tree.effect[0] in ("acquire", "acquire_shared", "wait_for"):
                lines.append(f"d_step {{ ({ways[0][0]}) -> {ways[0][1]} }};")
            else:
                tries = [f":: d_step {{ ({needs}) -> {does} }};\n{self._thread(after)}" for needs, does, after in ways]
                lines.append("\n".join(["if", *tries, ":: else -> assert(false)  /* never seen */", "fi"]))
                return "\n".join(lines)
            tree = ways[0][2]
        return "\n".join(lines)

    def _step(self, effect: Effect, answer: str) -> tuple[str, str]:
        """When an effect can be answered so, and what it then does."""
        operation, name, given = effect
        alive = name if operation == "free" else name.rpartition(".")[0]
        check = (
            f"assert(!{self.variable('freed ' + alive)}); " if alive in self._freed and alive in self._reached() else ""
        )
        if operation == "free" and name:
            return "", f"{check}{self.variable('freed ' + alive)} = 1" if check else "skip"
        if name not in self.shared:
            return "", f"{check}skip"
        needs, does = getattr(self, f"_{operation}")(name, given, answer)
        return needs, f"{check}{does}"

    def _reached(self) -> set[str]:
        """The objects that more than one thread touches."""
        if not hasattr(self, "_of_several"):
            users: dict[str, set[str]] = {}
            for thread, tree in self.trees.items():
                for one in tree.walk():
                    name = one.effect[1] if one.effect else ""
                    users.setdefault(name if name in self._freed else name.rpartition(".")[0], set()).add(thread)
            self._of_several = {name for name, who in users.items() if len(who) > 1}
        return self._of_several

    def _load(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name)} == {self.value(answer)}", "skip"

    _load_acquire = _load

    def _load_count(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name)} == {answer}", "skip"

    def _store(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return "", f"{self.variable(name)} = {self.value(given[0])}"

    _store_release = _store

    def _exchange(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return self._load(name, given, answer)[0], self._store(name, given, answer)[1]

    def _xa_load(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name, given[0])} == {self.value(answer)}", "skip"

    def _xa_store(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return self._xa_load(name, given, answer)[0], f"{self.variable(name, given[0])} = {self.value(given[1])}"

    def _xa_alloc(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        first = self._first.get(name, {}).get("first", 0)
        below = [slot for slot in sorted(self._slots[name]) if first <= slot < int(answer)]
        full = [f"{self.variable(name, slot)} != 0" for slot in below]
        mine = self.variable(name, int(answer))
        return " && ".join([*full, f"{mine} == 0"]), f"{mine} = {self.value(given[0])}"

    def _next_slot(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        known = [slot for slot in sorted(self._slots[name]) if slot >= given[0]]
        empty = [slot for slot in known if answer == "None" or slot < int(answer)]
        needs = [f"{self.variable(name, slot)} == 0" for slot in empty]
        needs += [] if answer == "None" else [f"{self.variable(name, int(answer))} != 0"]
        return " && ".join(needs), "skip"

    def _get(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return "", f"{self.variable(name)}++"

    def _put(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        count = self.variable(name)
        return f"{count} {'==' if answer == 'True' else '!='} 1", f"{count}--"

    def _get_unless_zero(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        count = self.variable(name)
        return (f"{count} != 0", f"{count}++") if answer == "True" else (f"{count} == 0", "skip")

    def _put_if_last(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        count = self.variable(name)
        return (f"{count} == 1", f"{count}--") if answer == "True" else (f"{count} != 1", "skip")

    def _acquire(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name)} == 0", f"{self.variable(name)} = 255"

    def _release(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return "", f"{self.variable(name)} = 0"

    def _acquire_shared(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name)} != 255", f"{self.variable(name)}++"

    def _release_shared(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return "", f"{self.variable(name)}--"

    def _complete(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return "", f"{self.variable(name)}++"

    def _wait_for(self, name: str, given: Any, answer: str) -> tuple[str, str]:
        return f"{self.variable(name)} > 0", f"{self.variable(name)}--"
