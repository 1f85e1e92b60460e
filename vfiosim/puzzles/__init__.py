"""Hazards of the kernel as puzzles: programs, the protection, and what happens without it."""

from . import groups, guests, iommufd, lifetimes, mappings, modules, ownership, unwinding
from .puzzle import Puzzle, can_end

PARTS = (groups, lifetimes, iommufd, ownership, guests, mappings, modules, unwinding)
PUZZLES: dict[str, Puzzle] = {
    puzzle.name: puzzle
    for puzzle in sorted((one for part in PARTS for one in part.PUZZLES), key=lambda one: int(one.name[1:]))
}

__all__ = ["PUZZLES", "Puzzle", "can_end"]
