"""The map on one sheet of A3: every kind of object, its fields, its locks and what they guard, and who holds whom.

It is made of the model's own declarations: the classes of the kernel objects, and the references of machines that ran.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, get_args, get_type_hints

from . import kernel
from .assets import palette
from .engine import Completion, Count, Engine, Field, KObject, Lock, Table
from .engine.kinds import classes
from .lab import Session
from .lessons.course import CENTRAL
from .lessons.levels import known
from .lessons.levels_data import LEVELS
from .lessons.moves import play
from .museum import ROOMS
from .trace import Trace
from .views.atlas import COLUMNS, DEVICES

LEFT_OUT = ("selftest", "outside")  # the kernel's own test device, and memory that is outside of the machine
HOMES = ("fs", "vfio", "iommufd", "kvm", "iommu")
MARKS = {Lock: "⊠", Count: "#", Table: "▤", Completion: "◷"}


@dataclass(frozen=True)
class PosterRow:
    """A cell of a kind, or an attribute that never changes: its mark, the lock that guards it, and the kinds that it leads to.

    `link` is "weak" or "owns" where that is declared.
    """

    name: str
    mark: str = ""
    guard: str = ""
    link: str = ""
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A struct of the kernel: its subsystem, and its rows, those behind a lock under that lock."""

    name: str
    home: str
    rows: tuple[PosterRow, ...]


def kinds() -> dict[str, Kind]:
    """Every kind of kernel object that is modelled, by its name, as its class declares it."""
    for module in walk_packages(kernel.__path__, f"{kernel.__name__}."):
        import_module(module.name)
    found = {one.own_class: None for one in classes() if one.own_class.__module__.startswith(kernel.__name__)}
    named = {"Engine": Engine, **{each.__name__: each for each in found}}
    made = [_kind(one, named) for one in found if not _left_out(one)]
    return {one.name: one for one in made if one.rows}


def _left_out(one: type[KObject]) -> bool:
    parts = one.__module__.split(".")
    return any(name in parts for name in LEFT_OUT) or (bool(one.__subclasses__()) and not one._plans)


def _kind(one: type[KObject], named: dict[str, Any]) -> Kind:
    hints = get_type_hints(one, localns=named)
    rows = []
    for name, plan in one._plans.items():
        cell: Any = plan.make(None, name)  # type: ignore[arg-type]
        mark = next((mark for kind, mark in MARKS.items() if isinstance(cell, kind)), "")
        link = cell.link if isinstance(cell, Field | Table) else ""
        if link == "note":
            continue
        rows.append(PosterRow(name, mark, cell.guard, link, _targets(hints.get(name))))
    born = get_type_hints(one.__init__, localns=named)
    known = {*one._plans, "root"}
    rows += [
        PosterRow(name, targets=_targets(hint)) for name, hint in born.items() if _targets(hint) and name not in known
    ]
    below = one.__module__.removeprefix(f"{kernel.__name__}.").split(".")[0]
    return Kind(one.kind, below if below in HOMES else "other", tuple(_by_lock(rows)))


def _targets(hint: Any) -> tuple[str, ...]:
    """The kinds that a type names, however deep in it."""
    if isinstance(hint, type) and issubclass(hint, KObject):
        return (hint.kind,) if hint is not KObject else ()
    return tuple(dict.fromkeys(kind for part in get_args(hint) for kind in _targets(part)))


def _by_lock(rows: Collection[PosterRow]) -> Iterator[PosterRow]:
    """The rows, those that a lock guards behind it."""
    locks = [row.name for row in rows if row.mark == MARKS[Lock]]
    for row in rows:
        if row.guard not in locks:
            yield row
            if row.mark == MARKS[Lock]:
                yield from (other for other in rows if other.guard == row.name)


# ---- who counts on whom


def runs() -> Iterator[Trace]:
    """What machines did that the course shows: its central pictures, its levels, the rooms of the museum."""
    yield from (player().trace for player in CENTRAL.values())
    for level in LEVELS:
        session = Session(start=level.begin)
        play(*known()[level.name]["way"])(session)
        yield session.machine.trace
    yield from (room.trace.trace for room in ROOMS.values())


def counted(traces: Collection[Trace]) -> set[tuple[str, str, str]]:
    """Which kind counts on which at the end of any call: the holder's kind, the target's, and the counter."""
    return {
        (link.holder.split()[0], link.target.split()[0], link.via)
        for trace in traces
        for link in trace.end.references("counted")
    }


# ---- the sheet

FONT, LETTERS = "DejaVu Sans Mono", 6.5  # points
WIDE, HIGH = 1190, 842  # A3, in points
HEAD, GAP, CHANNEL = 38.0, 8.0, 28.0
AIR = "&#160;"  # letters of a reader's font may be a little wider than those that the boxes were made for
OWNS = {"penwidth": "1.6", "dir": "both", "arrowtail": "diamond"}
LEGEND = (
    "<b>Who holds whom in VFIO, iommufd and KVM</b>   Linux 7.2, as modelled.   ⊠ a lock, and under it what it guards<br/>"
    "# a counter: each arrow that ends there is counted   ◆ owns   → where a pointer leads to"
    "   ◷ something to wait for   ▤ a table"
)


@dataclass(frozen=True, order=True)
class PosterLine:
    """An arrow of the sheet, from a row or a title to a row or a title."""

    start: str
    end: str
    sort: str


def lines(found: dict[str, Kind], holds: Collection[tuple[str, str, str]]) -> set[PosterLine]:
    """What keeps what alive: the counted references, each from the pointer that stands for it if there is one, and what owns."""
    made, rest = (
        set[PosterLine](),
        {(one, two, via) for one, two, via in holds if one in found and two in found and one != two},
    )
    for kind in found.values():
        for row in kind.rows:
            for target in row.targets:
                counters = {via for holder, held, via in holds if (holder, held) == (kind.name, target)}
                if row.link == "owns" and target in found:
                    made.add(PosterLine(f"{kind.name}:{row.name}>:e", f"{target}:title:w", "owns"))
                elif not row.link:
                    made |= {
                        PosterLine(f"{kind.name}:{row.name}>:e", f"{target}:{via}:w", "counted") for via in counters
                    }
                    rest -= {(kind.name, target, via) for via in counters}
    return made | {PosterLine(f"{holder}:title:e", f"{held}:{via}:w", "counted") for holder, held, via in rest}


def draw(*forms: str) -> dict[str, bytes]:
    """The sheet in each of these forms, "svg" or "pdf". Raises RuntimeError without Graphviz."""
    try:
        import pygraphviz
    except ImportError:
        raise RuntimeError("a poster needs Graphviz: pip install pygraphviz") from None
    found = kinds()
    sized = pygraphviz.AGraph(string=_source(found, (), {}))
    sized.layout(prog="dot")
    sizes = {node.name: (float(node.attr["width"]) * 72, float(node.attr["height"]) * 72) for node in sized.nodes()}
    sheet = pygraphviz.AGraph(string=_source(found, lines(found, counted([*runs()])), _places(found, sizes)))
    return {form: sheet.draw(format=form, prog="nop") for form in forms}


Sizes = Mapping[str, tuple[float, float]]
Places = Mapping[str, tuple[float, float, float]]  # the middle of a box, and its left edge


def _places(found: dict[str, Kind], sizes: Sizes) -> Places:
    """Where each box stands: columns are filled in the order of the map of all pictures, so high that all fits the sheet best."""
    order = sorted(
        found.values(), key=lambda kind: (COLUMNS.get(kind.name, DEVICES), (*HOMES, "other").index(kind.home))
    )
    tried = [_columns([kind.name for kind in order], sizes, float(high)) for high in range(600, 1500, 4)]
    return max(tried, key=lambda one: min(WIDE / one[0], HIGH / one[1]))[2]


def _columns(names: Sequence[str], sizes: Sizes, high: float) -> tuple[float, float, Places]:
    """The boxes in columns of this height: how wide and high that is in all, and where each box stands."""
    places, left, top, widest = dict[str, tuple[float, float, float]](), 0.0, 0.0, 0.0
    for name in names:
        width, height = sizes[name]
        if top + height > high:
            left, top, widest = left + widest + CHANNEL, 0.0, 0.0
        places[name] = (left + width / 2, -top - height / 2, left)
        top, widest = top + height + GAP, max(widest, width)
    return left + widest, high + HEAD, places


def _source(found: dict[str, Kind], arrows: Collection[PosterLine], places: Places) -> str:
    from graphviz import Digraph

    looks = {"label": f"<{LEGEND}>", "labelloc": "t", "fontname": FONT, "fontsize": "10", "splines": "polyline"}
    looks |= {"margin": "0", "pad": "0.1"}  # a sheet of A3 has the whole, with its own edge
    sheet = Digraph(
        graph_attr={**looks, "size": f"{WIDE / 72:.2f},{HIGH / 72:.2f}!"},
        node_attr={"shape": "plain", "fontname": FONT, "fontsize": str(LETTERS)},
        edge_attr={"arrowsize": "0.4", "penwidth": "0.8"},
    )
    for kind in found.values():
        place = {"pos": "{:.1f},{:.1f}".format(*places[kind.name][:2])} if places else {}
        sheet.node(kind.name, f"<{_box(kind)}>", **place)
    for line in sorted(arrows):
        colour = palette()[f"home-{found[line.end.partition(':')[0]].home}"]
        sheet.edge(*_sides(line, places), color=colour, **(OWNS if line.sort == "owns" else {}))
    return str(sheet.source)


def _sides(line: PosterLine, places: Places) -> tuple[str, str]:
    """The ends of an arrow on the sides that face each other, so that it crosses neither box; in one column on the left."""
    (one, start, _), (two, end, _) = line.start.split(":"), line.end.split(":")
    far = places[two][2] - places[one][2]
    start, end = start.removesuffix(">"), end.removesuffix(">")
    right = "" if start == "title" else ">"
    begins = f"{one}:{start}{right}:e" if far > 0 else f"{one}:{start}:w"
    return begins, f"{two}:{end}{'' if end == 'title' else '>'}:e" if far < 0 else f"{two}:{end}:w"


def _box(kind: Kind) -> str:
    colour = palette()[f"home-{kind.home}"]
    locks = {row.name for row in kind.rows if row.mark == MARKS[Lock]}
    title = f'<tr><td port="title" colspan="2" bgcolor="{colour}44"><b>{escape(kind.name)}</b></td></tr>'
    rows = "".join(_line(row, row.guard in locks) for row in kind.rows)
    looks = f'border="1" cellborder="0" cellspacing="0" cellpadding="0" bgcolor="{colour}12" color="{colour}"'
    return f"<table {looks}>{title}{rows}</table>"


def _line(row: PosterRow, below_its_lock: bool) -> str:
    leads = f"→ {' '.join(row.targets)}" if row.targets else ""
    guard = "" if below_its_lock or not row.guard else f"⊠{row.guard}"
    right = f'<font color="#555555">{escape(f"  {leads} {guard}".rstrip())}{AIR}</font>'
    text = f" {'  ' * below_its_lock}{row.mark or ' '} {row.name}".replace(" ", "&#160;")
    return (
        f'<tr><td port="{row.name}" align="left">{text}</td><td port="{row.name}&gt;" align="right">{right}</td></tr>'
    )


def main(arguments: Sequence[str]) -> int:
    """Write the map of all kinds, fields, locks and holders on a sheet of A3, as poster.svg and poster.pdf, into a folder."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim poster", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("dist/poster"))
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for form, drawn in draw("svg", "pdf").items():
        (folder / f"poster.{form}").write_bytes(drawn)
        print(folder / f"poster.{form}")
    return 0
