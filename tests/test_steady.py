"""From press to press: what stays in the picture stays where it is, and what is known need not be worked out again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from vfiosim.lab import Bench, Races, Sandbox
from vfiosim.lab.trace_pane import TracePane
from vfiosim.lessons import one_bind, vms, who_holds_whom
from vfiosim.views.graph import Graph
from vfiosim.views.layout import Layout

pytestmark = pytest.mark.xdist_group("pictures")

Places = dict[str, tuple[float, float]]


def some(seeds: int, every: int) -> list[Any]:
    """So many seeds: each one takes seconds, so all but a few are tried at night."""
    return [pytest.param(seed, marks=pytest.mark.nightly if seed % every else ()) for seed in range(seeds)]


def places(stage: TracePane) -> Places:
    """Where the corner of each thing is that is shown, counted from the corner of the picture."""
    player: Any = stage.player.player
    shown, layout = player.frame(player.step), player.layout
    spots = {node.oid: layout.nodes[node.key] for node in player.graph.nodes if shown.get(node.key)}
    return {oid: (spot.left, spot.top) for oid, spot in spots.items()}


def moved(before: Places, after: Places) -> list[str]:
    return [oid for oid in before if oid in after and before[oid] != after[oid]]


def drawn(stage: TracePane) -> tuple[Graph, Layout]:
    """All that ever occurs in a picture, and where."""
    player: Any = stage.player.player
    return player.graph, player.layout


def press(lab: Bench | Sandbox, name: str) -> None:
    named: dict[str, Any] = {"Undo": lab.undo, "Reset": lab.reset}
    if isinstance(lab, Sandbox):
        named |= {"Redo": lab.redo, "Call": lab.call, **lab.shortcuts.buttons}
    else:
        named |= lab.buttons
    named[name].click()


def calls(lab: Bench | Sandbox) -> int:
    """How many of them were made."""
    return len(lab.run.done) if isinstance(lab, Sandbox) else lab.session.calls_made


def two_binds() -> Sandbox:
    sandbox = Sandbox()
    sandbox.shortcuts.buttons["open device"].click()
    sandbox.shortcuts.buttons["open iommufd"].click()
    sandbox.when.value = "by hand"
    sandbox.call.click()
    sandbox.call.click()
    return sandbox


def puzzle(name: str) -> Sandbox:
    races = Races(name)
    races.yourself.click()
    assert races.sandbox is not None
    return races.sandbox


@pytest.mark.parametrize("seed", some(3, every=3))
@pytest.mark.parametrize("begin", [two_binds, lambda: puzzle("R1"), lambda: puzzle("R14")], ids=["binds", "R1", "R14"])
def test_while_a_race_is_scheduled_by_hand_nothing_in_its_picture_moves(begin, seed):
    sandbox, choose, presses = begin(), Random(seed), 0
    before = places(sandbox.trace_pane)  # before the first press
    assert len(before) > 3
    while sandbox.schedule.rows:
        choose.choice(list(sandbox.schedule.rows.values())).buttons["1 step"].click()
        after = places(sandbox.trace_pane)
        assert moved(before, after) == []
        before, presses = after, presses + 1
    assert presses > 5


def test_a_race_keeps_its_places_when_it_is_taken_back_and_done_again():
    sandbox = two_binds()
    row = next(iter(sandbox.schedule.rows.values()))
    for _ in range(5):
        row.buttons["1 step"].click()
    before = places(sandbox.trace_pane)
    sandbox.undo.click()
    assert moved(before, places(sandbox.trace_pane)) == []
    sandbox.redo.click()
    assert places(sandbox.trace_pane) == before


def test_threads_keep_the_names_that_the_reader_gave_them_in_the_picture_of_a_race():
    sandbox = two_binds()
    for row in list(sandbox.schedule.rows.values()):
        row.buttons["1 step"].click()
        row.buttons["1 step"].click()
    assert {"thread A", "thread B"} <= {*places(sandbox.trace_pane)}


def test_what_is_done_after_a_race_gets_no_room_for_it():
    sandbox = two_binds()
    for _ in range(2):
        next(iter(sandbox.schedule.rows.values())).buttons["to the end"].click()
    assert sandbox.run.reserve()
    sandbox.when.value = "at once"
    sandbox.shortcuts.buttons["dup"].click()
    assert sandbox.run.reserve() == ()
    assert "thread A" not in {node.oid for node in sandbox.trace_pane.player.player.graph.nodes}


NEW_THINGS = ["open iommufd", "open group", "dup", "bind"]


@pytest.mark.parametrize(
    ("begin", "presses"),
    [
        (one_bind.bind, ["bind", "bind", "dup", "close"]),
        (one_bind.bind, NEW_THINGS),
        (one_bind.kvm, ["create VM", "create kvm-vfio", "FILE ADD", "bind", "FILE DEL", "close"]),
        (lambda: one_bind.exercise().bench, ["dup", "FILE DEL", "close", "close", "create VM"]),
        (who_holds_whom.holders, ["dup", "open device", "open iommufd", "close", "open group", "close"]),
    ],
    ids=["bind", "bind, new things", "kvm", "free the device", "holders"],
)
def test_from_press_to_press_of_a_bench_of_a_lesson_nothing_moves(begin, presses):
    bench, before, survived = begin(), Places(), 0
    for name in presses:
        press(bench, name)
        after = places(bench.trace_pane)
        assert moved(before, after) == [], name
        survived += len({*before} & {*after})
        before = after
    assert survived > 10


def test_a_bench_of_a_lesson_that_gets_full_moves_next_to_nothing():
    bench, before, turned = one_bind.bind(), Places(), list[str]()
    for name in [*NEW_THINGS, "open iommufd", "dup", "Undo", "bind", "close", "open group", "bind", "open iommufd"]:
        press(bench, name)
        after = places(bench.trace_pane)
        turned += moved(before, after)
        before = after
    assert len(before) > 10
    assert len(turned) <= 2, turned  # boxes, in twelve presses


# ---- each call its own picture

IN_A_BENCH = [
    "open device",
    "open iommufd",
    "bind",
    "dup",
    "create VM",
    "create kvm-vfio",
    "FILE ADD",
    "Undo",
    "FILE ADD",
]
IN_A_BENCH += ["open group", "close", "open device", "bind", "Undo", "close"]
IN_A_SANDBOX = ["open device", "open iommufd", "Call", "Call", "open group", "open kvm", "Undo", "Undo", "Undo"]
IN_A_SANDBOX += ["Redo", "Redo", "Call", "open device", "dup"]
SESSIONS = pytest.mark.parametrize(
    ("begin", "presses"), [(Bench, tuple(IN_A_BENCH)), (Sandbox, tuple(IN_A_SANDBOX))], ids=["bench", "sandbox"]
)
Moment = tuple[str, int, Places, Layout]  # what was pressed, how many calls were made then, and what is shown


def played(begin: Callable[[], Bench | Sandbox], presses: Collection[str]) -> tuple[Bench | Sandbox, list[Moment]]:
    lab, moments = begin(), list[Moment]()
    for name in presses:
        press(lab, name)
        moments.append((name, calls(lab), places(lab.trace_pane), drawn(lab.trace_pane)[1]))
    return lab, moments


once = cache(played)


@SESSIONS
def test_what_survives_a_call_stays_where_it_was(begin, presses):
    _, moments = once(begin, presses)
    survived = 0
    for (_, _, before, _), (name, _, after, _) in pairwise(moments):
        assert moved(before, after) == [], name
        survived += len({*before} & {*after})
    assert survived > 20


@SESSIONS
def test_the_same_presses_give_the_same_picture(begin, presses):
    assert played(begin, presses)[1] == once(begin, presses)[1]


@SESSIONS
def test_undo_brings_back_the_picture_that_stood_there(begin, presses):
    lab, moments = played(begin, [name for name in presses if "do" not in name])
    stood = {made: layout for _, made, _, layout in moments}
    press(lab, "Undo")
    while calls(lab):
        assert drawn(lab.trace_pane)[1] == stood[calls(lab)]
        press(lab, "Undo")
    assert len(stood) > 5


def test_what_came_before_a_reset_of_the_sandbox_has_no_place_after_it():
    used, fresh = Sandbox(), Sandbox()
    for name in ("open kvm", "open group", "Reset"):
        press(used, name)
    for lab in (used, fresh):
        press(lab, "open iommufd")
    assert drawn(used.trace_pane)[1] == drawn(fresh.trace_pane)[1]


def test_a_call_that_changes_nothing_leaves_the_picture_as_it_was():
    bench = Bench()
    for name in ("open device", "open iommufd", "bind", "dup"):
        press(bench, name)
    before = {node.oid for node in drawn(bench.trace_pane)[0].nodes}
    press(bench, "GET_INFO")
    assert {node.oid for node in drawn(bench.trace_pane)[0].nodes} == before


def test_what_is_folded_again_leaves_no_hole():
    bench, heights = vms.vms(), list[float]()
    for name in ("add 1", "add 2"):
        press(bench, name)
        heights.append(drawn(bench.trace_pane)[1].height)
    assert heights[1] <= heights[0] * 1.1


def test_the_file_that_a_lesson_is_about_shows_the_same_fields_in_a_refused_call():
    bench, fields = vms.exercise().bench, list[list[str]]()
    for name in ("add 1", "del 1"):
        press(bench, name)
        file = next(node for node in drawn(bench.trace_pane)[0].nodes if node.oid == "file vfio0#1")
        fields.append([row.cell for row in file.rows])
    assert fields[0] == fields[1]
    assert "access_granted" in fields[0]
