"""What is kept of a run: each change of a cell, and each effect as it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .functions import KernelFunction, Phase
from .objects import Cell, KObject
from .operations import Request
from .source import Line

if TYPE_CHECKING:
    from .thread import Thread


class Change(NamedTuple):
    """One entry of the journal: `target` is a cell, an object, or a thread whose user memory was written.

    `key` is a slot, a holder with its reason, or an address; None for the whole target.
    """

    target: Cell | KObject
    key: Any
    old: Any
    new: Any


class Micro(NamedTuple):
    """One effect as it happened; the objects in it are only looked at for their constant names and values."""

    thread: Thread
    request: Request
    answer: Any
    code: Any
    offset: int
    start: int  # its first entry in the journal
    end: int  # and the one after its last
    saying: tuple[Phase, str, tuple[object, ...]] | None
    mirrored: KernelFunction | None = None  # the kernel function that ran, be it on a line of one of its helpers

    @property
    def line(self) -> Line:
        """The line of kernel code that asked for it."""
        return Line(self.code, self.offset)
