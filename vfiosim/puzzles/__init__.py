"""Hazards of the kernel as puzzles: programs, the protection, and what happens without it."""

from . import groups, guests, iommufd, lifetimes, mappings, modules, ownership, unwinding
from .puzzle import Puzzle, can_end

PARTS = (groups, lifetimes, iommufd, ownership, guests, mappings, modules, unwinding)
PUZZLES: dict[str, Puzzle] = {
    puzzle.name: puzzle
    for puzzle in sorted((one for part in PARTS for one in part.PUZZLES), key=lambda one: int(one.name[1:]))
}

# Numbers that a reader misses: a puzzle keeps its own for ever, because shared texts name it ("R13 fixed: A12 B3").
NO_PUZZLES = {
    "R6": "the VM's end took the lock of the group: a deadlock until Linux 6.2",
    "R7": "VM and device file hold each other: a ring that cannot form since the list ends with its own file",
    "R19": "a queue for page faults whose creation fails half-way: not written yet",
}

__all__ = ["NO_PUZZLES", "PUZZLES", "Puzzle", "can_end"]
