"""Where each box stands: one map for all pictures, on which a kind has its column, and an object keeps its place.

Columns from left to right: programs, files, devices, groups, the IOMMU; in each from above what is of VFIO, iommufd, KVM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .graph import ACROSS, Graph, Node, Row, shorten

FONT = 16.0  # height of the letters, in the units of the picture
LETTER = 0.603 * FONT  # width of a letter of a fixed-width font
TITLE, ROW, PADDING = 19.0, 19.0, 8.0
HEAD, BELOW = 2.0, 6.0  # what is left below the titles of a box, and below its last row
ALONE = 5.0  # and below a title that is all of it
GAP, BAND = 14.0, 18.0  # between two boxes of a column, and two bands
CHANNEL = 46.0  # between two columns: arrows go here

PROGRAM, FILES, DEVICES, GROUPS, IOMMU = range(5)
WIDTHS = (238.0, 210.0, 230.0, 248.0, 230.0)  # of the columns at least
COLUMNS = {
    **dict.fromkeys(("fds", "thread", "process", "mm_struct", "user_struct", "task"), PROGRAM),
    **dict.fromkeys(("file", "cdev", "unix_sock", "sk_buff"), FILES),
    **dict.fromkeys(
        ("vfio_group", "vfio_device_set", "iommufd_group", "iommufd_hwpt_paging", "iommufd_hwpt_nested"), GROUPS
    ),
    **dict.fromkeys(("vfio_dma", "vfio_domain", "iopt_area", "vfio_iommu_driver", "iommufd_attach"), GROUPS),
    **dict.fromkeys(("iommu_group", "device", "driver", "iopt_pages", "driver_private", "devtmpfs"), IOMMU),
}  # of all other kinds: DEVICES
BANDS = ("vfio", "iommufd", "kvm")
BIND = (
    *("file vfio0#1", "file iommu#1", "vfio_device vfio0", "iommufd_device 1"),
    *("vfio_device_set vfio0", "vfio_group 1", "iommufd_group 1", "iommu_group 1"),
)  # what a bind is about: a map for lessons
TOPS = {
    "fds vmm": 208.0,  # below the call of the program: what it opens moves nothing
    "file iommu#1": 192.0,
    "file kvm-vm#1": 286.0,
    "file kvm-vfio#1": 323.0,
    "file kvm#1": 493.0,
    "iommufd_device 1": 246.0,
    "iommufd_access 1": 246.0,
    "kvm 1": 380.0,
    "vfio_group 1": 80.0,
    "iommufd_group 1": 294.0,
    "iommu_group 1": 148.0,
}  # where on the map the things of a bind with a VM stand, each beside what points to it; all others at the first free place
LINES = {
    "fds": 8,
    "thread": 10,
    "file": 4,
    "file vfio": 9,
    "file kvm-vfio": 8,
    "file kvm-vm": 1,
    "file kvm": 1,
    "vfio_device": 12,
    "iommufd_device": 6,
    "vfio_device_set": 3,
    "vfio_group": 7,
    "iommufd_group": 3,
    "iommu_group": 5,
    "iommufd_ioas": 6,
    "iommufd_hwpt_paging": 5,
    "kvm": 3,
}  # lines, titles and rows, that a box may come to have, by kind or by what a file is of
TALL = 440.0  # of a column that can be read on a screen
WORTH = 0.9  # a picture that is smaller than this part of another one is worth that boxes move
LEAST = 10.0  # between two boxes of a column where one of them has grown, and between folded ones
MANY = 24  # places that are kept for what is not in the picture


@dataclass(frozen=True)
class Spot:
    """Where a box stands: its left upper corner, and its size."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    def row(self, node: Node, key: str) -> float:
        """The middle of the row of this key, or with "" of the title, from above."""
        keys = [row.key for row in node.rows]
        if not key or in_title(node):
            return self.top + TITLE / 2 + HEAD
        return self.top + len(titles(node)) * TITLE + (node.lines[keys.index(key)] + 0.5) * ROW + HEAD


def bare(node: Node) -> bool:
    """Is it a file that owns nothing? A line is enough for that."""
    return node.kind == "file" and len(node.parts) == 1


def in_title(node: Node) -> bool:
    """Does the only row of a folded box stand beside its title?"""
    return node.folded and len(node.rows) == 1


def alone(node: Node) -> bool:
    """Is the title all that there is of a box?"""
    return in_title(node) or not node.rows


def titles(node: Node) -> list[tuple[str, str, str]]:
    """The lines of the title: an object of the box, its kind, and its name, which is said once; a long one has its own line."""
    lines: list[tuple[str, str, str]] = []
    for part in node.parts[:1] if node.folded else node.parts:
        kind, _, label = part.partition(" ")
        if kind in ("thread", "fds"):
            kind, label = ("call", f"of {label}") if kind == "thread" else (label, "descriptors")
        label = label if label not in [known for _, _, known in lines] else ""
        both = len(kind) + len(label) <= ACROSS
        lines += [(part, kind, label)] if both else [(part, kind, ""), (part, "", shorten(label, ACROSS))]
    return lines


def row_name(row: Row) -> str:
    """What stands at the left of a row; the last check of a call speaks for itself."""
    return "" if row.oid.startswith("thread ") and row.cell == "check" else row.cell


def size(node: Node) -> tuple[float, float]:
    """How wide a box has to be at least, and how high it is."""
    rows = [len(row_name(row)) + bool(row_name(row)) + row.widest + 3 * (row.sort == "count") for row in node.rows]
    heads = [len(kind) + len(label) + bool(kind and label) for _, kind, label in titles(node)]
    if in_title(node):
        heads[0] += 1 + node.rows[0].widest
        rows = []
    lines = (max(node.lines) + 1) * ROW + HEAD + BELOW if rows else ALONE
    return max([*heads, *rows]) * LETTER + 2 * PADDING, len(heads) * TITLE + lines


def column(node: Node) -> int:
    """The column of a box."""
    return column_of(node.oid)


def column_of(oid: str) -> int:
    """The column of an object's box."""
    return COLUMNS.get(oid.partition(" ")[0], DEVICES)


def band(node: Node) -> int:
    """The band of a box in its column."""
    return BANDS.index(node.home) if node.home in BANDS else 0


class Atlas:
    """The map of a notebook, or of a bench: an object that has had a place on it has the same place again.

    `kept` are names of objects that have a place from the start. What comes later gets the first free place in its column, with
    room for the rows that it may come to have; where the column would get too high for a screen, that of what is not in the
    picture. What has not been seen for long loses its place when there are many.
    """

    def __init__(self, kept: Sequence[str] = ()) -> None:
        self._kept = kept
        self.forget()

    def forget(self, kept: Sequence[str] | None = None) -> None:
        """What comes next need not be like what was shown before; it has these objects, or those of before."""
        self._kept = self._kept if kept is None else kept
        self.shown: tuple[str, ...] = ()  # the names of the boxes of the last picture
        self._widths = [*WIDTHS]
        self._places: dict[str, _Place] = {}  # by name
        for oid in self._kept:
            self._add(oid, column_of(oid), _room(oid), self._places.values())

    def place(self, graph: Graph) -> dict[str, Spot]:
        """The places of the boxes of a graph, by key."""
        sizes = {node.oid: size(node) for node in graph.nodes}
        for node in graph.nodes:
            self._widths[column(node)] = max(self._widths[column(node)], round(sizes[node.oid][0]))
        self._thin(graph)
        here = {node.oid for node in graph.nodes}
        known = {*self.shown}
        taken = {oid for oid in self._places if oid in here & known or oid in self._kept}
        for node in sorted(graph.nodes, key=lambda node: (node.oid not in known, band(node), rank(node))):
            there = self._places.get(node.oid)
            others = [self._places[oid] for oid in taken]  # what has grown has pushed some of them down
            if there and (node.oid in taken or not any(there.overlaps(one) for one in others)):
                self._grow(node.oid, sizes[node.oid][1], here)
            else:
                self._add(node.oid, column(node), max(sizes[node.oid][1], _room(node.oid)), others)
            taken.add(node.oid)
        lefts = [sum(self._widths[:number]) + CHANNEL * number for number in range(len(WIDTHS))]
        spots = {}
        for node in graph.nodes:
            there = self._places[node.oid] = self._places.pop(node.oid)  # seen last
            spots[node.key] = Spot(lefts[there.column], there.top, self._widths[there.column], sizes[node.oid][1])
        self.shown = tuple(node.oid for node in graph.nodes)
        return spots

    def adopt(self, graph: Graph, spots: Mapping[str, Spot]) -> None:
        """From now on the boxes of this graph stand there; what is not in it has no place any more."""
        self._widths = [*WIDTHS]
        for node in graph.nodes:
            self._widths[column(node)] = max(self._widths[column(node)], round(size(node)[0]))
        named = {node.oid: (column(node), spots[node.key]) for node in graph.nodes}
        self._places = {oid: _Place(number, spot.top, spot.bottom) for oid, (number, spot) in named.items()}
        self.shown = tuple(named)

    def _thin(self, graph: Graph) -> None:
        """Places that nobody has needed for long are free again."""
        needed = {*self._kept, *(node.oid for node in graph.nodes)}
        idle = [oid for oid in self._places if oid not in needed]
        for oid in idle[: max(len(idle) - MANY, 0)]:
            del self._places[oid]

    def _add(self, oid: str, number: int, height: float, taken: Collection[_Place]) -> None:
        """At its place on the map, or the first one that nothing known has, or at least nothing that is `taken`."""
        place = _free(number, height, taken if oid in TOPS else self._places.values(), TOPS.get(oid, 0.0))
        fits = oid in TOPS or place.bottom <= TALL
        self._places[oid] = place if fits else _free(number, height, taken, 0.0)

    def _grow(self, oid: str, height: float, here: Collection[str]) -> None:
        """A box that needs more than its place pushes down what stands below it, no farther than it has to."""
        there = self._places[oid]
        bottom = there.top + height
        if bottom <= there.bottom:
            return
        self._places[oid] = there._replace(bottom=bottom)
        below = [(name, one) for name, one in self._places.items() if name in here or name in self._kept]
        for name, one in sorted(below, key=lambda named: named[1].top):
            if one.column == there.column and there.top < one.top < bottom + LEAST:
                bottom += LEAST
                self._places[name] = one._replace(top=bottom, bottom=bottom + one.bottom - one.top)
                bottom = self._places[name].bottom


def _free(number: int, height: float, places: Collection[_Place], start: float) -> _Place:
    """The first free place of a column that is not above `start`."""
    for one in sorted(one for one in places if one.column == number):
        if start + height + LEAST <= one.top:
            break
        if one.bottom + LEAST > start:
            start = one.bottom + GAP
    return _Place(number, start, start + height)


class Crowd:
    """The boxes in columns that are too high to be read on a screen."""

    def __init__(self, graph: Graph) -> None:
        self._heights = dict.fromkeys(range(len(WIDTHS)), 0.0)
        self._nodes = {node.key: node for node in graph.nodes}
        for node in graph.nodes:
            self._heights[column(node)] += _with_gap(node)

    def is_in(self, key: str) -> bool:
        """Is the box of this key in such a column?"""
        return self._heights[column(self._nodes[key])] > TALL

    def all(self) -> list[str]:
        """The keys of all of them, from the end of each column."""
        there = [node for node in self._nodes.values() if self.is_in(node.key)]
        return [node.key for node in sorted(there, key=lambda node: (band(node), rank(node)), reverse=True)]

    def fold(self, node: Node) -> None:
        """A box has become smaller."""
        self._heights[column(node)] += _with_gap(node) - _with_gap(self._nodes[node.key])
        self._nodes[node.key] = node


def _with_gap(node: Node) -> float:
    return size(node)[1] + (LEAST if node.folded else GAP)


def _room(oid: str) -> float:
    """How high the place of an object is to be."""
    kind, _, label = oid.partition(" ")
    of = label.partition("#")[0].rstrip("0123456789")
    return LINES.get(f"{kind} {of}", LINES.get(kind, 0)) * ROW + 6


class _Place(NamedTuple):
    """Where a box stands: its column, its upper and its lower edge."""

    column: int
    top: float
    bottom: float

    def overlaps(self, other: _Place) -> bool:
        """Has it some of the other's ground, or is it so near that no arrow is led between them?"""
        near = self.top < other.bottom + LEAST and other.top < self.bottom + LEAST
        return self.column == other.column and near


def rank(node: Node) -> tuple[int, int, str]:
    """The order within a column: what people begin with comes first."""
    first = ("fds", "thread", "vfio_device", "vfio_device_set", "vfio_group", "iommufd_device", "iommufd_ioas")
    return first.index(node.kind) if node.kind in first else len(first), len(node.label), node.label
