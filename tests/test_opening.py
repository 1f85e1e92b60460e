"""At which step a picture opens after a press, and where it stands when a verdict is read."""

from __future__ import annotations

import re

import pytest

from tests.toys import House, wait_until_left
from vfiosim.lab import Bench, Exercise, Sandbox
from vfiosim.lab.trace_pane import TracePane, refused_at
from vfiosim.lessons import address_spaces, closing, groups, races, start, vmm, vms, who_holds_whom


def press(bench: Bench, *names: str) -> Bench:
    for name in names:
        bench.buttons[name].click()
    return bench


def at(stage: TracePane) -> str:
    """What the picture says: the sentence of the step at which it stands."""
    return stage.trace[stage.step - 1].sentence if stage.step else ""


@pytest.mark.parametrize(("before", "errno"), [("bind", "EINVAL"), ("open group", "EBUSY")])
def test_a_refused_call_of_a_bench_opens_at_the_refusal_and_says_so(before, errno):
    bench = press(Bench(), "open device", "open iommufd", before, "bind")
    assert at(bench.trace_pane).startswith(f"Refused with {errno}: ")
    step, last = bench.trace_pane.step, len(bench.trace_pane.trace)
    assert f"The picture opened at step {step} of {last}, which refuses the call;" in bench.message


def two_calls() -> Sandbox:
    """The second one is refused."""
    sandbox = Sandbox()
    for name in ("open device", "open iommufd"):
        sandbox.shortcuts.buttons[name].click()
    sandbox.call.click()
    sandbox.call.click()
    return sandbox


def test_a_refused_call_of_the_sandbox_opens_at_the_refusal():
    assert at(two_calls().trace_pane).startswith("Refused with EINVAL: ")


def test_undo_leads_back_to_where_the_picture_stood_before_the_call_that_is_taken_back():
    sandbox = two_calls()
    sandbox.undo.click()
    undone = sandbox.trace_pane.step
    sandbox.undo.click()
    sandbox.call.click()
    assert undone == sandbox.trace_pane.step > 1


def test_a_call_that_waits_opens_where_it_waits():
    house = House()
    house.run(wait_until_left(house.door))
    assert len(house.trace) > 1
    assert refused_at(house.trace) == len(house.trace)


def test_where_nothing_was_done_there_is_no_step_to_open_at():
    assert refused_at(House().trace) == 0


@pytest.mark.parametrize(
    ("presses", "last"),
    [
        (("open device",), "Descriptor 3 now leads to file vfio0#1."),
        (("open device", "open iommufd", "Call"), "The gate opens: a call"),
        (("open device", "dup"), "vmm calls dup(3): the lowest free number"),
        (("open device", "close"), "file vfio0#1 gives back the registration"),
    ],
)
def test_a_call_of_the_sandbox_opens_at_the_last_step_that_changes_more_than_the_call_itself(presses, last):
    sandbox = Sandbox()
    for name in presses:
        sandbox.buttons[name].click()
    assert at(sandbox.trace_pane).startswith(last)


def test_the_end_of_a_program_opens_at_its_last_change_as_every_other_call():
    stage = press(closing.handover(), "close", "kill helper").trace_pane
    assert stage.step == stage.player.player.tells > 1


def test_a_call_that_changes_nothing_but_its_own_box_opens_at_its_end():
    sandbox = Sandbox()
    sandbox.buttons["open device"].click()
    sandbox.form.what.index = next(n for n, (name, _) in enumerate(sandbox.form.what.options) if name == "fdinfo")
    sandbox.call.click()
    assert sandbox.trace_pane.step == len(sandbox.trace_pane.trace) > 0


def solved() -> Exercise:
    exercise = start.free_it()
    exercise.bench.fd.text.value = "3"
    press(exercise.bench, "close")
    return exercise


def not_solved() -> Exercise:
    exercise = start.free_it()
    exercise.bench.fd.text.value = "4"
    press(exercise.bench, "close")
    return exercise


def test_what_is_not_solved_leaves_the_picture_at_the_step_that_the_reader_looks_at():
    exercise = not_solved()
    looked_at = exercise.bench.trace_pane.step
    exercise.check.click()
    assert exercise.message.startswith("✕ Not yet.")
    assert 0 < looked_at == exercise.bench.trace_pane.step < len(exercise.bench.trace_pane.trace)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_solved_shows_the_goal_reached_unless_the_reader_has_gone_elsewhere(elsewhere):
    exercise = solved()
    stage, last = exercise.bench.trace_pane, len(exercise.bench.trace_pane.trace)
    assert 1 < stage.step < last
    if elsewhere:
        stage.go_to(1)
    exercise.check.click()
    assert exercise.message.startswith("✓ Solved.")
    assert stage.step == (1 if elsewhere else last)
    assert (f"The picture opened at step {last} of {last}, the result;" in exercise.bench.message) is not elsewhere


def test_the_verdict_about_a_race_by_hand_is_read_beside_its_last_step():
    task = races.by_hand()
    stage = task.sandbox.trace_pane
    next(iter(task.sandbox.schedule.rows.values())).buttons["1 step"].click()
    stage.player.step = 0
    task.check.click()
    assert stage.step == len(stage.trace) > 0


@pytest.mark.parametrize(
    ("made", "presses"),
    [
        (address_spaces.desk, ("bind", "IOAS_ALLOC", "MAP", "ATTACH", "DETACH")),
        (groups.owners, ("bind", "close")),
        (vms.vms, ("add 1", "bind", "add 2", "del 1")),
        (vmm.bring_up, ("open card", "open iommufd", "FILE_ADD", "BIND", "IOAS_ALLOC", "MAP", "ATTACH")),
        (vmm.desk, ("close iommufd", "UNMAP", "DETACH")),
        (who_holds_whom.holders, ("dup", "close")),
    ],
)
def test_a_cell_that_is_told_to_change_where_a_picture_opens_is_drawn_and_does(made, presses):
    bench = made()
    for name in presses:
        press(bench, name)
        pane = bench.trace_pane
        graph, step = pane.player.player.graph, pane.step
        ends = (0, *graph.at_step)
        changed = {key for one in graph.changes[ends[step - 1] + 1 : ends[step] + 1] for key in one}
        changed |= {edge.row for edge in graph.edges if edge.key in changed}
        drawn = {row.cell for node in graph.nodes for row in node.rows if row.key in changed}
        told = re.findall(r"which changes (\w+)", bench.message)
        assert {*told} <= drawn, (name, told)
