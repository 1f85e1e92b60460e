"""Questions, quizzes, orders and tasks, pressed as a reader presses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vfiosim import Machine
from vfiosim.lab import (
    Bench,
    Distractor,
    Exercise,
    ExperimentResult,
    Goal,
    Ordering,
    Outcome,
    Parsons,
    Prediction,
    Question,
    Quiz,
    Session,
    Task,
    errnos,
    goal,
)
from vfiosim.lab.parsons import by_running, by_trace
from vfiosim.lab.question import differences, shuffled
from vfiosim.lab.trace_pane import TracePane
from vfiosim.lessons import misconceptions as M

NODE = "/dev/vfio/devices/vfio0"


def opening() -> ExperimentResult:
    machine = Machine()
    machine.process("vmm").open(NODE)
    return ExperimentResult(("a", "b", "c"), machine.trace[-4:], 1)


def put_in_order(**more: object) -> Question:
    lines = {"a": "the first", "b": "the second", "c": "the third"}
    return Question("Which order?", opening, "it is so.", lines, kind="order", **more)  # type: ignore[arg-type]


def which(right: tuple[str, ...] = ("file vfio0#1",), **more: object) -> Question:
    def experiment() -> ExperimentResult:
        return ExperimentResult(right, opening().trace, 1)

    things = {"fds vmm": "the table", "file vfio0#1": "the file"}
    return Question("Which live?", experiment, "it is so.", things, kind="set", before=opening, **more)  # type: ignore[arg-type]


def player_of(prediction: Prediction) -> Any:
    """The player of the picture in which a reader may click."""
    assert prediction.now is not None
    return prediction.now.player


def goal_of(made: Exercise) -> str:
    assert made.goal is not None
    return str(made.goal.children[1].value)


def stages(widget: Prediction | Ordering) -> list[TracePane]:
    return [child for child in widget.children if isinstance(child, TracePane)]


def answered(question: Question, value: object) -> Prediction:
    prediction = Prediction(question)
    prediction.choice.value = value
    prediction.commit.click()
    prediction.reveal.click()
    return prediction


# ---- questions as data


def test_a_question_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="choice, number, typed, order, set, not 'essay'"):
        Question("?", opening, "so.", kind="essay")


@pytest.mark.parametrize(("kind", "choices"), [("number", {"1": "one"}), ("order", {})])
def test_choices_are_given_where_the_kind_needs_them_and_only_there(kind, choices):
    with pytest.raises(ValueError, match="choices"):
        Question("?", opening, "so.", choices, kind=kind)


def test_what_is_shuffled_is_the_same_for_the_same_seed_and_never_in_order():
    keys = list("abc")
    mixed = [shuffled(keys, seed) for seed in range(40)]
    assert mixed == [shuffled(keys, seed) for seed in range(40)]
    assert keys not in mixed
    assert len({tuple(one) for one in mixed}) == 5


@pytest.mark.parametrize(
    ("answer", "right", "kind", "key"),
    [
        ("1", "2", "number", "1"),
        (("a", "c", "b"), ("a", "b", "c"), "order", "c"),
        (("a", "b"), ("a",), "set", "+b"),
        (("a", "c"), ("a", "b"), "set", "+c -b"),
    ],
)
def test_a_wrong_answer_has_the_key_of_its_first_difference_and_a_set_one_for_each(answer, right, kind, key):
    assert differences(answer, right, kind) == key.split()


def test_choices_among_errnos_say_what_each_means():
    assert errnos("EBUSY", "0") == {"EBUSY": "EBUSY: somebody is using it", "0": "0: it succeeds"}


# ---- numbers


def test_a_number_is_asked_for_and_an_errno_is_none():
    question = Question(
        "How many?", lambda: ExperimentResult("2", opening().trace), "so.", kind="number", otherwise="no"
    )
    prediction = Prediction(question)
    for typed in ("EBUSY", "two", "-1", "2.0", "9" * 50):
        prediction.choice.value = typed
        prediction.commit.click()
        assert prediction.message == "Type a whole number in digits."
        assert prediction.reveal.disabled
    assert "✓ You predicted 2" in answered(question, " 02 ").message


# ---- orders


def test_lines_come_shuffled_and_move_up_and_down():
    control = Prediction(put_in_order()).choice
    given = control.value
    assert sorted(given) == ["a", "b", "c"]
    assert given != ("a", "b", "c")
    control.up[1].click()
    assert control.value == (given[1], given[0], given[2])
    control.down[0].click()
    assert control.value == given


def test_a_line_at_the_end_of_the_list_stays_and_says_so():
    control = Prediction(put_in_order()).choice
    given = control.value
    control.up[0].click()
    assert "is first already" in control.said.value
    control.down[2].click()
    assert "is last already" in control.said.value
    assert control.value == given


def test_each_button_of_a_line_says_which_line_it_moves():
    control = Prediction(put_in_order()).choice
    lines = {"a": "the first", "b": "the second", "c": "the third"}
    for place, key in enumerate(control.value):
        assert control.up[place].tooltip == f"Move number {place + 1} up: {lines[key]}"


def test_a_wrong_order_stands_beside_the_right_one_with_the_first_wrong_place():
    distractors = {"c": Distractor("The third is not the second.", M.LAST_IN_FIRST_OUT)}
    message = answered(put_in_order(wrong=distractors), ("a", "c", "b")).message
    assert "The first wrong place is number 2" in message
    assert "2. the third" in message
    assert "2. the second" in message
    assert "The third is not the second." in message
    assert M.LAST_IN_FIRST_OUT.name in message


def test_a_right_order_is_praised_and_a_reset_gives_the_lines_as_at_first():
    prediction = Prediction(put_in_order())
    given = prediction.choice.value
    prediction.choice.value = ("a", "b", "c")
    prediction.commit.click()
    assert all(button.disabled for button in prediction.choice.up)
    prediction.reveal.click()
    assert "All of it is right." in prediction.message
    prediction.again.click()
    assert prediction.choice.value == given
    assert not any(button.disabled for button in prediction.choice.up)


# ---- sets


def test_what_is_clicked_in_the_picture_is_ticked_and_the_other_way_round():
    prediction = Prediction(which())
    player = player_of(prediction)
    assert player.selecting
    player.picked = ["file vfio0#1"]
    assert prediction.choice.value == ("file vfio0#1",)
    assert prediction.choice.boxes["file vfio0#1"].value
    prediction.choice.boxes["fds vmm"].value = True
    assert list(player.picked) == ["fds vmm", "file vfio0#1"]


def test_what_is_no_choice_cannot_be_picked():
    prediction = Prediction(which())
    player_of(prediction).picked = ["cdev iommu"]
    assert prediction.choice.value == ()
    assert list(player_of(prediction).picked) == []


def test_a_click_on_a_box_ticks_all_that_is_in_it_and_a_second_one_none():
    halves = ("file vfio0#1", "vfio_device_file 1")
    question = Question("Which?", opening, "so.", {name: name for name in halves}, kind="set", before=opening)
    prediction = Prediction(question)
    player_of(prediction).picked = ["file vfio0#1"]
    assert prediction.choice.value == halves
    assert list(player_of(prediction).picked) == [*halves]
    player_of(prediction).picked = ["vfio_device_file 1"]
    assert prediction.choice.value == ()


def test_one_half_of_a_box_is_ticked_by_its_own_name_and_by_the_list():
    halves = ("file vfio0#1", "vfio_device_file 1")
    question = Question("Which?", opening, "so.", {name: name for name in halves}, kind="set", before=opening)
    prediction = Prediction(question)
    player_of(prediction).picked = ["vfio_device_file 1"]
    assert prediction.choice.value == ("vfio_device_file 1",)
    prediction.choice.boxes["vfio_device_file 1"].value = False
    prediction.choice.boxes["file vfio0#1"].value = True
    assert prediction.choice.value == ("file vfio0#1",)


def test_after_the_commit_clicks_change_nothing():
    prediction = Prediction(which())
    prediction.choice.boxes["fds vmm"].value = True
    prediction.commit.click()
    player_of(prediction).picked = ["fds vmm", "file vfio0#1"]
    assert prediction.predicted == ("fds vmm",)
    assert list(player_of(prediction).picked) == ["fds vmm"]


def test_a_set_is_judged_thing_by_thing():
    wrong = {"+fds vmm": "The table is none."}
    message = answered(which(wrong=wrong), ("fds vmm",)).message
    assert "2 of 2 are wrong." in message
    assert "The table is none." in message


def test_none_of_them_is_an_answer_too_and_is_ticked():
    prediction = Prediction(which(()))
    prediction.choice.none.value = True
    prediction.commit.click()
    assert prediction.predicted == ()
    prediction.reveal.click()
    assert prediction.right is True


def test_none_of_them_and_some_of_them_exclude_each_other():
    control = Prediction(which()).choice
    control.boxes["fds vmm"].value = True
    control.none.value = True
    assert control.value == ()
    assert not control.boxes["fds vmm"].value
    control.boxes["file vfio0#1"].value = True
    assert control.value == ("file vfio0#1",)
    assert not control.none.value


def test_the_order_of_ticking_makes_no_difference():
    assert answered(which(("fds vmm", "file vfio0#1")), ("file vfio0#1", "fds vmm")).right is True


# ---- wrong answers


def test_another_run_is_shown_where_it_refutes_better():
    other = opening().trace[1:]
    distractor = Distractor("no", M.OPEN_IS_ENOUGH, lambda: ExperimentResult("", other, 1))
    question = Question(
        "?", lambda: ExperimentResult("yes", opening().trace), "so.", {"yes": "y", "no": "n"}, {"no": distractor}
    )
    assert stages(answered(question, "no"))[0].trace == other
    assert stages(answered(question, "yes"))[0].trace != other


def test_the_player_stands_at_the_step_that_refutes_the_answer():
    distractor = Distractor("no", at="The call returns 3")
    question = Question(
        "?", lambda: ExperimentResult("yes", opening().trace, 1), "so.", {"yes": "y", "no": "n"}, {"no": distractor}
    )
    assert stages(answered(question, "no"))[0].step == 4
    assert stages(answered(question, "yes"))[0].step == 1
    with pytest.raises(ValueError, match="no step of this run says 'flies'"):
        Distractor("no", at="flies").shown(opening())


def test_a_misconception_is_named_once_and_its_discussions_are_linked():
    distractor = Distractor("no", M.CLOSING_IS_RELEASING)
    question = Question(
        "?", lambda: ExperimentResult("yes", opening().trace), "so.", {"yes": "y", "no": "n"}, {"no": distractor}
    )
    html = answered(question, "no").static_html()
    assert f'href="{M.CLOSING_IS_RELEASING.links[0]}"' in html
    assert html.count(M.CLOSING_IS_RELEASING.name) == 1


def test_misconceptions_have_names_of_their_own_and_public_discussions():
    assert len(M.ALL) >= 25
    assert len({one.name for one in M.ALL}) == len(M.ALL)
    assert all(link.startswith("https://") for one in M.ALL for link in one.links)


def test_text_with_tags_stays_text():
    nasty = "<script>alert(1)</script>"
    question = Question("?", lambda: ExperimentResult("yes", Session().steps, 0), "so.", {"yes": nasty, "no": "n"})
    prediction = answered(question, "yes")
    assert "<script>alert" not in prediction.verdict.value
    assert "<script>alert" not in prediction.static_html().partition("vfiosim-player")[0]


# ---- hints


def test_hints_go_deeper_with_each_press_and_none_goes_away():
    prediction = Prediction(put_in_order(hints=("north", "north-east", "there")))
    button, slot = prediction.help.hint, prediction.help.slot
    for depth, name in ((1, "Deeper hint"), (2, "Deeper hint"), (3, "No more hints"), (3, "No more hints")):
        button.click()
        assert slot.value.count("<p>") == depth
        assert button.description == name


def test_a_question_without_hints_has_no_button_for_them():
    assert Prediction(put_in_order()).help.buttons == []


# ---- a quiz


def quiz() -> Quiz:
    choices = {"yes": "it is", "no": "it is not"}
    question = Question(
        "Is it?", lambda: ExperimentResult("yes", opening().trace), "so.", choices, {"no": Distractor("But it is.")}
    )
    return Quiz([question, put_in_order()])


def test_a_quiz_counts_right_answers_and_says_what_misled():
    made = quiz()
    assert made.message == "0 of 2 right, 2 to go."
    first, second = made.questions
    first.commit.click()
    assert "Choose one of the answers first." in first.message
    first.choice.value = "no"
    first.commit.click()
    assert "But it is." in first.message
    assert stages(first)
    second.choice.value = ("a", "b", "c")
    second.commit.click()
    assert not stages(second)
    assert made.message == "1 of 2 right."
    made.again.click()
    assert made.message == "0 of 2 right, 2 to go."
    assert first.choice.value is None


def test_a_quiz_needs_a_question():
    with pytest.raises(ValueError, match="at least one question"):
        Quiz([])


def test_a_quiz_leaves_its_questions_behind_but_no_answers():
    bundle = quiz()._repr_mimebundle_()
    assert bundle["text/plain"].count("Question") == 2
    assert "The simulator says" not in bundle["text/html"]


# ---- lines in order


def opened(session: Session) -> None:
    session.open(NODE)
    session.open("/dev/iommu")


CALLS: dict[str, object] = {
    "bind": lambda session: session.bind(3, iommufd=4),
    "info": lambda session: session.get_info(3),
    "close": lambda session: session.close(3),
}


def bound_and_asked(session: Session) -> list[str]:
    done = [done.outcome for done in session.done]
    asked = any("GET_INFO" in outcome.call and not outcome.refused for outcome in done)
    return [] if asked else ["nobody has asked"]


def ordering(**more: object) -> Ordering:
    lines = {"bind": "bind(3, 4)", "info": "get_info(3)"}
    judge = by_running(opened, CALLS, bound_and_asked)  # type: ignore[arg-type]
    return Ordering(Parsons("Ask it.", lines, judge, "so.", extra={"close": "close(3)"}, **more))  # type: ignore[arg-type]


def check(puzzle: Ordering, *keys: str) -> str:
    rest = [key for key in puzzle.order.value if key not in keys and key != "border"]
    puzzle.order.value = (*keys, "border", *rest)
    puzzle.check.click()
    return puzzle.message


def test_the_lines_in_their_order_are_right_when_run():
    message = check(ordering(), "bind", "info")
    assert "✓ Right." in message


def test_the_first_refused_call_is_the_first_wrong_place_and_the_kernel_says_why():
    puzzle = ordering(distractors={"info": Distractor("", M.OPEN_IS_ENOUGH)})
    message = check(puzzle, "info", "bind")
    assert "The first wrong place is number 1: “get_info(3)”." in message
    assert "The kernel says EINVAL" in message
    assert M.OPEN_IS_ENOUGH.name in message
    (stage,) = stages(puzzle)
    assert stage.trace[stage.step - 1].refused == "EINVAL"


def test_an_order_that_runs_but_gets_nowhere_is_told_what_is_missing():
    assert "nobody has asked" in check(ordering(), "bind")


def test_no_lines_at_all_are_no_answer():
    assert "There is no line to run" in check(ordering())


def test_a_verdict_goes_when_a_line_is_moved_and_reset_gives_the_lines_back():
    puzzle = ordering()
    given = puzzle.order.value
    check(puzzle, "info", "bind")
    puzzle.order.down[0].click()
    assert puzzle.message == ""
    assert stages(puzzle) == []
    puzzle.again.click()
    assert puzzle.order.value == given


def test_the_solution_is_shown_on_demand_and_says_why():
    puzzle = ordering()
    puzzle.help.solution.click()
    assert "bind(3, 4) get_info(3) Because so." in puzzle.message
    puzzle.help.solution.click()
    assert puzzle.message == ""


def bind_steps() -> ExperimentResult:
    session = Session(start=opened)
    session.bind(3, iommufd=4)
    return ExperimentResult("", session.steps)


def test_steps_are_judged_by_the_order_of_a_run():
    steps = bind_steps().trace
    marks = {str(n): steps[n].sentence for n in (2, 5, 9)}
    judge = by_trace(bind_steps, marks)
    assert judge(["2", "5", "9"]).place is None
    wrong = judge(["2", "9", "5"])
    assert (wrong.place, wrong.step) == (1, len(wrong.trace)) == (1, 5)
    assert judge(["2", "5"]).place == 2
    assert judge(["2", "no step"]).place == 1


def test_a_mark_that_fits_no_step_is_named():
    with pytest.raises(ValueError, match="no step of this run says 'flies away'"):
        by_trace(bind_steps, {"x": "flies away"})(["x"])


# ---- goals

TASK = Task(
    "Hold it twice.",
    opened,
    Goal(
        goal.value("file vfio0#1", "f_ref", 2),
        goal.holds("fds vmm", "file vfio0#1"),
        goal.descriptor("iommu*", "an iommufd", is_open=False),
        goal.gone("iommufd_ctx *"),
        goal.alive("vfio_device vfio0"),
    ),
    ("look", "look again"),
    lambda session: (session.dup(3), session.close(4)),
    "a dup is a holder.",
    distractors={
        (lambda session: "file vfio0#2" in session.machine.trace.end.objects): Distractor("no", M.SECOND_OPEN_IS_FINE),
    },
)


def exercise() -> Exercise:
    return Exercise(TASK, lambda session: Bench(session, show=("open", "descriptor")))


def dup_and_close(made: Exercise) -> None:
    bench = made.bench
    bench.fd.text.value = "3"
    bench.buttons["dup"].click()
    bench.fd.text.value = "4"
    bench.buttons["close"].click()


def test_a_shorter_way_than_the_known_one_is_what_the_next_one_is_compared_with():
    known = replace(TASK, solve=lambda session: (session.dup(3), session.dup(3), session.close(6), session.close(4)))
    made = Exercise(known, lambda session: Bench(session, show=("open", "descriptor")))
    assert "the shortest known way has 4 calls" in made.moves.value
    dup_and_close(made)
    made.check.click()
    assert "You needed 2 calls; it takes no fewer." in made.message
    made.again.click()
    known.solve(made.bench.session)
    made.check.click()
    assert "You needed 4 calls. It can be done with 2." in made.message


def test_the_facts_that_differ_are_listed_first_one_first():
    made = exercise()
    made.bench.buttons["open device"].click()
    made.check.click()
    assert (
        "Not yet. wanted: f_ref of file vfio0#1 is 2; now: it is 1 wanted: no descriptor leads to an iommufd; now: there is one"
        in made.message
    )
    assert "<b>wanted: f_ref of file vfio0#1 is 2" in made.verdict.value
    assert "✓ Already right, keep it so: " in made.message
    assert "; vfio_device vfio0 is alive." in made.message


def test_each_fact_says_what_is_the_case_instead():
    state = Session(start=opened).machine.trace.end
    told = {fact.said: instead for fact, instead in TASK.missing.differing(state)}  # type: ignore[attr-defined]
    assert told["iommufd_ctx * is gone"] == "iommufd_ctx 1 is alive"
    assert goal.alive("kvm 1").instead(state) == "it is gone"
    assert goal.gone("file vfio0#1").instead(state) == "it is alive, and something still holds it"
    assert goal.opened_once("vfio0").instead(state) == ""
    assert goal.holds("kvm_vfio *", "file vfio0#1").instead(state) == "it is held by fds vmm"
    assert goal.value("kvm 1", "users_count", 1).instead(state) == "there is no kvm 1"


def test_what_no_fact_names_may_be_as_it_likes():
    made = exercise()
    dup_and_close(made)
    made.bench.buttons["open device"].click()
    assert made.solved


def test_moves_are_counted_beside_the_shortest_known_way():
    made = exercise()
    assert made.moves.value == "No call yet; the shortest known way has 2 calls."
    dup_and_close(made)
    assert made.moves.value == "2 calls; the shortest known way has 2 calls."
    made.check.click()
    assert "it takes no fewer" in made.message


def test_a_wrong_turn_that_many_take_is_called_by_its_name():
    made = exercise()
    made.bench.buttons["open device"].click()
    made.check.click()
    assert M.SECOND_OPEN_IS_FINE.name in made.message


def test_start_over_gives_the_machine_of_the_start_and_hides_help():
    made = exercise()
    dup_and_close(made)
    made.hint.click()
    made.again.click()
    assert made.moves.value.startswith("No call yet")
    assert made.message == ""
    assert not made.solved


def test_the_goal_is_drawn_beside_the_bench_and_left_behind_in_a_page():
    made = exercise()
    assert "<svg" in goal_of(made)
    assert 'data-oid="file vfio0#1"' in goal_of(made)
    bundle = made._repr_mimebundle_()
    assert "Only this counts" in bundle["text/html"]
    assert "  - f_ref of file vfio0#1 is 2" in bundle["text/plain"]


def test_an_outcome_is_what_the_simulator_says_not_what_somebody_typed():
    calls = {"bind": lambda session: Outcome("bind", "0")}
    judged = by_running(opened, calls, bound_and_asked)(["bind"])
    assert judged.place == 1
