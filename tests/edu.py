"""The registers of edu, and its configuration space, as tests use them."""

from __future__ import annotations

from vfiosim import Process

CONFIG = 7 << 40
COMMAND, BAR0, LINE = CONFIG + 4, CONFIG + 16, CONFIG + 60
MASTER, MEMORY, INTX_DISABLE = 4, 2, 0x400
RAISE, ACKNOWLEDGE, SOURCE, DESTINATION, COUNT, RUN = 0x60, 0x64, 0x80, 0x88, 0x90, 0x98
BUFFER = 0x40000  # inside of edu


def put(program: Process, fd: int, at: int, value: int, size: int = 4) -> None:
    """Write a number into a register."""
    program.pwrite(fd, value.to_bytes(size, "little"), at)


def number(program: Process, fd: int, at: int, size: int = 4) -> int:
    """What a register has."""
    return int.from_bytes(program.pread(fd, size, at), "little")


def copy(program: Process, fd: int, source: int, destination: int) -> None:
    """Let edu copy eight bytes."""
    for at, value in ((SOURCE, source), (DESTINATION, destination), (COUNT, 8), (RUN, 3 if source == BUFFER else 1)):
        put(program, fd, at, value, 8)
