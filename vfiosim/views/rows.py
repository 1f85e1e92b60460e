"""Gives keys to what is drawn: boxes, their rows, and arrows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .atlas import column_of
from .facts import Arrow, CellFact, Fact
from .graph import HIDDEN, NAME, NULL, Edge, Graph, Node, Row, beside, fits, shorten, widest
from .looks import CellRead
from .moments import Moments, said_of
from .running import OF, plain
from .story import Story

LAST = ("holds", "waits for", "check", "result")  # of the rows of a call
Place = tuple[str, str]  # an object and the name of a row


@dataclass
class _Card:
    """A row while the picture is being made: what it tells of, and the texts it may have."""

    oid: str
    cell: str
    sort: str
    texts: dict[str, None] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)  # texts that name no object: those have a number
    key: str = ""


class Drawing:
    """The boxes of these objects, with what is to be told of them."""

    def __init__(
        self,
        story: Story,
        arrows: Collection[Arrow],
        chosen: Collection[str],
        inside: dict[str, str],
        asked: Collection[Place],
        harmed: Collection[tuple[str, ...]],
    ) -> None:
        self._story, self._asked, self._harms = story, asked, harmed
        self._harmed = {(path.rpartition(".")[0], path.rpartition(".")[2]) for paths in harmed for path in paths}
        self._chosen = {oid: f"n{number}" for number, oid in enumerate(chosen)}
        # By what is drawn, the object whose box it is in.
        self._box = {oid: oid for oid in chosen} | {part: oid for part, oid in inside.items() if oid in self._chosen}
        box = self._box
        self._arrows = [
            one for one in arrows if one.holder in box and one.target in box and box[one.holder] != box[one.target]
        ]
        # The descriptors of files that are not drawn: a table has a row for each descriptor.
        self.aside: dict[Arrow, Place] = {
            one: (one.holder, one.reason.removeprefix("fd "))
            for one in arrows
            if one.sort == "counted"
            and one.holder.startswith("fds ")
            and one.holder in box
            and one.target not in box
            and not fits(one.target, HIDDEN)
        }
        self._fields: dict[tuple[str, str], list[Place]] = {}  # by the boxes of both ends, who points with which field
        for (holder, target), names in story.pointing.items():
            if holder in box and target in box:
                self._fields.setdefault((box[holder], box[target]), []).extend((holder, name) for name in names)
        self._rows_of_arrows = self._name_rows()
        self._leaving: dict[Place, list[Arrow]] = {}
        for arrow, place in self._rows_of_arrows.items():
            self._leaving.setdefault(place, []).append(arrow)
        self._opened_for: dict[str, list[str]] = {}  # by file
        for (holder, target), names in story.pointing.items():
            if "private_data" in names:
                self._opened_for.setdefault(holder, []).append(target)
        self._cards = self._tell()
        self._own: dict[str, set[str]] = {}  # by program, the calls that have rows of their own
        for card in self._cards.values():
            if OF in card.cell:
                self._own.setdefault(card.oid, set()).add(card.cell.partition(OF)[2])
        self.nodes = tuple(self._nodes())
        self.keys = {(card.oid, card.cell): card.key for card in self._cards.values()}
        self.edges = {arrow: self._edge(number, arrow) for number, arrow in enumerate(self._arrows)}

    # ---- rows

    def _name_rows(self) -> dict[Arrow, Place]:
        """From which row each arrow leaves: that of the field which points there, else one with the reason as its name."""
        found: dict[Arrow, Place] = {}
        for arrow in self._arrows:
            if arrow.sort == "counted":
                kind, _, _ = arrow.target.partition(" ")
                name = kind if arrow.holder.startswith("thread ") else arrow.reason  # a variable of the running code
                found[arrow] = self._field(arrow) or (arrow.holder, name)
            else:
                found[arrow] = arrow.holder, arrow.reason
        return found

    def _field(self, arrow: Arrow) -> Place | None:
        """The field of the holder, or of what is in its box, that points to the target or to what is in the target's box."""
        names = self._fields.get((self._box[arrow.holder], self._box[arrow.target]), [])
        own = [name for name in names if name[0] == arrow.holder] or names
        numbered = [name for name in own if f" {name[1]} " in f" {arrow.reason} "]
        if arrow.holder.startswith("fds "):
            return numbered[0] if numbered else None
        return next(iter(numbered or own), None)

    def _tell(self) -> dict[Place, _Card]:
        """Counters that somebody in the picture has a share of, all that changes, and what the checks look at."""
        cards: dict[Place, _Card] = {}
        for arrow, place in {**self._rows_of_arrows, **self.aside}.items():
            card = cards.setdefault(place, _Card(*place, "pointer", {NULL: None}))
            if place[0].startswith("fds "):
                card.texts[beside(place[1], arrow.target)] = None
                if arrow in self.aside:
                    continue
            if arrow.sort == "counted":
                cards.setdefault((arrow.target, arrow.via), _Card(arrow.target, arrow.via, "count"))
            elif arrow.sort == "harm":
                cards.setdefault((arrow.target, arrow.via), _Card(arrow.target, arrow.via, "value", {"freed": None}))
            elif arrow.sort in ("waits", "held"):
                locked = arrow.target if arrow.sort == "waits" else arrow.holder
                cards.setdefault((locked, arrow.via), _Card(locked, arrow.via, "lock"))
        read = {*self._asked} | self._harmed
        read |= {(oid, "driver") for oid in self._chosen if oid.startswith("device ")}
        for fact, texts in self._story.texts.items():
            if isinstance(fact, CellFact) and fact.oid in self._box:
                changes = len(self._story.lasting.get(fact, set()) - {""}) > 1 or fact.oid.startswith("thread ")
                place = (fact.oid, fact.cell)
                if place in cards or place in read or (changes and not _aside(*place)):
                    card = cards.setdefault(place, _Card(*place, fact.sort))
                    card.sort = card.sort if card.sort == "pointer" else fact.sort
                    said = {text: beside(said_of(*place), text) for text in texts}
                    card.texts |= dict.fromkeys(said.values())
                    card.words |= {said[text] for text in texts if text.replace(" ", "").isalpha()}
        return cards

    def _nodes(self) -> Iterator[Node]:
        parts = {oid: [oid] for oid in self._chosen}
        for part in self._story.things:
            if part in self._box and self._box[part] != part:
                parts[self._box[part]].append(part)
        cards: dict[str, dict[str, list[_Card]]] = {oid: {part: [] for part in parts[oid]} for oid in parts}
        for card in self._cards.values():
            cards[self._box[card.oid]].setdefault(card.oid, []).append(card)
        columns = {place: column_of(self._box[arrow.target]) for arrow, place in self._rows_of_arrows.items()}
        back = {mine: {place for place, at in columns.items() if at < mine} for mine in {*map(column_of, self._chosen)}}
        for oid in self._chosen:
            yield self._node(oid, parts[oid], self._in_order(cards[oid], back[column_of(oid)]))

    def _node(self, oid: str, parts: list[str], cards: Iterable[_Card]) -> Node:
        key = self._chosen[oid]
        rows = []
        for number, card in enumerate(cards):
            card.key = f"{key}r{number}"
            leads = card.sort == "pointer" and (card.oid, card.cell) in self._leaving and not oid.startswith("fds ")
            words = tuple(text for text in card.texts if leads and text in card.words)
            wide = max(1, widest(words)) if leads else widest(card.texts)
            stub = f"{card.key}s" if card.sort == "count" else ""
            name, calls = shorten(plain(card.cell), NAME), self._calls(card)
            rows.append(Row(card.key, card.oid, name, card.sort, wide, stub, calls, words))
        kind, _, label = shorten(oid).partition(" ")
        return Node(key, oid, kind, label, self._home(parts), tuple(parts), tuple(rows))

    def _calls(self, card: _Card) -> frozenset[str]:
        """The calls that have a row, if the program makes others, which have not."""
        called, place = self._story.called.get(card.oid, set()), (card.oid, card.cell)
        if OF in card.cell:
            several = len(self._own[card.oid]) > 1
            return frozenset({card.cell.partition(OF)[2]} if several else ())
        if len(called) < 2:
            return frozenset()
        facts: list[Fact] = [CellFact(*place, card.sort), *self._leaving.get(place, [])]
        found = [self._story.during.get(fact, set()) for fact in facts]
        having = frozenset[str]().union(*found)
        return frozenset() if having >= called else having

    def _home(self, parts: list[str]) -> str:
        """The subsystem that a box belongs to: a file that of what it was opened for."""
        things = self._story.things
        homes = [things[part].home for part in reversed(parts) if part in things]
        if parts[0].startswith("file "):
            homes[:0] = [things[target].home for target in self._opened_for.get(parts[0], ()) if target in things]
        return next((home for home in homes if home not in ("", "fs")), homes[-1] if homes else "")

    def _in_order(self, mine: dict[str, list[_Card]], back: Collection[Place]) -> Iterable[_Card]:
        """What points back to the left, so that its arrow need not cross those into the counters; these; the rest as declared.

        Of a call its argument, then the rest; of a table of files by number.
        """

        def place(card: _Card) -> tuple[bool, bool, int, str]:
            thing = self._story.things.get(card.oid)
            names = [*thing.attributes, *thing.order] if thing else []
            name = plain(card.cell).partition("[")[0]
            number = names.index(name) if name in names else len(names) + (LAST.index(name) + 1 if name in LAST else 0)
            slot = card.cell.zfill(6) if card.cell.isdigit() else ""
            return (card.oid, card.cell) not in back, card.sort != "count", number, slot

        for cards in mine.values():
            yield from sorted(cards, key=place)

    # ---- arrows

    def _edge(self, number: int, arrow: Arrow) -> Edge:
        place = self._rows_of_arrows[arrow]
        row = self.keys.get(place, "")
        into = self.keys.get((arrow.target, arrow.via), "") if arrow.sort in ("counted", "waits", "harm") else ""
        if arrow.sort == "held":
            row = self.keys.get((arrow.holder, arrow.via), "")
        ends = (self._chosen[self._box[arrow.holder]], self._chosen[self._box[arrow.target]])
        return Edge(f"e{number}", arrow.sort, ends[0], row, ends[1], into, arrow.reason)

    def graph(self, looks: Collection[CellRead], grounds: Mapping[int, Collection[CellRead]]) -> Graph:
        """The graph with its frames, and with what was read before each of them, or decided a check."""
        moments = Moments(self)
        changes = tuple(moments.after(change) for change in self._story.changes)
        read: list[tuple[str, ...]] = [()] * len(changes)
        for place, some in [*((look.place, [look]) for look in looks), *grounds.items()]:
            read[place + 1] = tuple(filter(None, map(self._looked_at, some)))
        harmed = tuple(tuple(filter(None, map(self._at, paths))) for paths in self._harms)
        return Graph(self.nodes, tuple(self.edges.values()), changes, tuple(read), tuple(self._story.at_step), harmed)

    def _looked_at(self, look: CellRead) -> str:
        """The key of the row that was read; what has no row is read in its box."""
        return self.keys.get((look.oid, look.cell)) or self.box(look.oid)

    def _at(self, path: str) -> str:
        """The key of the row at this path; of a cell without a row, and of no cell, that of the box."""
        oid, _, cell = path.rpartition(".")
        return self.keys.get((oid, cell)) or self.box(oid)

    def box(self, oid: str) -> str:
        """The key of the box in which an object is drawn, "" if it is in none."""
        return self._chosen.get(self._box.get(oid, oid), "")


def _aside(oid: str, cell: str) -> bool:
    """Is it how many files a program may open? That is told only where it is too few."""
    return cell == "limit" and oid.startswith("fds ")
