"""Where the labels of arrows go: on or beside their own line, clear of boxes and of each other where there is room.

Graphviz can do this, but keeps so much room for it that the letters get too small for a projector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import inf

from .curves import Box, Point, at, pieces_of

_PLACES = 25  # places to try on each arrow


def along(points: tuple[Point, ...]) -> list[Point]:
    """Places on a chain of curves from near its beginning to near its end."""
    pieces = pieces_of(points)
    return [at(pieces, number / _PLACES * len(pieces)) for number in range(1, _PLACES)]


def place(
    lines: dict[str, list[Point]], sizes: dict[str, Point], boxes: Iterable[Box]
) -> tuple[dict[str, Point], float]:
    """The middle of each label, and how much they cover in all.

    `lines` are the places that an arrow goes through, `sizes` width and height of its label. Short arrows choose first, for
    they have the fewest places.
    """
    trouble = 0.0
    taken = [(box, 3.0) for box in boxes]
    chosen: dict[str, Point] = {}
    for key in sorted(lines, key=lambda key: _length(lines[key])):
        own = lines[key]
        others = [point for other, line in lines.items() if other != key for point in line]
        best = (inf, (0.0, 0.0, 0.0, 0.0))
        for cost, box in sorted(_candidates(own, *sizes[key])):
            if cost < best[0]:
                cost += sum(weight * _overlap(box, other) for other, weight in taken)
            if cost < best[0]:
                best = min(best, (cost + 80 * _inside(box, others) + 20 * _inside(box, own), box))
        cost, (left, top, right, bottom) = best
        trouble += cost
        chosen[key] = (left + right) / 2, (top + bottom) / 2
        taken.append(((left, top, right, bottom), 5.0))
    return chosen, trouble


def _candidates(line: list[Point], width: float, height: float) -> Iterator[tuple[float, Box]]:
    """Boxes for a label, on the line and on both sides of it, and how far each is from the ideal place."""
    for number, (x, y) in enumerate(line):
        for aside in (0.0, width / 2 + 5, -width / 2 - 5):
            middle = x + aside
            box = (middle - width / 2, y - height / 2, middle + width / 2, y + height / 2)
            yield 4 * abs(number - len(line) / 2) + (30 if aside else 0), box


def _inside(box: Box, points: list[Point]) -> int:
    return sum(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)


def _length(line: list[Point]) -> float:
    return sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(line))


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
