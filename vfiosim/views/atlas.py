"""Where each box stands: one map for all pictures, on which a kind has its column, and an object keeps its place.

Columns from left to right: programs, files, devices, groups, the IOMMU; in them from above VFIO, iommufd, KVM.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .graph import Graph, Node, Row

FONT = 16.0  # height of the letters, in the units of the picture
LETTER = 0.603 * FONT  # width of a letter of a fixed-width font
TITLE, ROW, PADDING = 21.0, 21.0, 8.0
GAP, BAND = 22.0, 30.0  # between two boxes of a column, and two bands
CHANNEL = 54.0  # between two columns: arrows go here

PROGRAM, FILES, DEVICES, GROUPS, IOMMU = range(5)
WIDTHS = (228.0, 202.0, 230.0, 248.0, 230.0)  # of the columns at least
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
        return self.top + (len(node.parts) * TITLE + (keys.index(key) + 0.5) * ROW + 2 if key else TITLE / 2 + 2)


def titles(node: Node) -> list[tuple[str, str]]:
    """The lines of the title: kind and name of the object, then of what it owns; a name is said once."""
    lines = []
    for part in node.parts:
        kind, _, label = part.partition(" ")
        if kind in ("thread", "fds"):
            kind, label = ("call", f"of {label}") if kind == "thread" else (label, "descriptors")
        lines.append((kind, label if label not in [known for _, known in lines] else ""))
    return lines


def row_name(row: Row) -> str:
    """What stands at the left of a row; the last check of a call speaks for itself."""
    return "" if row.oid.startswith("thread ") and row.cell == "check" else row.cell


def size(node: Node) -> tuple[float, float]:
    """How wide a box has to be at least, and how high it is."""
    letters = [len(kind) + len(label) + 1 for kind, label in titles(node)]
    letters += [len(row_name(row)) + bool(row_name(row)) + row.widest + 3 * (row.sort == "count") for row in node.rows]
    return max(letters) * LETTER + 2 * PADDING, len(node.parts) * TITLE + len(node.rows) * ROW + 6


def column(node: Node) -> int:
    """The column of a box."""
    return COLUMNS.get(node.kind, DEVICES)


def band(node: Node) -> int:
    """The band of a box in its column."""
    return BANDS.index(node.home) if node.home in BANDS else 0


class Atlas:
    """The map of a notebook, or of a bench: an object that has had a place on it has the same place again.

    The first picture makes it; later ones add to it. What finds no free room in its band stands below everything else.
    """

    def __init__(self) -> None:
        self._tops: dict[str, tuple[int, float, float]] = {}  # by name: column, top, bottom
        self._widths = [*WIDTHS]
        self.shown: tuple[str, ...] = ()  # the names of the boxes of the last picture

    def forget(self) -> None:
        """What comes next need not be like what was shown before."""
        self.__init__()  # type: ignore[misc]

    def place(self, graph: Graph) -> dict[str, Spot]:
        """The places of the boxes of a graph, by key."""
        for node in graph.nodes:
            self._widths[column(node)] = max(self._widths[column(node)], round(size(node)[0]))
        fresh = [node for node in graph.nodes if not self._fits(node)]
        if not self._tops:
            self._begin(fresh)
        else:
            for node in fresh:
                self._add(node)
        lefts = [sum(self._widths[:number]) + CHANNEL * number for number in range(len(WIDTHS))]
        spots = {}
        for node in graph.nodes:
            number, top, _ = self._tops[node.oid]
            spots[node.key] = Spot(lefts[number], top, self._widths[number], size(node)[1])
        self.shown = tuple(node.oid for node in graph.nodes)
        return spots

    def _fits(self, node: Node) -> bool:
        """Has it a place, and is that large enough? If only its neighbour below is in the way it has none."""
        if node.oid not in self._tops:
            return False
        number, top, bottom = self._tops[node.oid]
        wanted = top + size(node)[1]
        if wanted > bottom:
            below = [
                other[1]
                for oid, other in self._tops.items()
                if oid != node.oid and other[0] == number and other[1] >= bottom
            ]
            if below and min(below) < wanted + GAP:
                del self._tops[node.oid]
                return False
            self._tops[node.oid] = number, top, wanted
        return True

    def _begin(self, nodes: Collection[Node]) -> None:
        """Bands are straight: each begins below the longest column of the one above it."""
        top = 0.0
        for number in range(len(BANDS)):
            ends = [top] * len(WIDTHS)
            for node in sorted((node for node in nodes if band(node) == number), key=_rank):
                start = ends[column(node)] + (GAP if ends[column(node)] > top else 0)
                end = start + size(node)[1]
                self._tops[node.oid] = column(node), start, end
                ends[column(node)] = end
            top = max(ends) + BAND if max(ends) > top else top

    def _add(self, node: Node) -> None:
        """At the first free place of its band, counted from where that begins, or below all that is there."""
        number, height = column(node), size(node)[1]
        taken = sorted(other[1:] for other in self._tops.values() if other[0] == number)
        start = 0.0
        for top, bottom in taken:
            if start + height + GAP <= top:
                break
            start = max(start, bottom + GAP)
        self._tops[node.oid] = number, start, start + height


def _rank(node: Node) -> tuple[int, int, str]:
    """The order within a column: what people begin with comes first."""
    first = ("fds", "thread", "vfio_device", "vfio_device_set", "vfio_group", "iommufd_device", "iommufd_ioas")
    return first.index(node.kind) if node.kind in first else len(first), len(node.label), node.label
