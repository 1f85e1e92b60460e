"""Gives keys to what is drawn, and tells from moment to moment what each key shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from .atlas import column_of
from .facts import Arrow, CellFact, Fact, Facts, LifeFact, Story
from .graph import ALIVE, FREED, NAME, NULL, Edge, Frame, Graph, Node, Row, beside, shorten, widest
from .looks import CellRead

LAST = ("holds", "waits for", "check", "result")  # of the rows of a call
Place = tuple[str, str]  # an object and the name of a row


@dataclass
class _Card:
    """A row while the picture is being made: what it tells of, and the texts it may have."""

    oid: str
    cell: str
    sort: str
    texts: dict[str, None] = field(default_factory=dict)
    key: str = ""


class Drawing:
    """The boxes of these objects, with what is to be told of them."""

    def __init__(
        self,
        story: Story,
        chosen: Collection[str],
        inside: dict[str, str],
        asked: Collection[CellRead],
        harmed: Collection[tuple[str, ...]],
    ) -> None:
        self._story, self._asked, self._harms = story, asked, harmed
        self._harmed = {(path.rpartition(".")[0], path.rpartition(".")[2]) for paths in harmed for path in paths}
        self._chosen = {oid: f"n{number}" for number, oid in enumerate(chosen)}
        # By what is drawn, the object whose box it is in.
        self._box = {oid: oid for oid in chosen} | {part: oid for part, oid in inside.items() if oid in self._chosen}
        box = self._box
        self._arrows = [
            one
            for one in story.arrows()
            if one.holder in box and one.target in box and box[one.holder] != box[one.target]
        ]
        self._fields: dict[tuple[str, str], list[Place]] = {}  # by the boxes of both ends, who points with which field
        for (holder, target), names in story.pointing.items():
            if holder in box and target in box:
                self._fields.setdefault((box[holder], box[target]), []).extend((holder, name) for name in names)
        self._rows_of_arrows = self._name_rows()
        self._cards = self._tell()
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
        for arrow, place in self._rows_of_arrows.items():
            cards.setdefault(place, _Card(*place, "pointer", {NULL: None}))
            if arrow.sort == "counted":
                cards.setdefault((arrow.target, arrow.via), _Card(arrow.target, arrow.via, "count"))
            elif arrow.sort == "harm":
                cards.setdefault((arrow.target, arrow.via), _Card(arrow.target, arrow.via, "value", {"freed": None}))
            elif arrow.sort in ("waits", "held"):
                locked = arrow.target if arrow.sort == "waits" else arrow.holder
                cards.setdefault((locked, arrow.via), _Card(locked, arrow.via, "lock"))
        read = {(look.oid, look.cell) for look in self._asked} | self._harmed
        read |= {(oid, "driver") for oid in self._chosen if oid.startswith("device ")}
        for fact, texts in self._story.texts.items():
            if isinstance(fact, CellFact) and fact.oid in self._box:
                changes = len(self._story.lasting.get(fact, set()) - {""}) > 1 or fact.oid.startswith("thread ")
                place = (fact.oid, fact.cell)
                if changes or place in cards or place in read:
                    card = cards.setdefault(place, _Card(*place, fact.sort))
                    card.sort = card.sort if card.sort == "pointer" else fact.sort
                    card.texts |= dict.fromkeys(beside(_said(*place), text) for text in dict.fromkeys(texts))
        return cards

    def _nodes(self) -> Iterator[Node]:
        parts = {oid: [oid] for oid in self._chosen}
        for part in self._story.things:
            if part in self._box and self._box[part] != part:
                parts[self._box[part]].append(part)
        cards: dict[str, dict[str, list[_Card]]] = {oid: {part: [] for part in parts[oid]} for oid in parts}
        for card in self._cards.values():
            cards[self._box[card.oid]].setdefault(card.oid, []).append(card)
        drawn = {*self._rows_of_arrows.values()}
        targets = {place: self._box[arrow.target] for arrow, place in self._rows_of_arrows.items()}
        for oid in self._chosen:
            back = {place for place, target in targets.items() if column_of(target) < column_of(oid)}
            yield self._node(oid, parts[oid], self._in_order(cards[oid], back), drawn)

    def _node(self, oid: str, parts: list[str], cards: Iterable[_Card], drawn: Collection[Place]) -> Node:
        key = self._chosen[oid]
        rows = []
        for number, card in enumerate(cards):
            card.key = f"{key}r{number}"
            wide = 1 if card.sort == "pointer" and (card.oid, card.cell) in drawn else widest(card.texts)
            stub = f"{card.key}s" if card.sort == "count" else ""
            name, calls = shorten(card.cell, NAME), self._calls(card)
            rows.append(Row(card.key, card.oid, name, card.sort, wide, stub, calls))
        kind, _, label = shorten(oid).partition(" ")
        return Node(key, oid, kind, label, self._home(parts), tuple(parts), tuple(rows))

    def _calls(self, card: _Card) -> frozenset[str]:
        """The calls that have a row, if the program makes others, which have not."""
        called, place = self._story.called.get(card.oid, set()), (card.oid, card.cell)
        if len(called) < 2:
            return frozenset()
        facts: list[Fact] = [arrow for arrow, row in self._rows_of_arrows.items() if row == place]
        found = [self._story.during.get(fact, set()) for fact in [CellFact(*place, card.sort), *facts]]
        having = frozenset[str]().union(*found)
        return frozenset() if having >= called else having

    def _home(self, parts: list[str]) -> str:
        """The subsystem that a box belongs to: a file that of what it was opened for."""
        things = self._story.things
        homes = [things[part].home for part in reversed(parts) if part in things]
        if parts[0].startswith("file "):
            targets = [
                target
                for (holder, target), names in self._story.pointing.items()
                if holder == parts[0] and "private_data" in names
            ]
            homes[:0] = [things[target].home for target in targets if target in things]
        return next((home for home in homes if home not in ("", "fs")), homes[-1] if homes else "")

    def _in_order(self, mine: dict[str, list[_Card]], back: Collection[Place]) -> Iterable[_Card]:
        """What points back to the left, so that its arrow need not cross those into the counters; these; the rest as declared.

        Of a call its argument, then the rest; of a table of files by number.
        """

        def place(card: _Card) -> tuple[bool, bool, int, str]:
            thing = self._story.things.get(card.oid)
            names = [*thing.attributes, *thing.order] if thing else []
            name = card.cell.partition("[")[0]
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
        edges = tuple(self.edges.values())
        moments = _Moments(self, edges)
        changes = tuple(moments.after(change) for change in self._story.changes)
        read: list[tuple[str, ...]] = [()] * len(changes)
        for place, some in [*((look.place, [look]) for look in looks), *grounds.items()]:
            read[place + 1] = tuple(filter(None, map(self._looked_at, some)))
        harmed = tuple(tuple(filter(None, map(self._at, paths))) for paths in self._harms)
        return Graph(self.nodes, edges, changes, tuple(read), tuple(self._story.at_step), harmed)

    def _looked_at(self, look: CellRead) -> str:
        """The key of the row that was read; what has no row is read in its box."""
        return self.keys.get((look.oid, look.cell)) or self.box(look.oid)

    def _at(self, path: str) -> str:
        """The key of the row at this path."""
        oid, _, cell = path.rpartition(".")
        return self.keys.get((oid, cell), "")

    def box(self, oid: str) -> str:
        """The key of the box in which an object is drawn, "" if it is in none."""
        return self._chosen.get(self._box.get(oid, oid), "")


def _said(oid: str, cell: str) -> str:
    """The name that a row shows; the last check of a call speaks for itself."""
    return "" if oid.startswith("thread ") and cell == "check" else cell


class _Moments:
    """Follows the facts, and tells what is different for the keys.

    An arrow needs a box at each end: an object has one also after its death, while an arrow touches it.
    """

    def __init__(self, drawing: Drawing, edges: tuple[Edge, ...]) -> None:
        self._drawing = drawing
        self._edges = edges
        self._pointers = {row.key: (node, row) for node in drawing.nodes for row in node.rows if row.sort == "pointer"}
        self._stubs = {row.key: row for node in drawing.nodes for row in node.rows if row.stub}
        self._pointing = [edge for edge in edges if edge.row in self._pointers]
        self._alive: set[str] = set()
        self._hidden: dict[str, dict[Arrow, int]] = {}  # by counter, the references that no arrow stands for
        self._now: Frame = {}  # what the facts tell of each key, cut to what fits
        self._shown: Frame = {}
        self._names = {node.key: node.oid for node in drawing.nodes}
        drawn = {edge.row for edge in edges}
        rows = [row for node in drawing.nodes for row in node.rows if row.key not in drawn]
        self._cut = {row.key: partial(beside, _said(row.oid, row.cell)) for row in rows}

    def after(self, change: Facts) -> Frame:
        """What the keys show after a change that they did not show before."""
        if not change and self._shown:
            return {}
        for fact, text in change.items():
            self._take(fact, text)
        shown = self._now.copy()
        self._arrows(shown)
        self._rows(shown)
        before, self._shown = self._shown, shown
        gone = {key: "" for key in before if key not in shown}
        return gone | {key: text for key, text in shown.items() if key not in before or before[key] != text}

    def _tell(self, key: str, text: str) -> None:
        if text:
            self._now[key] = self._cut.get(key, shorten)(text)
        else:
            self._now.pop(key, None)

    def _take(self, fact: Fact, text: str) -> None:
        if isinstance(fact, LifeFact):
            (self._alive.add if text else self._alive.discard)(fact.oid)
            return
        if isinstance(fact, CellFact):
            if (fact.oid, fact.cell) in self._drawing.keys:
                self._tell(self._drawing.keys[fact.oid, fact.cell], text)
            return
        edge = self._drawing.edges.get(fact)
        if edge is not None:
            self._tell(edge.key, text)
        if fact.sort == "counted" and (fact.target, fact.via) in self._drawing.keys:
            hidden = self._hidden.setdefault(self._drawing.keys[fact.target, fact.via], {})
            hidden[fact] = (int(text) if text else 0) - (edge is not None and bool(text))

    def _arrows(self, shown: Frame) -> None:
        """Weak arrows beside a counted one go; what an arrow touches has a box."""
        counted = {(edge.holder, edge.target) for edge in self._edges if edge.sort == "counted" and edge.key in shown}
        for edge in self._edges:
            if edge.key in shown and edge.sort == "weak" and (edge.holder, edge.target) in counted:
                del shown[edge.key]
            if edge.key in shown:
                shown[edge.holder] = shown[edge.target] = FREED
        for node in self._drawing.nodes:
            if node.oid in self._alive or (node.kind == "thread" and node.key in shown):
                shown[node.key] = ALIVE
            elif self._alive.intersection(node.parts):
                shown[node.key] = FREED

    def _rows(self, shown: Frame) -> None:
        targets: dict[str, dict[str, None]] = {}
        for edge in self._pointing:
            if edge.key in shown:
                targets.setdefault(edge.row, {})[self._names[edge.target]] = None
        for key, (node, row) in self._pointers.items():
            if key in targets:
                shown[key] = ", ".join(targets[key])
            elif key not in shown and row.oid in self._alive and node.kind not in ("thread", "fds"):
                shown[key] = NULL
        for key, row in self._stubs.items():
            hidden = [(arrow, n) for arrow, n in self._hidden[key].items() if n] if key in self._hidden else ()
            if key in shown and hidden:
                who = "; ".join(f"{arrow.holder} ({arrow.reason}){f' ×{n}' if n > 1 else ''}" for arrow, n in hidden)
                shown[row.stub] = f"{sum(n for _, n in hidden):+d}: {who}"
