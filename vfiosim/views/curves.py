"""Bézier curves: points on them, and how an arrow is cut so that it goes from the edge of one box to that of another."""

from __future__ import annotations

from collections.abc import Callable
from math import dist
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
Piece: TypeAlias = tuple[Point, Point, Point, Point]  # from the first to the last point, drawn to the two between

FINE = 24  # places to look at on each piece
TIP = 11.0  # length of the head of an arrow


def pieces_of(points: tuple[Point, ...]) -> list[Piece]:
    """A chain of curves from its points: each piece begins where the one before it ends."""
    return [(points[at], points[at + 1], points[at + 2], points[at + 3]) for at in range(0, len(points) - 3, 3)]


def at(pieces: list[Piece], place: float) -> Point:
    """A point of a chain; `place` is 0 at its beginning, 1 at the end of its first piece, and so on."""
    number = min(int(place), len(pieces) - 1)
    t = place - number
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = pieces[number]
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy


def trim(points: tuple[Point, ...], tip: Point, holder: Box, target: Box) -> tuple[tuple[Point, ...], Point]:
    """The part of an arrow that lies between two boxes, and its tip. What does not reach a box is made longer."""
    pieces = [*pieces_of(points), straight(points[-1], tip)]
    if not _inside(holder, pieces[0][0]):
        pieces.insert(0, straight(_nearest(holder, pieces[0][0]), pieces[0][0]))
    if not _inside(target, tip):
        pieces.append(straight(tip, _nearest(target, tip)))
    spots = [(number / FINE, at(pieces, number / FINE)) for number in range(len(pieces) * FINE + 1)]
    start = next((place for place, spot in spots if not _inside(holder, spot)), 0.0)
    end = next((place for place, spot in spots if place > start and _inside(target, spot)), spots[-1][0])
    start = _where(start, lambda place: not _inside(holder, at(pieces, place)))
    end = _where(end, lambda place: _inside(target, at(pieces, place)))
    reach = at(pieces, end)
    near = next((place for place, spot in spots if place > start and dist(spot, reach) < TIP), end)
    neck = _where(near, lambda place: dist(at(pieces, place), reach) < TIP)
    return _between(pieces, start, max(neck, start)), reach


def _where(place: float, true: Callable[[float], bool]) -> float:
    """The place where something becomes true that is true at `place`, and was not at the one before."""
    low, high = max(place - 1 / FINE, 0.0), place
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if true(middle) else (middle, high)
    return high


def _between(pieces: list[Piece], start: float, end: float) -> tuple[Point, ...]:
    """The points of the part of a chain between two places."""
    first, last = min(int(start), len(pieces) - 1), min(int(end), len(pieces) - 1)
    found: list[Point] = []
    for number in range(first, last + 1):
        begin = start - number if number == first else 0.0
        stop = end - number if number == last else 1.0
        part = _part(pieces[number], begin, stop)
        found += part if not found else part[1:]
    return tuple((round(x, 1), round(y, 1)) for x, y in found)


def _part(piece: Piece, begin: float, stop: float) -> Piece:
    """The part of one piece (de Casteljau's construction, once for each end)."""
    _, right = _split(piece, begin)
    left, _ = _split(right, (stop - begin) / (1 - begin) if begin < 1 else 1.0)
    return left


def _split(piece: Piece, t: float) -> tuple[Piece, Piece]:
    a, b, c, d = piece
    ab, bc, cd = _mix(a, b, t), _mix(b, c, t), _mix(c, d, t)
    abc, bcd = _mix(ab, bc, t), _mix(bc, cd, t)
    middle = _mix(abc, bcd, t)
    return (a, ab, abc, middle), (middle, bcd, cd, d)


def _mix(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def straight(a: Point, b: Point) -> Piece:
    """A piece without a bend."""
    return a, _mix(a, b, 1 / 3), _mix(a, b, 2 / 3), b


def _inside(box: Box, point: Point) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _nearest(box: Box, point: Point) -> Point:
    """The point of a box that is nearest; a little inside, so that what leads there crosses the border."""
    x, y = min(max(point[0], box[0] + 1), box[2] - 1), min(max(point[1], box[1] + 1), box[3] - 1)
    return x, y
