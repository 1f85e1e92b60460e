"""The pictures that a reader sees, and what in them breaks a law of the picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, wraps
from itertools import combinations, pairwise
from random import Random
from typing import Any

from tests.searches import broken
from vfiosim.lab import Bench, Parsons, Sandbox
from vfiosim.lab.sandbox.presets import PRESETS
from vfiosim.lessons import (
    closing,
    one_bind,
    order_of_checks,
    races,
    races_questions,
    start,
    unwinding,
    vms,
    who_holds_whom,
)
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.views import Player
from vfiosim.views.atlas import LETTER, PADDING, Spot, column, in_title, row_name, titles
from vfiosim.views.graph import HIDDEN, Frame, fits, names_in
from vfiosim.views.layout import Curve

Box = tuple[float, float, float, float]  # left, top, right, bottom
Picture = tuple[str, Player]
WIDE, HIGH = 1455, 740  # of a picture whose letters of 16 are at least 12 pixels high in JupyterLab at 1280 × 720


def once(pictures: Callable[[], Iterator[Picture]]) -> Callable[[], tuple[Picture, ...]]:
    """Several laws are for the same pictures: they are made once."""
    return wraps(pictures)(cache(lambda: tuple(pictures())))


BENCHES: dict[str, tuple[Callable[[], Bench], str]] = {
    "00 first bind": (start.first_bind, "bind bind"),
    "00 free": (lambda: start.free_it().bench, "close"),
    "00 keep": (lambda: start.keep_it().bench, "dup close close"),
    "01 bind": (one_bind.bind, "GET-INFO open_group bind close bind bind dup close close"),
    "01 kvm": (one_bind.kvm, "create_VM create_kvm-vfio FILE_ADD bind FILE_DEL bind"),
    "01 errors": (lambda: one_bind.errors().bench, "open_group bind close bind bind"),
    "01 free": (lambda: one_bind.exercise().bench, "FILE_DEL close close"),
    "02 holders": (who_holds_whom.holders, "dup close open_device close"),
    "02 exercise": (lambda: who_holds_whom.exercise().bench, "bind dup close"),
    "03 jo": (order_of_checks.jo, "bind"),
    "03 errors": (lambda: order_of_checks.errors().bench, "bind bind"),
    "04 fails": (unwinding.fails, "fail_3 fail_9 bind"),
    "04 exercise": (lambda: unwinding.exercise().bench, "fail_5 bind close"),
    "05 handover": (closing.handover, "admin:_unbind helper:_close(3) close kill_helper"),
    "07 VMs": (vms.vms, "add_1 bind add_2"),
    "07 exercise": (lambda: vms.exercise().bench, "add_1 close_device open_device bind"),
    "03 exercise": (lambda: order_of_checks.exercise().bench, "bind bind open_device bind"),
}
ANY = {
    "open device": 4, "open iommufd": 3, "bind": 4, "open group": 2, "dup": 2, "GET_INFO": 1, "create VM": 2,
    "create kvm-vfio": 2, "FILE ADD": 3, "FILE DEL": 1, "close": 3, "Undo": 3,
}  # fmt: skip


@once
def of_benches() -> Iterator[Picture]:
    """Of every bench of the lessons, at first and after each press."""
    for name, (begin, presses) in BENCHES.items():
        bench = begin()
        yield name, bench.trace_pane.player.player
        for press in presses.split():
            named = press.replace("_", " ").replace("-INFO", "_INFO")
            next(made for name, made in bench.buttons.items() if name == named or name.startswith(f"{named}: ")).click()
            yield f"{name}: {press}", bench.trace_pane.player.player


@once
def of_questions() -> Iterator[Picture]:
    """Of every question: how things stand, what is the case, and what refutes an answer."""
    asked = (start, one_bind, who_holds_whom, order_of_checks, races)
    for question in (question for lesson in asked for question in lesson.LESSON.asked):
        finding = question.experiment()
        right = question.tidy(finding.answer)
        distractors = (
            [question.distractor(answer, right) for answer in question.choices] if question.kind == "choice" else []
        )
        shown = [question.before, lambda finding=finding: finding, *(distractor.refute for distractor in distractors)]
        for number, find in enumerate(shown):
            if find is not None:
                yield f"{question.name} {number}", _player(find().trace, question.view)


@once
def of_tasks() -> Iterator[Picture]:
    """Of the lines to be put in order, and of the races by hand, step by step in turns."""
    puzzles: dict[str, Parsons] = {
        "01": one_bind.STEPS,
        "02": who_holds_whom.LET_GO,
        "03": order_of_checks.SIX_MISTAKES,
        "10": races.USE_AFTER_FREE,
    }
    for name, puzzle in puzzles.items():
        for number in range(len(puzzle.lines) + 1):
            yield f"{name} order, {number} lines", _player(puzzle.judge([*puzzle.lines][:number]).trace, puzzle.view)
    lab = races.lab()
    found = lab.puzzle.explore(without=["vfio_device_set.lock"]).counterexample
    assert found is not None
    yield "10 lab", _player(found.trace, races_questions.BINDS_VIEW)
    lab.yourself.click()
    assert lab.sandbox is not None
    for name, sandbox in (("10 by yourself", lab.sandbox), ("10 by hand", races.by_hand().sandbox)):
        yield from of_turns(name, sandbox)


def of_turns(name: str, sandbox: Sandbox) -> Iterator[Picture]:
    """Each call goes one step on, in turn."""
    number = 0
    while sandbox.schedule.rows:
        rows = list(sandbox.schedule.rows.values())
        rows[number % len(rows)].buttons["1 step"].click()
        number += 1
        yield f"{name}, turn {number}", sandbox.trace_pane.player.player


@cache
def of_session(seed: int) -> tuple[Picture, ...]:
    """Of a free bench on which anything is done."""
    bench, choose, seen = Bench(), Random(seed), list[Picture]()
    for name in choose.choices([*ANY], [*ANY.values()], k=12):
        bench.device.value = choose.choice([path for _, path in bench.device.options][:3])
        (bench.undo if name == "Undo" else bench.buttons[name]).click()
        seen.append((f"seed {seed}: {name}", bench.trace_pane.player.player))
    return tuple(seen)


def _player(trace: Any, view: Collection[str]) -> Player:
    return Player(trace, only=view) if view else Player(trace)


@once
def of_museum() -> Iterator[Picture]:
    """Of the shortest way into each bug of the museum."""
    for name, room in ROOMS.items():
        yield name, Player(room.trace.trace)


def of_puzzles(names: Iterable[str] = tuple(PUZZLES)) -> Iterator[Picture]:
    """Of the first counterexample of each puzzle."""
    for name in names:
        found = broken(name, 0).counterexample
        assert found is not None
        yield name, Player(found.trace)


@cache
def of_sandbox(seed: int) -> tuple[Picture, ...]:
    """Of a sandbox in which anything is pressed, on the usual machine or after one of its presets."""
    sandbox, choose, seen = Sandbox(), Random(seed), list[Picture]()
    presses: dict[str, Any] = {**sandbox.shortcuts.buttons, "Call": sandbox.call, "Undo": sandbox.undo}
    for begin in [*sandbox.presets.buttons.values()][seed % (len(PRESETS) + 1) :][:1]:
        begin.click()
    for name in choose.choices([*presses], [3 if name == "Call" else 1 for name in presses], k=12):
        if not presses[name].disabled:
            presses[name].click()
        if sandbox.trace_pane.player is not None:
            seen.append((f"sandbox {seed}: {name}", sandbox.trace_pane.player.player))
    return tuple(seen)


def box_of(spot: Spot) -> Box:
    return spot.left, spot.top, spot.right, spot.bottom


def miscounted(player: Player) -> Iterator[str]:
    """The counters that do not show as many references as arrows end in them and their stub tells, after any effect."""
    graph, now = player.graph, Frame()
    ends: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.sort == "counted":
            ends.setdefault(edge.into, []).append(edge.key)
    for number, change in enumerate(graph.changes):
        now.update(change)
        for node in graph.nodes:
            for row in node.rows:
                if row.sort == "count" and now.get(row.key):
                    drawn = sum(bool(now.get(key)) for key in ends.get(row.key, ()))
                    stub = int((now.get(row.stub) or "0:").partition(":")[0])
                    if int(now[row.key]) != drawn + stub:
                        yield f"frame {number}: {row.oid}.{row.cell} is {now[row.key]}: {drawn} arrows and {stub}"


def crossing(player: Player) -> Iterator[str]:
    """The arrows that go through a box in which they do not end."""
    graph, layout = player.graph, player.layout
    assert layout is not None
    names = {node.key: node.oid for node in graph.nodes}
    for edge in graph.edges:
        points = traced(layout.edges[edge.key])
        (west, *_, east), (north, *_, south) = (sorted(ways) for ways in zip(*points, strict=True))
        for key, spot in layout.nodes.items():
            left, top, right, bottom = box_of(spot)
            if key in (edge.holder, edge.target) or east <= left or right <= west or south <= top or bottom <= north:
                continue
            if any(left < x < right and top < y < bottom for x, y in points):
                yield f"{names[edge.holder]} → {names[edge.target]} goes through {names[key]}"


def outside(player: Player) -> Iterator[str]:
    """The arrows that leave the paper."""
    layout = player.layout
    assert layout is not None
    for key, curve in layout.edges.items():
        points = traced(curve)
        if any(not (0 <= x <= layout.width and layout.top <= y <= layout.height) for x, y in points):
            yield f"arrow {key} leaves the paper"


def overlapping(player: Player) -> Iterator[str]:
    """Boxes that lie on each other, and rows of a box that are to be seen in the same line.

    Of two boxes with one corner the first has to be gone a step before the other comes: they take turns.
    """
    assert player.layout is not None
    names = {node.key: node.oid for node in player.graph.nodes}
    frames = [player.graph.frame(at).keys() & names for at in (0, *player.graph.at_step)]
    seen = {key: {at for at, shown in enumerate(frames) if key in shown} for key in names}
    for (one, spot), (other, its) in combinations(player.layout.nodes.items(), 2):
        (left, top, right, bottom), (a, b, c, d) = box_of(spot), box_of(its)
        turns = (left, top) == (a, b) and not seen[one] & (seen[other] | {at - 1 for at in seen[other]})
        if left < c and a < right and top < d and b < bottom and not turns:
            yield f"{names[one]} and {names[other]}"
    for at in player.graph.at_step:
        shown = player.graph.frame(at)
        for node in player.graph.nodes:
            lines = [line for row, line in zip(node.rows, node.lines, strict=True) if shown.get(row.key)]
            if len({*lines}) < len(lines):
                yield f"frame {at}: two rows of {node.oid}"


def unreadable(player: Player) -> Iterator[str]:
    """Names that are cut, and texts that do not fit into their boxes; the descriptors at the end that no row tells of."""
    graph, layout, end = player.graph, player.layout, player.frame(len(player.trace))
    assert layout is not None
    texts: dict[str, set[str]] = {}
    for change in graph.changes:
        for key, text in change.items():
            texts.setdefault(key, set()).add(text)
    drawn = {edge.row for edge in graph.edges}
    for node in graph.nodes:
        room = (layout.nodes[node.key].width - 2 * PADDING) / LETTER + 0.1
        lines = [f"{kind} {label}".strip() for _, kind, label in titles(node)]
        for row in () if in_title(node) else node.rows:
            told = texts.get(row.key, set()) if node.kind == "fds" or row.key not in drawn else {""}
            lines += [f"{row_name(row)} {text}".strip() for text in told]
        yield from (f"{node.oid}: {line}" for line in lines if len(line) > room)
        yield from (
            f"{name} is cut" for name in (*lines[: len(titles(node))], *map(row_name, node.rows)) if "…" in name
        )
        if node.kind == "fds" and node.oid in player.trace.end.objects:
            files = player.trace.end.objects[node.oid].tables["fd"].items()
            there = {str(fd) for fd, file in files if not str(file).startswith(("file terminal", "reserved"))}
            yield from (f"{node.oid} has no {fd}" for fd in there - {row.cell for row in node.rows if end.get(row.key)})


def misplaced(player: Player) -> Iterator[str]:
    """Boxes that do not stand in the column of their kind, or not beside those of another one."""
    assert player.layout is not None
    spots = [(column(node), node.oid, player.layout.nodes[node.key]) for node in player.graph.nodes]
    for number, name, spot in spots:
        for other, its_name, its in spots:
            if (number < other) != (spot.right < its.left) or (number == other) != (spot.left == its.left):
                yield f"{name} and {its_name}"


def misnumbered(player: Player) -> Iterator[str]:
    """The rows of an iommufd whose number is not the ID of what they lead to; what threads race for is named after a thread."""
    rows = {row.key: row.cell for node in player.graph.nodes for row in node.rows if row.cell.startswith("objects[")}
    for edge in player.graph.edges:
        parts = next(node.parts for node in player.graph.nodes if node.key == edge.target)
        ids = {number for part in parts if (number := part.rpartition(" ")[2].partition("#")[0]).isdigit()}
        if edge.row in rows and ids and not {rows[edge.row]} <= {f"objects[{number}]" for number in ids}:
            yield f"{rows[edge.row]} leads to {', '.join(parts)}"


def unalarmed(player: Player) -> Iterator[str]:
    """The steps that tell of a crash, of freed memory, or of what is left or held, beside a picture in which nothing is red."""
    callers = any(
        node.kind == "thread" for node in player.graph.nodes
    )  # in a race lab their code stands beside the picture
    for step in player.trace:
        wrong = step.refused in ("use after free", "broken") or (step.refused == "oops" and callers)
        if wrong and not player.graph.harmed[step.index]:
            yield f"step {step.index + 1}: {step.sentence}"


def traced(curve: Curve) -> list[tuple[float, float]]:
    """Points all along a curve."""
    found = []
    for at in range(0, len(curve) - 1, 3):
        a, b, c, d = curve[at : at + 4]
        for step in range(33):
            t = step / 32
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            found.append((x, y))
    return found


def unseen(player: Player) -> Iterator[str]:
    """What a sentence names, and the picture does not show beside it; but for what every machine has and no call is about.

    What has been freed long since has a box, and is there no more.
    """
    objects = {*player.trace.start.objects, *(edit.oid for micro in player.trace.micro for edit in micro.edits)}
    known = [oid for oid in objects if not fits(oid, HIDDEN)]
    boxes = {part: node.key for node in player.graph.nodes for part in node.parts}
    freed = set[str]()
    for step in player.trace:
        shown = {**player.frame(step.index), **player.frame(step.index + 1)}
        for oid in names_in([step.sentence], known):
            if oid not in boxes or not (shown.get(boxes[oid]) or oid in freed):
                yield f"step {step.index + 1}: {oid}: {step.sentence}"
        edits = (edit for micro in player.trace.micro_of(step.index) for edit in micro.edits)
        freed |= {edit.oid for edit in edits if edit.sort == "died"}


def unmoved(player: Player) -> Iterator[str]:
    """The steps that leave the picture as it was; a check that is told no more leaves no mark."""
    graph = player.graph
    passing = {row.key for node in graph.nodes for row in node.rows if row.cell == "check"}
    for before, after in pairwise([0, *graph.at_step]):
        was, now = ({**graph.frame(at)} for at in (before, after))
        for key in passing - now.keys():
            was.pop(key, None)
        if not graph.read(before, after) and was == now:
            number = graph.at_step.index(after)
            yield f"step {number + 1}: {player.trace[number].sentence}"
