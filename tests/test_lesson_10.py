"""The lesson about races: its own solution is played, and a typical wrong answer, through what a reader can press."""

from __future__ import annotations

import re
from itertools import permutations

import pytest
from playwright.sync_api import expect

from tests.desk import PALE, becomes, buttons, click, press
from tests.lesson_claims import answered, ordered
from vfiosim import replay
from vfiosim.explore.result import in_turn
from vfiosim.lab import ByHand, HandTask, RoomView, progress
from vfiosim.lab.trace_pane import TracePane
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import races as lesson
from vfiosim.lessons.races_questions import QUESTIONS, moved, where_a_may_be_stopped

# ---- the questions


def test_who_believes_that_the_first_caller_wins_is_shown_a_run_in_which_he_is_overtaken():
    trace = answered(QUESTIONS["who wins?"], "first").stage.trace
    assert trace[0].sentence == "A calls open(/dev/vfio/1)."
    assert next(step.sentence for step in trace if step.refused).startswith("Refused with EBUSY")
    assert any(step.sentence.endswith("and returns 0.") for step in trace)


def test_with_one_switch_the_group_is_never_open_and_bound():
    for first, second in (("A", "B"), ("B", "A")):
        effects = 0
        while True:
            machine = lesson.R1.setup(trace=False)
            calls = moved(machine, without=lesson.R1.without)
            if not all(calls[first].step() for _ in range(effects)):
                break
            calls[second].run()
            assert machine.check() == []
            effects += 1


def test_the_places_where_an_interruption_does_harm_are_few():
    wrong, runs = lesson.interrupted()
    assert 0 < wrong < runs / 10


def test_a_schedule_in_which_a_is_stopped_goes_wrong_where_the_question_says_and_nowhere_else():
    stops = where_a_may_be_stopped()
    assert QUESTIONS["how early, how late?"].experiment().answer == str(len(stops))
    wrong = "vfio_group 1 is open and counts 1 of its devices as bound"
    for after in (0, stops[0] - 1, stops[0], stops[-1], stops[-1] + 1, 26):
        assert (wrong in str(replay(lesson.stop_a(after)))) == (after in stops)
    with pytest.raises(ValueError, match="A has no 27 effects"):
        lesson.stop_a(27)


def test_the_lock_guards_the_two_fields_by_which_the_calls_know_of_each_other():
    assert {cell.partition(".")[2] for cell in lesson.shared()} == {"opened_file", "cdev_device_open_cnt"}
    assert "vfio_group 1.opened_file: A reads and writes, B reads" in lesson.guarded()


@pytest.mark.parametrize(("name", "value"), [("switches", "1"), ("a dying VM", "leak")])
def test_what_is_said_about_an_answer_leaves_the_way_to_the_task_that_asks_for_it(name, value):
    prediction = answered(QUESTIONS[name], value)
    assert not re.search(r"\b[AB] \d", prediction.message)
    assert prediction.message.endswith("The way into it is yours to find, in a task below.")
    assert not any(isinstance(child, TracePane) for child in prediction.children)
    assert QUESTIONS[name].withheld in {task.name for task in (lesson.BREAK_IT, lesson.USE_AFTER_FREE)}


def test_a_question_that_the_lesson_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'who'; there are who wins"):
        lesson.predict("who")


# ---- the race lab


def test_in_the_race_lab_the_lock_is_taken_out_and_the_shortest_way_into_harm_is_shown():
    races = lesson.lab()
    races.protections["vfio_device_set.lock"].value = True
    races.prediction.value = "broken"
    races.commit.click()
    races.explore.click()
    assert "✓ You predicted" in races.message
    assert races.result is not None
    races.reset.click()
    races.protections["vfio_device_set.lock"].value = True
    races.prediction.value = "safe"
    races.commit.click()
    races.explore.click()
    assert M.ONE_CALL_AFTER_THE_OTHER.name in races.message
    assert races.result.counterexample is not None
    assert races.trace_pane is not None
    assert races.trace_pane.trace[races.trace_pane.step - 1].sentence.startswith("Oops: A follows a null pointer")
    assert in_turn(races.result.counterexample.schedule) == "43 effects of A, then 41 of B, then 1 of A"


def test_what_the_race_lab_asks_is_about_a_race_that_no_other_part_of_the_lesson_is_about():
    others = {lesson.R1.name, lesson.R5.name, lesson.BREAK_IT.puzzle}
    assert lesson.lab().puzzle.name not in others
    assert len(lesson.lab().puzzle.protections) == 2


# ---- the first task: by hand


@pytest.fixture
def hand() -> ByHand:
    return lesson.by_hand()


def go(hand: ByHand, thread: str, how: str, times: int = 1) -> None:
    for _ in range(times):
        calls = hand.sandbox.run.machine.calls
        number = next(number for number in hand.sandbox.run.running() if calls[number].thread.prefix == thread)
        hand.sandbox.schedule.rows[number].buttons[how].click()


def test_a_student_who_stops_a_between_look_and_tell_breaks_it(hand):
    go(hand, "A", "1 step", 3)
    go(hand, "B", "to the end")
    assert not hand.solved
    go(hand, "A", "to the end")
    hand.check.click()
    assert "✓ You have broken it. You switched 2 times. The" in hand.message  # how many are enough is a question
    assert "vfio_group 1 is open and counts 1 of its devices as bound" in hand.message


def test_what_was_broken_by_hand_is_drawn_as_in_a_counterexample(hand):
    go(hand, "A", "1 step", 3)
    go(hand, "B", "to the end")
    go(hand, "A", "to the end")
    shown = hand.sandbox.trace_pane.player.player
    assert shown.trace[-1].refused == "broken"
    framed = {row.cell for node in shown.graph.nodes for row in node.rows if row.key in shown.graph.harmed[-1]}
    assert framed == {"opened_file", "cdev_device_open_cnt"}
    assert shown.step == len(shown.trace)


def test_it_breaks_the_other_way_round_too_and_after_needless_switches_the_fewest_are_told(hand):
    for thread in ("B", "A", "B"):
        go(hand, thread, "1 effect")
    go(hand, "B", "1 step", 4)
    go(hand, "A", "to the end")
    go(hand, "B", "to the end")
    progress.record("10 switches", False)
    hand.check.click()
    assert "You switched 4 times; 2 are enough." in hand.message


def test_one_call_after_the_other_breaks_nothing_and_is_called_by_its_name(hand):
    go(hand, "A", "to the end")
    go(hand, "B", "to the end")
    hand.check.click()
    assert "✕ Not yet. Nothing is wrong so far. A has looked and told. B has looked, and not told." in hand.message
    assert "A gets descriptor 3. B is refused: EBUSY." in hand.message
    assert M.ONE_CALL_AFTER_THE_OTHER.name in hand.message
    assert "opened_file" not in hand.message
    assert not hand.solution.disabled


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        ("A", "B", "A has looked, and not told. B has looked and told."),
        ("B", "A", "A has looked and told. B has looked, and not told."),
    ],
)
def test_one_turn_before_it_breaks_it_is_said_what_is_missing(hand, first, second, stands):
    go(hand, first, "1 step", {"A": 3, "B": 5}[first])
    go(hand, second, "to the end")
    tries = progress.answers.get(hand.task.name)
    hand.check.click()
    assert f"Not there yet. Nothing is wrong so far: let a call go on. {stands}" in hand.message
    assert "What misled you?" not in hand.message
    assert hand.solution.disabled
    assert progress.answers.get(hand.task.name) == tries
    go(hand, first, "to the end")
    assert hand.solved


def test_the_way_there_is_told_after_a_hint_was_asked_for_and_not_before(hand):
    go(hand, "A", "1 effect")
    hand.check.click()
    assert "One way there." not in hand.message
    hand.help.hint.click()
    hand.check.click()
    assert "One way there." in hand.message


def test_who_has_broken_it_is_told_why_it_works(hand):
    go(hand, "A", "1 step", 3)
    go(hand, "B", "to the end")
    go(hand, "A", "to the end")
    hand.check.click()
    assert "Why it works. A has looked, and nobody was there." in hand.message


def test_who_has_not_looked_is_told_so(hand):
    go(hand, "A", "1 effect")
    hand.check.click()
    assert "A has not looked yet. B has not looked yet." in hand.message


def test_undo_takes_a_turn_back_and_start_over_all_of_them(hand):
    go(hand, "A", "to the end")
    go(hand, "B", "1 step")
    hand.sandbox.undo.click()
    assert "You have switched 0 times." in hand.moves.value
    hand.again.click()
    assert len(hand.sandbox.run.running()) == 2
    assert hand.sandbox.run.done == []


def test_the_solution_by_hand_names_the_places_and_says_why(hand):
    hand.solution.click()
    assert "A goes on, until: refuse_if [group_not_open] passed" in hand.message
    assert "B goes on, until: store vfio_group 1.cdev_device_open_cnt = 1" in hand.message
    assert "With the lock B cannot look as long as A has not told." in hand.message


@pytest.mark.parametrize(
    ("puzzle", "without", "says"),
    [("R99", (), "no puzzle 'R99'"), ("R1", (), "in R1 nothing goes wrong without anything")],
)
def test_a_task_by_hand_that_cannot_be_solved_is_refused(puzzle, without, says):
    with pytest.raises(ValueError, match=says):
        ByHand(HandTask("", puzzle, without, lambda machine: [], "", ""))


def test_the_hints_go_three_deep_and_the_last_one_is_enough(hand):
    for depth in (1, 2, 3):
        hand.help.hint.click()
        assert f"Hint {depth} of 3." in hand.message
    assert "A: 1 step, three times. B: to the end. A: to the end." in hand.message


# ---- the second task: turns


def test_all_of_b_between_reading_and_taking_is_a_use_after_free():
    message = ordered(lesson.turns(), "read", "clear", "free", "take")
    assert "✓ Right. The machine says: use after free: A touches kvm 1.users_count." in message
    assert "The lock makes those two one step." in message


def test_who_takes_before_b_frees_keeps_the_vm_alive():
    message = ordered(lesson.turns(), "read", "take", "clear", "free")
    assert "The first wrong place is number 4" in message
    assert "A has taken its reference already" in message


def test_what_has_happened_already_is_no_turn_any_more():
    assert "B has done that already, on the way to an earlier line." in ordered(lesson.turns(), "free", "clear")


def test_turns_that_end_too_early_do_not_reach_the_end():
    assert "The VM is freed, and nobody has touched it since. Who does?" in ordered(
        lesson.turns(), "read", "clear", "free"
    )
    assert "The VM is alive. What frees it?" in ordered(lesson.turns(), "read", "clear")


def test_every_order_that_breaks_it_reads_before_it_clears_and_takes_after_it_frees():
    for order in permutations(("read", "clear", "free", "take")):
        if lesson.in_turns(order).place is None:
            assert order.index("read") < order.index("free") < order.index("take")


# ---- the third task: the museum

GET = """
async def vfio_df_get_kvm_safe(df):
    if await load(df.device.open_count) != 0:
        return
    async with df.kvm_ref_lock:
        await vfio_device_get_kvm_safe(df.device, await load(df.kvm))
"""
PUT = """
async def vfio_device_put_kvm(device):
    if await load(device.open_count) != 0:
        return
    kvm = await load(device.kvm)
    if kvm is None:
        return
    await kvm_put_kvm(kvm, device, BOUND_FOR)
    await store(device.kvm, None)
"""
TOO_MUCH = """
async def vfio_device_put_kvm(device):
    return
"""


def mended(**functions: str) -> RoomView:
    view = lesson.mend()
    for name, text in functions.items():
        view.which.value = name
        view.editor.value = text
    view.prove.click()
    return view


def test_both_functions_mended_are_a_repair():
    view = mended(vfio_df_get_kvm_safe=GET, vfio_device_put_kvm=PUT)
    assert view.proof is not None
    assert view.proof.clean
    assert "✓ Mended." in view.message


def test_what_a_proof_says_below_a_line_is_a_list_below_it():
    told = mended(vfio_device_put_kvm=PUT).verdict.value
    assert "<li>The calls of the report are answered so:<ul><li>EINVAL" in told


def test_only_the_way_out_mended_is_half_a_repair():
    assert "a BIND that fails still takes a VM and writes over" in mended(vfio_device_put_kvm=PUT).message


def test_only_the_taking_mended_is_half_a_repair():
    message = mended(vfio_df_get_kvm_safe=GET).message
    assert "still gives away the VM of the one that succeeded" in message
    assert "A BIND that fails still gives away the VM of the one that succeeded." in message


def test_a_repair_that_never_gives_back_is_none():
    view = mended(vfio_df_get_kvm_safe=GET, vfio_device_put_kvm=TOO_MUCH)
    assert "✕ Not mended." in view.message
    assert "The close of the device gives its VM back by the same function." in view.message


def test_the_repair_is_explained_and_the_last_hint_is_enough():
    view = lesson.mend()
    for _ in range(3):
        view.hint.click()
    assert "if await load(device.open_count) != 0: return" in view.message
    view.solution.click()
    assert "the place belongs to the first BIND" in view.message


# ---- the quiz, and the notebook


# ---- in a browser


def test_in_the_lesson_on_races_a_reader_breaks_it_by_hand_and_half_a_repair_is_told_so(desk):
    hand = desk.cell("from vfiosim.lessons import races as lesson\nlesson.by_hand()")
    moves = hand.locator(".vfiosim-next")
    for says in (
        "load fds A.limit",
        "taken out: acquire vfio_group 1.group_lock",
        "store vfio_group 1.opened_file",
    ):
        press(hand, "1 step")
        expect(moves.first).to_contain_text(says)
    click(buttons(hand, "to the end").last)
    expect(hand.locator(".vfiosim-ended")).to_contain_text("→ 0")
    press(hand, "to the end", "Check")
    expect(hand.locator(".vfiosim-verdict").first).to_contain_text("✓ You have broken it. You switched 2 times")
    expect(hand.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()
    mend = desk.cell("lesson.mend()")
    text = mend.locator("textarea")
    text.fill(
        text.input_value().replace(
            "    async with", "    if await load(df.device.open_count) != 0: return\n    async with"
        )
    )
    press(mend, "Prove")
    expect(mend.locator(".vfiosim-verdict").last).to_contain_text("still gives away the VM of the one")
    for place in (hand, mend):
        becomes(place, PALE)
