"""Outcomes of closing, counted: every order of three closes as a table, and references after each call as a plot."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, permutations
from typing import Any

from ..lab import Session
from ..machine.events import Began, Forked, Killed
from ..naming import must_be_one_of
from .beginnings import bound
from .closing_calls import mmap, munmap, unbind
from .closing_questions import CTX, FILE, KVM
from .figures import BLUE, GREEN, ORANGE, shown
from .one_bind import bound_for_a_vm
from .tables import Shown, table

PARTS = {"device": (3,), "iommufd": (4,), "VM": (5, 6)}  # the descriptors of each; the VM has its kvm-vfio device, too
ALIVE = {"device": FILE, "iommufd": CTX, "VM": KVM}


def left_after(closed: tuple[str, ...]) -> tuple[str, ...]:
    """Which of device, iommufd and VM are alive when the descriptors of these were closed in this order."""
    session = Session(start=bound_for_a_vm)
    for part in closed:
        for fd in PARTS[part]:
            session.close(fd)
    return tuple(part for part, name in ALIVE.items() if name in session.machine.trace.end.objects)


def orders() -> Shown:
    """What is alive after each of three closes, for every order of them, as a table."""
    head = ("order of the closes", "alive after the first", "after the second", "after the third")
    lines = [[" → ".join(order), *map(_alive, accumulate(zip(order)))] for order in permutations(PARTS)]
    return table(head, lines)


def _alive(closed: tuple[str, ...]) -> str:
    return ", ".join(left_after(closed)) or "nothing"


# ---- counts over time

CALLS: dict[str, Callable[[Session], object]] = {
    "fork": lambda session: session.do(Forked("vmm", "helper")),
    "mmap": mmap,
    "munmap": munmap,
    "unbind": unbind,
    "close 3": lambda session: session.close(3),
    "close 4": lambda session: session.close(4),
    "kill helper": lambda session: session.do(Killed("helper")),
}
LINES = {
    "the device's file": (FILE, "f_ref"),
    "the iommufd's file": ("file iommu#1", "f_ref"),
    "vfio0": ("vfio_device vfio0", "refcount"),
}


def counts(*calls: str) -> dict[str, list[int]]:
    """How many references each file and the device have at first, and after each of these `CALLS`.

    Raises ValueError for a call that there is not, or that cannot be made.
    """
    session = Session(start=bound)
    session.do(Began("admin"))
    found: dict[str, list[int]] = {what: [] for what in LINES}
    for name in ("", *calls):
        if name:
            must_be_one_of(CALLS, name, "call")
            CALLS[name](session)
        objects = session.machine.trace.end.objects
        for what, (thing, cell) in LINES.items():
            found[what].append(objects[thing].total(cell) if thing in objects else 0)
    return found


def plot(*calls: str) -> Any:
    """The same as a picture: a line for each, a place for each call. Raises ValueError as `counts` does."""
    from matplotlib.figure import Figure

    places, lines = range(len(calls) + 1), counts(*calls)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    looks = zip(("o-", "s--", "D:"), (BLUE, ORANGE, GREEN), strict=True)
    for (what, line), (style, colour) in zip(lines.items(), looks, strict=True):
        axes.plot(places, line, style, color=colour, drawstyle="steps-post", label=what)
    axes.set_xticks(places, ["bound", *calls])
    axes.set_yticks(range(1 + max(map(max, lines.values()))))
    axes.set_ylabel("references")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    told = "; ".join(f"references to {what}: {', '.join(map(str, line))}" for what, line in lines.items())
    return shown(figure, told)
