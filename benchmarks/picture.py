"""What the pictures of the lessons, and those of the museum and the puzzles, are like to read, and how long one takes to lay out.

Boxes and arrows at the end of each, crossings of two arrows without a common end, the height of the letters where the picture
has 1,110 pixels of a page in JupyterLab (1280 × 720) and on a projector (1920 × 1080), and milliseconds of a layout that is new.
Goals: no arrow through a box; letters of a bind of 13 pixels and of 20; a layout below 20 ms.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests import pictures
from tests.pictures import Picture
from tests.traces import bind
from vfiosim.views import Player
from vfiosim.views.atlas import FONT
from vfiosim.views.layout import _led, _round, lay_out

SORTS = {
    "lessons": (pictures.of_benches, pictures.of_questions, pictures.of_tasks),
    "museum and puzzles": (pictures.of_museum, pictures.of_puzzles),
    "a bind": (lambda: iter([("a bind", Player(bind()))]),),
}


def crossings(player: Player) -> int:
    """Pairs of arrows that are there at the end, and cross each other away from their ends."""
    layout, there = player.layout, player.frame(len(player.trace))
    assert layout is not None
    lines = {edge.key: pictures.traced(layout.edges[edge.key]) for edge in player.graph.edges if there.get(edge.key)}
    ends = {edge.key: {(edge.holder, edge.row), (edge.target, edge.into)} for edge in player.graph.edges}
    return sum(_cross(lines[a], lines[b]) for a, b in combinations(lines, 2) if not ends[a] & ends[b])


def _cross(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> bool:
    def side(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
        return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])

    pairs = ((a, b, c, d) for a, b in pairwise(one) for c, d in pairwise(other))
    return any(side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b) for a, b, c, d in pairs)


def milliseconds(player: Player) -> float:
    """Of a layout that nobody has asked for before."""
    _led.cache_clear()
    _round.cache_clear()
    begin = perf_counter()
    lay_out(player.graph)
    return (perf_counter() - begin) * 1000


def told(sort: str, shown: Iterator[Picture]) -> None:
    """One line about a sort of pictures: the median and the most of each number."""
    different = {(player.graph.nodes, player.graph.edges): player for _, player in shown if player.layout is not None}
    rows = []
    for player in different.values():
        layout, there = player.layout, player.frame(len(player.trace))
        assert layout is not None
        boxes, arrows = (
            sum(bool(there.get(one.key)) for one in some) for some in (player.graph.nodes, player.graph.edges)
        )
        through = sum(1 for _ in pictures.crossing(player))
        page, room = FONT * min(1110 / layout.width, 1.6), FONT * layout.scale
        rows.append((boxes, arrows, crossings(player), through, page, room, milliseconds(player)))
    names = ("boxes", "arrows", "crossings", "through a box", "px at 1280", "px at 1920", "ms")
    columns = [
        f"{name} {statistics.median(of):.4g} (most {max(of):.4g}, least {min(of):.4g})"
        for name, of in zip(names, zip(*rows, strict=True), strict=True)
    ]
    print(f"{sort}, {len(rows)} different pictures: {'; '.join(columns)}")


def main() -> None:
    """A line for each sort of pictures."""
    for sort, sources in SORTS.items():
        told(sort, (picture for source in sources for picture in source()))


if __name__ == "__main__":
    main()
