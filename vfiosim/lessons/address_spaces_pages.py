"""Pages over calls: how many a program has mapped for its device, and how many of them are pinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..kernel.iommufd.io_pagetable_h import IoptArea
from ..lab import Outcome, Session
from ..lab.run import PROGRAM
from ..machine.events import Called
from ..naming import must_be_one_of
from .address_spaces_bench import IOVA, PAGE, PAGES, alloc, attach, destroy, detach, enter, memory, table
from .beginnings import CTX, bound
from .figures import BLUE, RED, shown

LIMIT = 10  # pages that the program may lock
RLIMIT_MEMLOCK = 8


class Counted(NamedTuple):
    """How a call ended ("" for success), and the pages that are mapped and pinned then."""

    errno: str
    mapped: int
    pinned: int


def small(session: Session) -> None:
    """A program that may lock ten pages: its device (1) is bound, and it has an empty address space (2)."""
    bound(session)
    memory(session)
    alloc(session)
    limit(session, LIMIT)


def limit(session: Session, pages: int) -> None:
    """The program may lock so many pages from now on, and no right lets it lock more."""
    session.do(Called(PROGRAM, "setrlimit", (RLIMIT_MEMLOCK, pages * PAGE, pages * PAGE)))
    session.do(Called(PROGRAM, "capset", (("CAP_IPC_LOCK",),)))


def _map(session: Session) -> Outcome:
    return enter(session, 2, IOVA + PAGE * _mapped(session))


def _unmap(session: Session) -> Outcome:
    return session.ask(CTX, "IOMMU_IOAS_UNMAP", ioas_id=2, length=2**64 - 1)


def _mapped(session: Session) -> int:
    things = session.machine.engine.objects.values()
    return sum(thing.length for thing in things if isinstance(thing, IoptArea)) // PAGE


CALLS: dict[str, Callable[[Session], Outcome]] = {
    "map": _map,
    "unmap": _unmap,
    "attach": lambda session: attach(session, 2),
    "detach": detach,
    "hwpt": lambda session: table(session, 1, 2),
    "destroy hwpt": lambda session: destroy(session, 3),
}


def count(*calls: str) -> list[Counted]:
    """What is mapped and pinned at first, and after each of these `CALLS`. Raises ValueError for one that there is not."""
    session, found = Session(start=small), [Counted("", 0, 0)]
    for name in calls:
        must_be_one_of(CALLS, name, "call")
        outcome = CALLS[name](session)
        pinned = session.process.status()["VmPin"] * 1024 // PAGE
        found.append(Counted(outcome.result if outcome.refused else "", _mapped(session), pinned))
    return found


def sentence(*calls: str) -> str:
    """How the last of these `CALLS` ended, in a sentence. Raises KeyError for one that there is not."""
    session = Session(start=small)
    outcomes = [CALLS[name](session) for name in calls]
    return f"{outcomes[-1].result}: {outcomes[-1].sentence}".replace("; ", ";\n")


def plot(*calls: str) -> Any:
    """The same as a picture: what is mapped, what is pinned, the limit, and a cross at each call that was refused.

    `map` maps four more pages, `unmap` unmaps all. Raises ValueError as `count` does.
    """
    found, places = count(*calls), range(len(calls) + 1)
    from matplotlib.figure import Figure

    mapped, pinned = [one.mapped for one in found], [one.pinned for one in found]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.bar(places, mapped, width=0.8, color="none", edgecolor="black", label="mapped")
    axes.bar(places, pinned, width=0.5, color=BLUE, label="pinned")
    axes.axhline(LIMIT, color=RED, linestyle="--", label="RLIMIT_MEMLOCK")
    for place, one in enumerate(found):
        if one.errno:
            axes.text(place, max(mapped) + 0.6, f"✕ {one.errno}", ha="center", color=RED, weight="bold")
    axes.set_xticks(places, ["bound", *calls])
    axes.set_ylim(0, max(LIMIT, *mapped) + 3)
    axes.set_yticks(range(0, max(LIMIT, *mapped) + 3, PAGES))
    axes.set_ylabel("pages")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", ncols=3, frameon=False)
    told = "; ".join(
        f"after {name}: {one.mapped} pages mapped, {one.pinned} pinned{f', refused with {one.errno}' if one.errno else ''}"
        for name, one in zip(("bind", *calls), found, strict=True)
    )
    return shown(figure, told)
