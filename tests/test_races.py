"""The race lab, driven through its controls, without a browser."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.searches import each_puzzle
from vfiosim import replay
from vfiosim.lab import Races
from vfiosim.lab.background_job import BackgroundJob
from vfiosim.puzzles import PUZZLES, Puzzle


def explored(name: str = "R1", out: str = "", predicted: str = "safe") -> Races:
    lab = Races(name)
    if out:
        lab.protections[out].value = True
    lab.prediction.value = predicted
    lab.commit.click()
    lab.explore.click()
    return lab


def test_the_story_tells_who_calls_what() -> None:
    lab = Races("R1")
    assert PUZZLES["R1"].title in lab.in_words()
    assert "A : open('/dev/vfio/1')" in lab.in_words()
    assert "VFIO_DEVICE_BIND_IOMMUFD" in lab.in_words()


def test_what_can_go_wrong_and_what_prevents_it_is_told_when_it_was_found() -> None:
    for out in ("", "group_lock"):
        lab = Races("R1")
        assert "both own the same group" not in lab.in_words()
        assert ("both own the same group" in explored("R1", out).in_words()) == bool(out)
        assert ("Where the kernel prevents it" in explored("R1", out).in_words()) == bool(out)


def test_who_expected_harm_where_there_is_none_is_told_why_and_shown_a_run_in_which_a_call_is_refused() -> None:
    lab = explored("R1", predicted="broken")
    assert "What misled you? You expected that two calls at once must do harm" in lab.message
    assert lab.trace_pane is not None
    assert any(step.refused for step in lab.trace_pane.trace)


def test_explore_is_locked_until_something_is_predicted() -> None:
    lab = Races("R1")
    assert lab.explore.disabled
    lab.explore.click()
    assert lab.result is None
    lab.commit.click()
    assert "Choose one" in lab.message
    lab.prediction.value = "safe"
    lab.commit.click()
    assert not lab.explore.disabled


def test_the_kernel_as_it_is_is_safe() -> None:
    lab = explored("R1", predicted="safe")
    assert "✓ You predicted" in lab.message
    assert "Safe" in lab.message
    assert lab.trace_pane is None


def test_who_expected_harm_is_shown_where_a_call_is_refused_and_no_button_leads_to_a_harm() -> None:
    lab = explored("R1", predicted="broken")
    shown = lab.way_in
    assert shown is not None
    assert shown.trace[shown.trace_pane.step - 1].refused == "EBUSY"
    assert shown.harm.description == "To the end"


def test_without_its_lock_it_is_broken_and_the_shortest_way_is_shown() -> None:
    lab = explored("R1", "group_lock", "safe")
    assert "✕ You predicted" in lab.message
    assert "Broken" in lab.message
    assert lab.trace_pane is not None
    assert {step.thread for step in lab.trace_pane.trace} == {"A", "B"}
    assert lab.trace_pane.step == len(lab.trace_pane.trace)


def test_every_way_to_end_has_a_witness_to_show() -> None:
    lab = explored("R1", "group_lock")
    assert lab.result is not None
    shown = [child for line in lab.found.children for child in getattr(line, "children", ()) if hasattr(child, "click")]
    assert len(shown) == len(lab.result.violations) + len(lab.result.outcomes)
    assert lab.trace_pane is not None
    traces = []
    for each in shown:
        each.click()
        traces.append(len(lab.trace_pane.trace.micro))
    assert len(set(traces)) > 1


def test_what_can_be_taken_out_is_shown_once_something_was_predicted_of_the_kernel_as_it_is() -> None:
    lab = Races("R1")
    assert lab.ticks.layout.display == "none"
    lab.prediction.value = "safe"
    lab.commit.click()
    assert lab.ticks.layout.display != "none"
    lab.protections["group_lock"].value = True
    assert lab.ticks.layout.display != "none"
    lab.reset.click()
    assert lab.ticks.layout.display == "none"


def test_another_protection_asks_for_another_prediction() -> None:
    lab = explored("R1")
    lab.protections["group_lock"].value = True
    assert lab.explore.disabled
    assert lab.result is None
    assert lab.verdict.value == ""


def test_reset_forgets_everything() -> None:
    lab = explored("R1", "group_lock")
    lab.yourself.click()
    lab.reset.click()
    assert (lab.result, lab.predicted, lab.trace_pane, lab.sandbox) == (None, None, None, None)
    assert not any(box.value for box in lab.protections.values())


@each_puzzle(days=6)
def test_every_puzzle_can_be_scheduled_by_hand_to_its_end(puzzle: Puzzle) -> None:
    lab = Races(puzzle.name, only=("fds",))
    lab.yourself.click()
    assert lab.sandbox is not None
    run, before = lab.sandbox.run, -1
    while before != (before := len(run.machine.engine.micro)):  # until nobody can go on
        for row in list(lab.sandbox.schedule.rows.values()):
            row.buttons["to the end"].click()
        for begin in list(lab.sandbox.next_calls.children):
            begin.click()
    wanted = sum(len(calls) for calls in puzzle.programs().values())
    made = [call for call in run.machine.calls if call.thread.prefix]
    assert len(made) == wanted or run.running()


def test_the_counterexample_can_be_gone_by_hand() -> None:
    lab = explored("R1", "group_lock")
    lab.yourself.click()
    assert lab.sandbox is not None
    first, second = lab.sandbox.schedule.rows.values()
    for row, effects in ((first, 20), (second, 18), (first, 1)):
        for _ in range(effects):
            row.buttons["1 effect"].click()
    assert "is open and counts 1 of its devices as bound" in lab.sandbox.broken.value
    assert lab.sandbox.run.machine.trace.micro[-1] == replay("R1 without group_lock: A20 B18 A1").trace.micro[-1]


def test_stop_ends_an_exploration_and_nothing_is_proved() -> None:
    async def stopped() -> Races:
        lab = Races("R12")  # takes longest
        lab.prediction.value = "safe"
        lab.commit.click()
        lab.explore.click()
        await asyncio.sleep(0.02)
        assert not lab.stop.disabled
        lab.stop.click()
        return lab

    lab = asyncio.run(stopped())
    assert lab.result is not None
    assert not lab.result.complete
    assert "proves nothing" in lab.message
    assert lab.stop.disabled


def test_other_things_go_on_while_it_explores() -> None:
    async def together() -> tuple[Races, int]:
        lab = Races("R12")  # takes longest
        lab.prediction.value = "safe"
        lab.commit.click()
        lab.explore.click()
        turns = 0
        while lab.result is None:
            turns += 1
            await asyncio.sleep(0)
        return lab, turns

    lab, turns = asyncio.run(together())
    assert turns > 2
    assert lab.result is not None
    assert lab.result.complete


def test_work_in_slices_never_runs_beside_its_owner() -> None:
    inside: list[bool] = []

    def work(pause: Callable[[], bool]) -> int:
        for number in range(50):
            inside.append(True)
            time.sleep(0.004)
            inside.pop()
            if pause():
                return number
        return 50

    sliced = BackgroundJob(work)
    slices = 0
    while not sliced.go():
        slices += 1
        assert inside == []
    assert sliced.result() == 50
    assert slices > 1


def test_an_error_of_the_work_comes_through() -> None:
    def work(pause: Callable[[], bool]) -> int:
        raise ValueError("no such thing")

    sliced = BackgroundJob(work)
    assert sliced.go()
    with pytest.raises(ValueError, match="no such thing"):
        sliced.result()


def test_a_puzzle_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no puzzle"):
        Races("R99")


def test_it_leaves_text_and_a_picture_behind() -> None:
    bundle = explored("R1", "group_lock")._repr_mimebundle_()
    assert "Broken" in bundle["text/plain"]
    assert "the group or its device" in bundle["text/html"]
