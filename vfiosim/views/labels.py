"""Where the labels of arrows go: on or beside their own line, clear of boxes and of each other where there is room.

Graphviz can do this, but keeps so much room for it that the letters get too small for a projector.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
    everywhere = sorted(point for line in lines.values() for point in line)
    for key in sorted(lines, key=lambda key: _length(lines[key])):
        own = lines[key]
        ordered = sorted(own)
        best = (inf, (0.0, 0.0, 0.0, 0.0))
        for cost, box in sorted(_candidates(own, *sizes[key])):
            if cost >= best[0]:
                break  # the ones that follow are farther still
            cost += _covered(box, taken)
            if cost < best[0]:  # 80 for a place of another arrow, 20 for one of its own
                best = min(best, (cost + 80 * _inside(box, everywhere) - 60 * _inside(box, ordered), box))
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
    """How many of these points, which are ordered from left to right."""
    left, top, right, bottom = box
    first, last = bisect_right(points, (left, inf)), bisect_left(points, (right, -inf))
    return sum(top < y < bottom for _, y in points[first:last])


def _length(line: list[Point]) -> float:
    return sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(line))


def _covered(box: Box, taken: list[tuple[Box, float]]) -> float:
    """How much a box covers of what has its place, by weight."""
    left, top, right, bottom = box
    cost = 0.0
    for (its_left, its_top, its_right, its_bottom), weight in taken:
        if its_left < right and left < its_right and its_top < bottom and top < its_bottom:
            width, height = min(right, its_right) - max(left, its_left), min(bottom, its_bottom) - max(top, its_top)
            cost += weight * (width * height)
    return cost
