"""Where the labels of arrows go: on or beside their own line, clear of boxes, of other lines and of each other.

Graphviz can do this, but keeps so much room for it that the letters get too small for a projector.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from math import ceil, dist, inf

from .curves import Box, Point, at, pieces_of, straight
from .paper import SIDE, Paper

_PLACES = 25  # places to try on each arrow
_SQUARE, _COMMON = 60.0, 5.0  # what a covered square costs, and what a piece of another label costs
_HIDDEN = 7.0  # what it costs to hide one place of the own arrow
_ROUNDS = 3  # how often labels that are in the way of each other look for other places
_BESIDE = (30.0, 8.0), (80.0, 26.0), (130.0, 44.0)  # how bad it is to stand beside the line, so far from it


def along(points: tuple[Point, ...]) -> list[Point]:
    """Places on a chain of curves from near its beginning to near its end."""
    pieces = pieces_of(points)
    return [at(pieces, number / _PLACES * len(pieces)) for number in range(1, _PLACES)]


def traced(points: tuple[Point, ...], tip: Point) -> list[Point]:
    """An arrow as points that are so close to each other that no square of the paper is left out."""
    found: list[Point] = []
    for (ax, ay), (bx, by), (cx, cy), (dx, dy) in [*pieces_of(points), straight(points[-1], tip)]:
        many = (
            ceil((abs(bx - ax) + abs(by - ay) + abs(cx - bx) + abs(cy - by) + abs(dx - cx) + abs(dy - cy)) / SIDE) + 1
        )
        px, qx, rx = 3 * (bx - ax), 3 * (cx - 2 * bx + ax), dx - ax - 3 * (cx - bx)
        py, qy, ry = 3 * (by - ay), 3 * (cy - 2 * by + ay), dy - ay - 3 * (cy - by)
        for t in [number / many for number in range(many + 1)]:
            found.append((((rx * t + qx) * t + px) * t + ax, ((ry * t + qy) * t + py) * t + ay))
    return found


class Labels:
    """The labels of one picture.

    `places` are the points of each arrow where its label may be, `lines` its points as it is drawn,
    `sizes` width and height of each label, `boxes` what no label may cover.
    """

    def __init__(
        self,
        places: Mapping[str, list[Point]],
        lines: Mapping[str, list[Point]],
        sizes: Mapping[str, Point],
        boxes: Iterable[Box],
    ) -> None:
        solid = Paper()
        solid.fill(boxes)
        drawn = {key: Paper() for key in lines}
        for key, points in lines.items():
            drawn[key].draw(points)
        others = _each_without(drawn, solid)
        self._choices = {key: _Choices(places[key], sizes[key], others[key]) for key in places}
        self._chosen: dict[str, Box] = {}
        self._covered = dict.fromkeys(places, 0.0)

    def place(self) -> tuple[dict[str, Point], float]:
        """The middle of each label, and how much they cover in all. Short arrows choose first: they have the fewest places."""
        for key in sorted(self._choices, key=lambda key: self._choices[key].length):
            self._choose(key, self._chosen)
        for _ in range(_ROUNDS):
            troubled = [key for key, covered in self._covered.items() if covered]
            moved = [self._make_room(key) for key in sorted(troubled, key=lambda key: -self._covered[key])]
            if not any(moved):
                break
        middles = {key: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for key, box in self._chosen.items()}
        return middles, sum(self._covered.values())

    def _choose(self, key: str, others: Mapping[str, Box]) -> None:
        """The best place for a label beside these."""
        taken = [box for other, box in others.items() if other != key]
        self._covered[key], self._chosen[key] = self._choices[key].best(taken)

    def _make_room(self, key: str) -> bool:
        """Put a label where it is best; those in its way look for other places. As it was (False), if that is no better."""
        chosen, covered = dict(self._chosen), dict(self._covered)
        self._choose(key, {})
        for other in [one for one in chosen if one != key and _common(chosen[one], [self._chosen[key]])]:
            self._choose(other, self._chosen)
        self._choose(key, self._chosen)
        better = sum(self._covered.values()) < sum(covered.values())
        if not better:
            self._chosen, self._covered = chosen, covered
        return better


class _Choices:
    """The places where one label can be: on its line and on all sides of it, those near the middle of the line first."""

    def __init__(self, line: list[Point], size: Point, solid: Paper) -> None:
        self.length = sum(dist(a, b) for a, b in pairwise(line))
        self._solid = solid
        self._boxes = sorted(_candidates(line, *size))
        self._covered: list[float] = []  # by the first ones: what is not needed is not worked out

    def best(self, taken: Collection[Box]) -> tuple[float, Box]:
        """How much the best place beside other labels covers, and the place."""
        best = inf, 0.0, self._boxes[0][1]
        for number, (far, box) in enumerate(self._boxes):
            if far >= best[0]:
                break  # the ones that follow are farther still
            if number == len(self._covered):
                self._covered.append(_SQUARE * self._solid.covered(box))
            covered = self._covered[number]
            if far + covered < best[0]:
                covered += _COMMON * _common(box, taken)
                best = min(best, (far + covered, covered, box))
        return best[1:]


def _candidates(line: list[Point], width: float, height: float) -> Iterator[tuple[float, Box]]:
    """Boxes for a label, and how far each is from the ideal place."""
    places: list[tuple[float, float, float]] = []
    for far, gap in _BESIDE:
        right, below = width / 2 + gap, height / 2 + gap
        places += [(far, x, y) for x in (right, 0.0, -right) for y in (below, 0.0, -below) if x or y]
    for number, (x, y) in enumerate(line):
        ideal = 4 * abs(number - len(line) / 2)
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        hidden = len([1 for at_x, at_y in line if left < at_x < right and top < at_y < bottom])
        yield ideal + _HIDDEN * hidden, (left, top, right, bottom)
        if number % 2:
            for far, dx, dy in places:
                yield ideal + far, (left + dx, top + dy, right + dx, bottom + dy)


def _each_without(drawn: Mapping[str, Paper], solid: Paper) -> dict[str, Paper]:
    """For each arrow all the others and what is solid, on one sheet."""
    keys = list(drawn)
    before, after = [solid], [Paper()]
    for key, last in zip(keys, reversed(keys), strict=True):
        before.append(before[-1] | drawn[key])
        after.append(after[-1] | drawn[last])
    return {key: before[number] | after[len(keys) - 1 - number] for number, key in enumerate(keys)}


def _common(box: Box, others: Iterable[Box]) -> float:
    """How much a box has in common with others, 0 for nothing."""
    left, top, right, bottom = box
    found = 0.0
    for its_left, its_top, its_right, its_bottom in others:
        if its_left < right and left < its_right and its_top < bottom and top < its_bottom:
            found += (min(right, its_right) - max(left, its_left)) * (min(bottom, its_bottom) - max(top, its_top)) + 1
    return found
