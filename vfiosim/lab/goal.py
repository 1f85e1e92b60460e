"""Goals: facts about a machine that have to be true. What no fact names may be as it likes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..trace import ObjectState, State
from ..trace.plain import shown
from .session import Session


@dataclass(frozen=True)
class Fact:
    """Something that is true of a state or not: how it is said, and what is the case instead ("" where it is true).

    `about` are the names of the objects that it speaks of, `cell` the one of their cells that counts, if one does.
    """

    said: str
    instead: Callable[[State], str]
    about: tuple[str, ...] = ()
    cell: str = ""


class Goal:
    """What a task is about, as facts in the order in which they are told. Called with a session it names those that differ."""

    def __init__(self, *facts: Fact) -> None:
        self.facts = facts

    @property
    def about(self) -> tuple[str, ...]:
        """The names of all objects that the facts speak of."""
        return tuple(dict.fromkeys(name for fact in self.facts for name in fact.about))

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """The cells that count: the name of the object, which may have a `*`, and that of the cell."""
        return tuple((fact.about[0], fact.cell) for fact in self.facts if fact.cell)

    def __call__(self, session: Session) -> list[str]:
        return [f"wanted: {fact.said}; now: {instead}" for fact, instead in self.differing(session.state)]

    def differing(self, state: State) -> list[tuple[Fact, str]]:
        """The facts that are not true of a state, each with what is the case instead."""
        return [(fact, instead) for fact in self.facts if (instead := fact.instead(state))]


def alive(name: str) -> Fact:
    """An object that fits the name lives: "kvm 1", or "file vfio0#*"."""
    none = "there is none" if "*" in name else "it is gone"
    return Fact(f"{name} is alive", lambda state: "" if _named(state, name) else none, (name,))


def opened_once(device: str) -> Fact:
    """There is one open file of this device ("vfio0") at most."""

    def instead(state: State) -> str:
        files = _named(state, f"file {device}#*")
        return "" if len(files) < 2 else f"there are {' and '.join(file.oid for file in files)}"

    return Fact(f"{device} was opened once: there is no second file of it", instead)


def gone(name: str) -> Fact:
    """No object that fits the name lives."""

    def instead(state: State) -> str:
        for thing in _named(state, name):
            # Who holds it is for the reader to find: to let go of that is the task.
            held = ", and something still holds it" if any(thing.counts.values()) else ""
            return f"{'it' if thing.oid == name else thing.oid} is alive{held}"
        return ""

    return Fact(f"{name} is gone", instead, (name,))


def value(name: str, cell: str, wanted: int | str) -> Fact:
    """A cell of the object that fits the name: the total of a counter, or what a field holds, or what that has to fit.

    Asked of an object without such a cell it raises ValueError.
    """

    def instead(state: State) -> str:
        things = _named(state, name)
        if not things:
            return f"there is no {name}"
        try:
            now = shown(things[0].value(cell))
        except KeyError:
            raise ValueError(f"{things[0].oid} has no {cell!r}; it has {', '.join(things[0].order)}") from None
        return "" if fnmatchcase(now, str(wanted)) else "there is none" if now == "None" else f"it is {now}"

    return Fact(f"{cell} of {name} is {wanted}", instead, (name,), cell)


def holds(holder: str, target: str) -> Fact:
    """The holder has a counted reference to the target."""

    def instead(state: State) -> str:
        links = list(state.references("counted", "owns"))
        if any(fnmatchcase(link.holder, holder) and fnmatchcase(link.target, target) for link in links):
            return ""
        others = [link.holder for link in links if fnmatchcase(link.target, target)]
        return f"it is held by {', '.join(dict.fromkeys(others))}" if others else "nobody holds it"

    return Fact(f"{holder} holds {target}", instead, (holder, target))


def descriptor(leads_to: str, called: str, is_open: bool = True) -> Fact:
    """The program has a descriptor for a file of this label ("kvm-vm*"), or with `is_open=False` has none.

    `called` is what such a file is called: "a VM".
    """

    def instead(state: State) -> str:
        tables = [thing for thing in state.objects.values() if thing.kind == "fds"]
        files = _named(state, f"file {leads_to}")
        keys = [key for file in files for key in file.counts["f_ref"] if key[0] in {table.oid for table in tables}]
        if bool(keys) == is_open:
            return ""
        return "there is none" if is_open else "there is one"

    about = (*(["fds *"] if is_open else []), f"file {leads_to}")
    return Fact(f"{'a' if is_open else 'no'} descriptor leads to {called}", instead, about)


SENTENCES: dict[str, Callable[..., Fact]] = {
    r"(\S+) of (.+) is (.+)": lambda cell, name, wanted: value(name, cell, wanted),
    r"(no|a) descriptor leads to file (\S+)": lambda which, label: descriptor(label, f"file {label}", which == "a"),
    r"(.+) is alive": alive,
    r"(.+) is gone": gone,
    r"(.+) holds (.+)": holds,
}


def fact(sentence: str) -> Fact:
    """The fact that a sentence tells: "kvm 1 is alive", "file vfio0#* is gone", "vfio_device vfio0 holds kvm 1",
    "open_count of vfio_device vfio0 is 1", "a descriptor leads to file iommu*", "no descriptor leads to file vfio0*".

    Raises ValueError for any other.
    """
    for pattern, make in SENTENCES.items():
        if found := re.fullmatch(pattern, sentence.strip()):
            return make(*found.groups())
    forms = "“X is alive”, “X is gone”, “X holds Y”, “FIELD of X is VALUE”, “a descriptor leads to file X”"
    raise ValueError(f"{sentence!r} is no fact; facts are {forms}, “no descriptor leads to file X”")


def _named(state: State, name: str) -> list[ObjectState]:
    return [thing for thing in state.objects.values() if fnmatchcase(thing.oid, name)]
