"""Squared paper: which squares of a picture are covered. Each row of squares is one number, so that to look is to cut bits out."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

from .curves import Box, Point

SIDE = 4.0  # of a square, in the units of the layout
FAR = 1 << 10  # squares to the left of the middle that there may be


class Paper:
    """A sheet without end, at first empty."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}

    def fill(self, boxes: Iterable[Box]) -> None:
        """Cover all squares that one of the boxes touches."""
        for box in boxes:
            first, bits, top, bottom = _squares(box)
            for row in range(top, bottom):
                self._rows[row] = self._rows.get(row, 0) | bits << first

    def draw(self, points: Iterable[Point]) -> None:
        """Cover the squares in which these points are."""
        for x, y in points:
            row = floor(y / SIDE)
            self._rows[row] = self._rows.get(row, 0) | 1 << floor(x / SIDE) + FAR

    def covered(self, box: Box) -> int:
        """How many of the squares that the box touches are covered."""
        first, bits, top, bottom = _squares(box)
        count, rows = 0, self._rows
        for row in range(top, bottom):
            if row in rows and (found := rows[row] >> first & bits):
                count += found.bit_count()
        return count

    def __or__(self, other: Paper) -> Paper:
        """One sheet upon the other."""
        made = Paper()
        made._rows = {
            row: self._rows.get(row, 0) | other._rows.get(row, 0) for row in self._rows.keys() | other._rows.keys()
        }
        return made


def _squares(box: Box) -> tuple[int, int, int, int]:
    """The first column, a bit for each column, and the rows from the top to the one below the bottom."""
    left, top, right, bottom = box
    first = floor(left / SIDE)
    return first + FAR, (1 << ceil(right / SIDE) - first) - 1, floor(top / SIDE), ceil(bottom / SIDE)
