"""The graph of a trace: every box, row and arrow that occurs at any time, and what each moment shows of them.

A box is a C struct with what it owns: a file and the struct behind its `private_data` are one. A row is a counter, a lock, a
value, or a pointer: an arrow leaves from the row of the pointer, and ends at the row of the counter that counts it.

Each has a key. A frame tells the text of each key, "" where the thing is not there: frame 0 is the start of the trace, and
there is one more after each micro-step. So one layout serves all moments, and nothing moves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from itertools import product

from ..trace import Trace
from .facts import Arrow, LifeFact
from .looks import CellRead, checked, grounds, harmed, looks, refused
from .story import Story, known_story

Frame = dict[str, str]

# Plumbing: what every machine has, and no call is about.
_REGISTERS = {"devtmpfs", "iommu_groups", "buses", "driver_private", "vfio", "vfio_iommu_drivers"}
_OF_EVERY_PROGRAM = {"process", "mm_struct", "file terminal*"}
HIDDEN = frozenset({*_OF_EVERY_PROGRAM, "cdev", "device", "driver", "kernel", *_REGISTERS})
OF_PROGRAMS = HIDDEN | {
    "user_struct",
    "file file#*",
}  # of whole programs: who started them, and what they read of the host
ALIVE, FREED = "alive", "freed"
NULL = "–"
# Letters of a text, of the name of a row, and of both together; the words beside the picture have the rest.
LONGEST, NAME, ACROSS = 64, 24, 25
BOTH = 7  # letters of the text of a row and of the one before it that are shown together


@dataclass(frozen=True)
class Row:
    """A line of a box: `sort` is "count", "lock", "value" or "pointer". `widest` is the length of the longest text it will show.

    `stub` is the key of what is said of the references whose holders are not drawn; "" for what is no counter. `calls` are the
    calls whose row it is, where the box shows several calls, one after the other; nothing for what any of them may have. `words`
    are what a pointer from which arrows leave says at times when it leads to nothing that has a box.
    """

    key: str
    oid: str
    cell: str
    sort: str
    widest: int
    stub: str = ""
    calls: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """A box of the graph. `parts` are the objects in it: the first is `oid`, the others are owned by it.

    One that is `folded` shows its first title and its counters only.
    """

    key: str
    oid: str
    kind: str
    label: str
    home: str
    parts: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """In which line of the box each row stands: those of different calls may have the same one."""
        found, below = list[int](), 0
        free: dict[str, int] = {}  # by call, the first line below its rows
        for row in self.rows:
            if row.calls:
                line = max(free.get(call, below) for call in row.calls)
                free |= dict.fromkeys(row.calls, line + 1)
            else:
                line, free = max([below, *free.values()]), {}
                below = line + 1
            found.append(line)
        return tuple(found)


@dataclass(frozen=True)
class Edge:
    """An arrow from a row of a box to a row of another; `sort` as in `Arrow`. The key "" of a row means the title of its box."""

    key: str
    sort: str
    holder: str
    row: str
    target: str
    into: str
    reason: str


@dataclass(frozen=True)
class Graph:
    """Boxes and arrows of all moments. `changes[i]` is what frame i has different from frame i - 1.

    `looks[i]` are the keys of the rows that the effect before frame i has read, or if it is a check those on which it rests,
    `asked` the names of the objects that a check looked at which refused.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    changes: tuple[Frame, ...]
    looks: tuple[tuple[str, ...], ...]
    at_step: tuple[int, ...]  # the number of the frame after each step
    harmed: tuple[tuple[str, ...], ...] = ()  # the rows of each step that contradict each other, or are freed memory
    asked: frozenset[str] = frozenset()

    def frame(self, number: int) -> Frame:
        """The texts of all keys at one moment."""
        now: Frame = {}
        for change in self.changes[: number + 1]:
            now.update(change)
        return {key: text for key, text in now.items() if text}

    def read(self, after: int, to: int) -> set[str]:
        """The keys of the rows that were looked at between two moments."""
        return {key for keys in self.looks[after + 1 : to + 1] for key in keys}


def graph(
    trace: Trace,
    *,
    only: Collection[str] = (),
    hide: Collection[str] = HIDDEN,
    idle: bool = False,
    reserve: Trace | Collection[Trace] = (),
    rest: Collection[str] = (),
    keep: Collection[str] = (),
    read: Collection[int] | None = None,
    rows: Collection[tuple[str, str]] = (),
) -> Graph:
    """The graph of a trace. `hide` and `only` are kinds ("cdev") or names of objects ("file vfio0#1", "file *").

    Without `only` it shows what the steps of this trace change, and who holds that; if nothing changes, these objects of
    `rest`, or else what the programs have. `idle=True` adds everything else. What is in `keep`, kinds or names, is in it
    whatever the steps change, with all that it holds.
    What a check looked at that refused is in it in any case, with its holders, and so is what the sentences name of the steps
    (counted from 1) that are `read`, None: of all, if its kind is not hidden.
    What occurs in `reserve`, another trace or several, gets a place too, so that pictures of different calls have things in the
    same places. `rows`, each the name of an object and of a cell of it, are in their boxes whether they change or not.
    """
    from .rows import Drawing  # it is made of what is declared here

    story = known_story(trace).with_room((reserve,) if isinstance(reserve, Trace) else reserve)
    inside = _owners(story)
    seen = looks(trace)
    asked = refused(trace, seen)
    sentences = (step.sentence for step in trace if read is None or step.index + 1 in read)
    named = {oid for oid in names_in(sentences, story.things) if not fits(oid, hide)}
    arrows = story.arrows()
    harms = harmed(trace)
    asked_or_harmed = asked | {path.rpartition(".")[0] for paths in harms for path in paths} & story.things.keys()
    chosen = _choose(story, arrows, inside, only, hide, idle, rest, keep, asked_or_harmed, named)
    told = {(look.oid, look.cell) for look in _told_of(trace, seen)}
    told |= {(oid, cell) for name, cell in rows for oid in story.things if fits(oid, (name,))}
    drawing = Drawing(story, arrows, chosen, inside, told, harms)
    return replace(drawing.graph(seen, grounds(trace, seen)), asked=frozenset(asked))


def _told_of(trace: Trace, seen: list[CellRead]) -> list[CellRead]:
    """The reads by which checks decide that get a row: of how many files a program may open those that refused."""
    refusing = checked(trace, seen, refused=True)
    return [
        one
        for one in checked(trace, seen)
        if one in refusing or not (one.oid.startswith("fds ") and one.cell == "limit")
    ]


def _owners(story: Story) -> dict[str, str]:
    """By object that is drawn inside the box of another, that other one: what it owns by a field, and nobody counts."""
    inside: dict[str, str] = {}
    outer = set[str]()
    for fact in story.texts:
        if isinstance(fact, Arrow) and fact.sort == "owns" and fact.holder != fact.target:
            thing = story.things.get(fact.target)
            owner = story.things.get(fact.holder)
            if thing and owner and not thing.counts and fact.via in owner.fields and fact.holder not in outer:
                outer.add(inside.setdefault(fact.target, fact.holder))
    return {oid: _outermost(oid, inside) for oid in inside}


def _outermost(oid: str, inside: dict[str, str]) -> str:
    seen = {oid}
    while oid in inside and inside[oid] not in seen:
        oid = inside[oid]
        seen.add(oid)
    return oid


def _choose(
    story: Story,
    arrows: Collection[Arrow],
    inside: dict[str, str],
    only: Collection[str],
    hide: Collection[str],
    idle: bool,
    rest: Collection[str],
    keep: Collection[str],
    why: Collection[str],
    told: Collection[str],
) -> list[str]:
    """The names of the objects whose boxes are drawn, in the order in which they were met.

    Among them is what is `told` of, `why` a call was refused, a file that goes, and a mapping that keeps one alive which no
    program has open.
    """

    def box(oid: str) -> str:
        return inside.get(oid, oid)

    ends = {end: box(end) for one in arrows for end in (one.holder, one.target)}
    keeping = [(ends[one.holder], ends[one.target]) for one in arrows if one.sort in ("counted", "owns")]
    named = {oid for oid in story.things if oid in keep}
    released = (oid for oid in story.released() if not fits(oid, hide))
    asked = {box(oid) for oid in (*why, *named, *story.mappings(), *released)}
    shown = asked | {holder for holder, target in keeping if target in asked}
    # Who else is in a group decides what can be done with it.
    asked |= {oid for oid in shown if oid.startswith("device ")}
    told = {box(oid) for oid in told}
    shown |= told
    parts: dict[str, list[str]] = {}
    boxes = [fact.oid for fact in story.texts if isinstance(fact, LifeFact)]
    for oid in dict.fromkeys([*boxes, *story.things, *ends.values()]):
        parts.setdefault(box(oid), []).append(oid)

    def wanted(oid: str) -> bool:
        return (oid in asked or not fits(oid, hide)) and (
            not only or oid in shown or any(fits(part, only) for part in parts[oid])
        )

    nodes = [oid for oid in parts if wanted(oid)]
    if only or idle:
        return nodes
    known = {*nodes}
    keeping = [(holder, target) for holder, target in keeping if holder in known and target in known]
    busy = {box(fact.oid) for fact in story.texts if not isinstance(fact, Arrow) and story.moves(fact)}
    busy |= {ends[end] for one in arrows if story.moves(one) for end in (one.holder, one.target)} | asked | told
    busy |= _held_by({oid for oid in nodes if any(fits(part, keep) for part in parts[oid])}, keeping)
    before = -1
    while len(busy) > before:  # and who holds these, and who holds those
        before = len(busy)
        busy |= {holder for holder, target in keeping if target in busy}
    calls = {oid for oid in nodes if oid.startswith("thread ")}
    if not busy & known - calls:  # nothing changes: what was shown before, or what the programs have
        programs = {oid for oid in nodes if oid.startswith("fds ")}
        held = _held_by(programs, keeping)
        busy = calls | ({oid for oid in nodes if oid in rest} - calls or (held if held != programs else set()))
    return [oid for oid in nodes if oid in busy] or nodes


def _held_by(found: set[str], keeping: Collection[tuple[str, str]]) -> set[str]:
    """These objects, all that they hold, and what that holds."""
    found, before = {*found}, -1
    while len(found) > before:
        before = len(found)
        found |= {target for holder, target in keeping if holder in found}
    return found


def names_in(sentences: Iterable[str], known: Iterable[str]) -> set[str]:
    """The names that these sentences say, of those that are known."""
    names, text = {*known}, "\n".join(sentences)
    lengths: dict[str, set[int]] = {}  # by its first word, of the names that begin so
    for name in names:
        lengths.setdefault(name.partition(" ")[0], set()).add(len(name))
    found = set()
    for word in re.finditer(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, lengths)))})(?!\w)", text) if names else ():
        for length in sorted(lengths[word[0]], reverse=True):
            end = word.start() + length
            if text[word.start() : end] in names and not _IN_WORD.match(text, end):
                found.add(text[word.start() : end])
                break
    return found


def fits(oid: str, patterns: Collection[str]) -> bool:
    """Is the object of one of these kinds, or does it have one of these names?"""
    kind = oid.partition(" ")[0]
    return kind in patterns or any(_matches(oid, pattern) for pattern in patterns if not pattern.isidentifier())


_matches = lru_cache(4096)(fnmatchcase)
_IN_WORD = re.compile(r"\w")


def shorten(text: str, longest: int = LONGEST) -> str:
    """The text, cut where it is too long for a picture."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def beside(name: str, text: str) -> str:
    """The text of a row; where it is too long to stand beside the name its middle is cut: no row makes its column much wider.

    A pointer to an object of the kind of which it has the name tells that once.
    """
    text, room = text.removeprefix(f"{name} "), max(8, ACROSS - len(name))
    end = room // 2
    return text if len(text) <= room else f"{text[: room - end - 1]}…{text[-end:]}"


def change_text(old: str, new: str) -> str:
    """What a row shows where its text has changed: both texts where there is room, else the new one."""
    return f"{old}→{new}" if len(old) + len(new) <= BOTH else new


def widest(texts: Collection[str]) -> int:
    """The length of the longest text that a row shows which has these texts, one after the other."""
    lengths = [len(text) for text in {*texts} if text]
    short = Counter(length for length in lengths if length < BOTH)
    pairs = product(short, repeat=2)
    changes = [a + 1 + b for a, b in pairs if a + b <= BOTH and (a != b or short[a] > 1)]
    return max([*lengths, *changes], default=1)
