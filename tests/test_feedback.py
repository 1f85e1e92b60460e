"""Whoever answers wrongly is told what fits that answer; whoever has not begun is told what to do first, and nothing is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import chain

import pytest

from tests import feedback
from tests.feedback import WrongAnswer, of_drill, of_lessons, problem, questions
from tests.turns import turns
from vfiosim.lab import Bench, ByHand, Exercise, Ordering, Parsons, Prediction, Quiz, RoomView, Session, progress
from vfiosim.lab.parsons import InOrder
from vfiosim.lab.question import CHOICE, NONE, NUMBER, ORDER, TYPED, Misconception, Question, as_distractor
from vfiosim.lab.style import words
from vfiosim.lab.verdict import called, misled, named
from vfiosim.lessons import (
    address_spaces,
    closing,
    groups,
    no_dma,
    one_bind,
    order_of_checks,
    races,
    start,
    unwinding,
    vmm,
    vms,
    who_holds_whom,
)
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons.drills import KINDS
from vfiosim.lessons.drills.calls import scenario
from vfiosim.trace.state import Edit

pytestmark = feedback.TOGETHER

PUZZLES = (
    one_bind.STEPS,
    who_holds_whom.LET_GO,
    order_of_checks.SIX_MISTAKES,
    unwinding.LADDER,
    closing.TEAR_DOWN,
    groups.FALL_BACK,
    vms.LET_IT_BE_TWO,
    no_dma.POSTED,
    address_spaces.TIDY_UP,
    races.USE_AFTER_FREE,
)
TASKS = (
    start.FREE,
    start.KEEP,
    one_bind.EVERY_REFUSAL,
    one_bind.FREE_THE_DEVICE,
    who_holds_whom.LIVE_WITHOUT_A_NUMBER,
    order_of_checks.NINE_REFUSALS,
    order_of_checks.GOOD_STRUCT,
    unwinding.OPEN_GATE,
    closing.CUT_THE_PATHS,
    closing.FIND_THE_LAST,
    groups.IN_THE_WAY,
    groups.SHARED,
    vms.TOO_LATE,
    no_dma.SECOND,
    address_spaces.MOVE,
    address_spaces.PINNED,
    vmm.START,
    vmm.GIVE_BACK,
    vmm.MEND,
)
EACH_TABLE = pytest.mark.parametrize("table", ["lessons", *KINDS])
EACH_PUZZLE = [pytest.param(puzzle, id=puzzle.name) for puzzle in PUZZLES]


def rows_of(table: str) -> tuple[WrongAnswer, ...]:
    return of_lessons() if table == "lessons" else of_drill(table)


# ---- what is said about a wrong answer


@EACH_TABLE
def test_every_wrong_answer_is_told_something(table):
    assert [feedback.told(row) for row in rows_of(table) if not words(row.distractor.text)] == []


def test_only_who_gave_a_certain_order_is_told_that_it_was_that_one():
    named = set()
    for question in (question for question in questions() if question.kind == ORDER):
        right = question.experiment().answer
        for order in feedback.answers(question):
            whole = ", ".join(order)
            said = as_distractor(question.wrong[whole]) if whole in question.wrong else None
            told = question.distractor(order, right)
            assert (told == said) if said else ("You gave" not in told.text), order
            named |= {(question.name, whole)} if said else set()
    assert named == {("04 way back", "group blocked, lock of the set, iommufd, VM, ID")}


def test_no_right_answer_is_told_as_a_wrong_one():
    for question in questions():
        answer = question.experiment().answer
        assert question.kind not in (CHOICE, NUMBER, TYPED) or answer not in question.wrong, question.name


def test_what_is_typed_is_of_the_kind_that_is_asked_for():
    """A count is a number, and no errno; how a call ends is an errno or 0, and no other number."""
    for question in questions():
        if question.kind in (NUMBER, TYPED):
            told = {question.experiment().answer, *question.wrong}
            counts = {answer for answer in told if answer.isdecimal() and (question.kind == NUMBER or answer == "0")}
            assert counts if question.kind == NUMBER else told - counts, question.name
            assert {question.read(answer) for answer in told} == told, question.name
            for other in ("EINVAL", "-22") if question.kind == NUMBER else ("5000",):
                with pytest.raises(ValueError, match="Type"):
                    question.read(other)


def test_an_errno_may_be_typed_by_its_number():
    (asked,) = (question for question in questions() if question.name == "01 which error wins?")
    assert [asked.read(typed) for typed in ("ebusy", "16", "-EBUSY", "-16", "0")] == ["EBUSY"] * 4 + ["0"]


def test_only_where_a_belief_is_told_a_reader_is_asked_what_misled():
    told = {row.distractor for row in of_lessons()}
    asked = {one for one in told if "What misled you?" in misled(one)}
    assert asked == {
        one for one in told if one.misconception or re.match(r"You (?!gave|have|found|remember|left)", one.text)
    }
    assert asked != told


def test_no_two_wrong_choices_of_a_question_are_told_the_same():
    for question in questions():
        told = [row.distractor.text for row in of_lessons() if row.question is question and question.kind == CHOICE]
        assert len(told) == len(set(told)), question.name


SHOWN_BY: dict[Misconception, set[tuple[str, object]]] = {
    M.OPEN_IS_ENOUGH: {("00 unbound", "0"), ("01 another file", "0")},
    M.ONE_NUMBER_ONE_HOLDER: {
        ("01 two cards", "1"),
        ("01 check: a copy", "3"),
        ("02 who is alive?", "-file vfio0#1"),
        ("02 who is alive?", "-vfio_device_file 1"),
        ("02 a mapping", "goes"),
        ("02 check: message", "goes"),
        ("07 check: the last one", "close VM 1"),
        ("05 who is left?", "-file vfio0#1"),
        ("05 who is left?", "-vfio_device_file 1"),
    },
    M.ALL_CHECKS_AT_ONCE: {
        ("01 which error wins?", "EBADF"),
        ("01 check: two wrong fields", "EBADF"),
        ("03 three things wrong", "EINVAL"),
    },
    M.ERRNO_IS_A_CAUSE: {
        ("03 a second open", "EBUSY"),
        ("03 a probe", "EBADF"),
        ("03 check: which one", "another file"),
        ("03 check: which one", "not coherent"),
    },
    M.OWN_DRIVER_IS_ENOUGH: {
        ("03 check: not permitted", "root"),
        ("06 in the way", "+again"),
        ("06 check: the note", "+beside"),
    },
    M.NO_GROUPS_ANY_MORE: {
        ("06 two owners", "0"),
        ("06 give it back", "0"),
        ("06 check: the note", "+own"),
        ("09 siblings", "0"),
    },
    M.SHOWN_IS_THERE: {("06 check: another kernel", "+node")},
    M.BOTH_WAYS_AT_ONCE: {("06 all orders", "-group, bind"), ("06 all orders", "-bind, group")},
    M.CLOSING_IS_RELEASING: {
        ("01 close the iommufd first", "none"),
        ("02 who is alive?", "-file iommu#1"),
        ("02 who is alive?", "-iommufd_ctx 1"),
        ("02 who is alive?", "-iommufd_device 1"),
        ("05 who is left?", "-iommufd_ctx 1"),
        ("05 passed on", "half"),
        ("12 check: no descriptor", "stops"),
    },
    M.SECOND_OPEN_IS_FINE: {("02 a second open", "1 2"), ("03 a second open", "0")},
    M.LOOKING_IS_HOLDING: {("02 weak", "lives")},
    M.LAST_IN_FIRST_OUT: {("02 check: order", "iommufd_ctx 1")},
    M.ONE_CALL_AFTER_THE_OTHER: {("10 a dying VM", "nothing")},
    M.FAILED_IS_UNDONE: {
        ("10 a failed bind", "kept"),
        ("11 check: a refused move", "old"),
        ("11 check: the old token", "0"),
    },
    M.VM_FOLLOWS_THE_LIST: {("07 too late", "VM 1"), ("07 another VM", "VM 2")},
    M.ANY_ORDER_WILL_DO: {("04 tidy", "yes")},
    M.LOCKED_IS_BUSY: {("10 check: a held lock", "EBUSY")},
    M.UNBINDING_CUTS: {("05 unbind", "cut")},
    M.BOUND_BY_A_PROGRAM: {("05 passed on", "ends"), ("11 itself", "free"), ("20 helper", "0")},
    M.VFIO0_IS_MY_CARD: {("05 which card?", "nic")},
    M.NUMBERS_STAY: {("05 check: the number again", "EBADF")},
    M.EACH_ACCESS_LOCKED: {("10 check: a lock for each", "safe")},
    M.TOLD_IS_DONE: {("12 check: which way", "iommufd_ctx 1")},
    M.BOUND_IS_READY: {("09 mapped", "arrives")},
    M.MAP_PINS: {("09 no memory", "map"), ("09 check: the limit", "3")},
    M.ONE_MAP: {("09 munmap", "0")},
}


def test_a_misconception_is_named_only_where_whoever_answers_so_must_have_it():
    found: dict[Misconception, set[tuple[str, object]]] = {}
    for row in of_lessons():
        if row.distractor.misconception:
            found.setdefault(row.distractor.misconception, set()).add((row.question.name, row.key))
    assert found == SHOWN_BY


def test_every_misconception_is_shown_by_some_wrong_answer():
    rows = chain.from_iterable(map(rows_of, ["lessons", *KINDS]))
    assert {row.distractor.misconception for row in rows} - {None} == set(M.ALL)


def test_in_a_drill_two_mistakes_are_told_apart_by_the_order_of_their_checks():
    session, outcome = scenario([], "vfio1")
    made = [micro.text for micro in session.steps.micro]
    assert not outcome.refused

    def place(check: str) -> int:
        text = check if check == "copy_from_user" else f"[{check}]"
        return max(n for n, made_text in enumerate(made) if text in made_text or check == "dma_owner_is_same")

    late = [
        row
        for kind in ("errno", "order")
        for row in of_drill(kind)
        if row.distractor.misconception is M.ALL_CHECKS_AT_ONCE
    ]
    assert len(late) > 12
    for row in late:
        (loser,) = re.findall(r"<code>(\w+)</code>", row.distractor.text)
        (winner,) = re.findall(r"check (\w+) at", row.question.experiment().evidence[0])
        assert place(winner) < place(loser), row


def test_a_second_open_misleads_only_where_there_is_one():
    drilled = [row for kind in ("errno", "order") for row in of_drill(kind)]
    misled = [row for row in drilled if row.distractor.misconception is M.SECOND_OPEN_IS_FINE]
    assert misled
    for row in misled:
        assert row.question.text.count('open("/dev/vfio/devices/') == 2, row
        assert not str(row.wrong).endswith("single_open"), row  # who says that it refuses does not think it fine


# ---- what is shown


def stems(text: str) -> set[str]:
    """The words that carry a meaning, without an s at their end."""
    return {word.rstrip("s") for word in re.findall(r"[\w#]+", text.lower())} - COMMON


COMMON = {
    *[
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "b",
        "be",
        "by",
        "do",
        "doe",
        "did",
        "for",
        "from",
        "ha",
        "in",
        "into",
        "is",
        "it",
    ],
    *[
        "must",
        "no",
        "not",
        "of",
        "on",
        "only",
        "or",
        "so",
        "than",
        "that",
        "the",
        "then",
        "there",
        "this",
        "to",
        "too",
        "wa",
    ],
    *["all", "after", "any", "before", "call", "more", "one", "return", "what", "which", "who", "with"],
}


@EACH_TABLE
def test_the_step_that_is_shown_is_about_what_is_said(table):
    for row in rows_of(table):
        if row.distractor.text == row.question.distractor("no answer at all", "").text:
            continue  # said about any number
        answers = [words(named(row.question, answer)) for answer in (row.wrong, row.right)]
        assert stems(" ".join([words(row.distractor.text), *answers])) & stems(feedback.sentence(row)), row


@pytest.mark.parametrize("seed", feedback.SEEDS)
def test_what_is_said_about_any_number_stands_beside_the_last_change_of_the_count(seed):
    row = next(
        row for row in of_drill("refs") if row.question is problem("refs", seed) and row.wrong == feedback.OTHERWISE
    )
    name = re.findall(r"<code>(file \S+)</code>", row.question.text)[-1]
    assert f"{name}.f_ref" in [change.what for change in row.shown.trace[row.shown.step - 1].changes]


def _changed(trace, step):
    return {change.what for change in trace[step if step < 0 else step - 1].changes}


def test_what_is_asked_changes_in_the_step_that_is_shown_after_any_answer():
    asked = [question for question in questions() if question.about]
    shown = [(question, question.experiment()) for question in asked]
    shown += [(row.question, row.shown) for row in of_lessons() if row.question.about]
    for question, made in shown:
        ever = {change.what for step in made.trace for change in step.changes}
        about = ever & {*question.about}
        assert not about or about & _changed(made.trace, made.step), (question.name, made.step)
        assert about or made is not question.experiment(), f"{question.name}: {question.about} never changes"


def test_a_question_that_names_a_counter_or_a_cell_of_an_object_tells_that_it_is_about_that():
    for question in questions():
        named = re.findall(r"<code>(?:\w+ \d+\.)?(\w*(?:_ref|_cnt|opened_file))</code>.*\?", question.text)
        about = {cell.rpartition(".")[2] for cell in question.about}
        assert {*named} <= about or question.name == "10 check: a lock for each", question.name  # it asks about a lock


@EACH_TABLE
def test_the_player_stands_at_a_step(table):
    for row in rows_of(table):
        assert feedback.sentence(row), row


def test_the_runs_of_the_lessons_are_short():
    """The longest is the end of a VMM: one call, of which the first step tells what happened, the last ones what is freed."""
    lengths = [len(row.shown.trace) for row in of_lessons()]
    assert 0 < min(lengths) <= max(lengths) <= 26


def test_a_step_that_only_asks_changes_nothing_that_stays():
    """What a call takes for itself, while it runs, and its locks do not count."""
    for trace in {id(row.shown.trace): row.shown.trace for row in of_lessons()}.values():
        edits = {micro.index: [edit for edit in micro.edits if lasting(edit)] for micro in trace.micro}
        for step in (step for step in trace if step.sentence.endswith("?")):
            assert not any(edits.get(index) for index in range(step.first, step.last + 1)), step


def lasting(edit: Edit) -> bool:
    if edit.sort == "reference":
        return not edit.key[0].startswith("thread")
    return (
        edit.sort in ("born", "died", "slot", "field")
        and edit.old != edit.new
        and edit.cell not in ("fd", "close_on_exec")
    )


# ---- where a reader stands


@pytest.mark.parametrize("task", turns(TASKS, days=10), ids=lambda task: task.name)
def test_a_hint_counts_what_is_left_of_a_known_way_after_each_of_its_calls(task):
    one = Exercise(task, Bench)
    way, left = task.solved().done, re.compile(r"A known way leads on from here, with (\d+) more calls?\.")
    way = way[one.bench.session.given :]
    one.hint.click()
    assert "Where you stand" not in one.message  # no call is made
    for number, done in enumerate(way, 1):
        one.bench.session.again([done])
        one.bench._refresh(None)
        one._moved_on()
        assert [*map(int, left.findall(one.message))] == ([len(way) - number] if number < len(way) else []), number


def test_a_call_that_leaves_the_known_way_is_named_by_the_hint_and_undo_leads_back():
    one = start.keep_it()
    one.bench.fd.text.value = "3"
    one.bench.buttons["close"].click()
    assert "Where you stand" not in one.message  # nobody has asked
    one.hint.click()
    assert (
        "With close(3) you have left the way that is known here. Undo leads back to it: from there it takes 2"
        in one.message
    )
    one.bench.buttons["Undo"].click()
    assert "Where you stand" not in one.message


# ---- lines in order


def wrong_orders(puzzle: Parsons) -> list[tuple[str, ...]]:
    """Up to some place right, and then a line that is not; or after another line that may come first."""
    right = list(puzzle.lines)
    lines = [*puzzle.lines, *puzzle.extra]
    orders = [(*right[:n], key) for n in range(len(right)) for key in lines if key not in right[:n]]
    first = [key for key in lines if puzzle.judge((key,)).place != 0]
    return [*orders, *((one, other) for one in first for other in lines if one != other)]


@pytest.mark.parametrize("puzzle", turns(EACH_PUZZLE, days=3))
def test_every_line_at_a_first_wrong_place_is_told_why(puzzle):
    told = 0
    for order in wrong_orders(puzzle):
        distractor = puzzle.distractor(order, puzzle.judge(order))
        if distractor is not None:
            told += 1
            assert distractor.text, order
            assert distractor.misconception in (None, M.ALL_CHECKS_AT_ONCE)
    assert told > 4


@pytest.mark.parametrize("puzzle", EACH_PUZZLE)
def test_what_a_hint_says_of_an_order_is_the_order_of_a_run(puzzle):
    assert puzzle.judge([*puzzle.lines]).place is None
    told = [hint.keys for hint in puzzle.hints if isinstance(hint, InOrder)]
    assert told
    for keys in told:
        assert len(keys) > 1
        assert [key for key in puzzle.lines if key in keys] == [*keys]


@pytest.mark.parametrize("puzzle", EACH_PUZZLE)
def test_lines_as_they_are_given_are_never_in_a_right_order(puzzle):
    assert puzzle.judge(Ordering(puzzle).chosen).place is not None


# ---- whoever has not begun

UNTOUCHED: dict[str, tuple[Callable[[], object], str]] = {
    "choice": (lambda: Prediction(named_question("01 another file")), "Choose one of the answers first."),
    "errno": (lambda: Prediction(named_question("01 which error wins?")), "Type a prediction first."),
    "number": (lambda: Prediction(named_question("02 fork")), "Type a prediction first."),
    "order": (
        lambda: Prediction(named_question("02 check: order"), quick=True),
        "Move them first: drag them, or press Up",
    ),
    "set": (lambda: Prediction(named_question("02 who is alive?")), f"tick “{NONE}”"),
    "quiz": (lambda: who_holds_whom.quiz().questions[2], "Move them first: drag them, or press Up"),
    **{
        puzzle.name: (lambda puzzle=puzzle: Ordering(puzzle), "Move them first: drag them, or press Up")  # type: ignore[misc]
        for puzzle in PUZZLES
    },
    "00 free": (start.free_it, "Make a call first: press one of its buttons."),
    "00 keep": (start.keep_it, "Make a call first: press one of its buttons."),
    "01 errors": (one_bind.errors, "Make a call first: press one of its buttons."),
    "01 exercise": (one_bind.exercise, "Make a call first: press one of its buttons."),
    "02 exercise": (who_holds_whom.exercise, "Make a call first: press one of its buttons."),
    "04 exercise": (unwinding.exercise, "Make a call first: press one of its buttons."),
    "04 mend": (unwinding.mend, "Nothing is changed as yet: this is the function with the bug."),
    "05 exercise": (closing.exercise, "Make a call first: press one of its buttons."),
    "05 free it": (closing.free_it, "Make a call first: press one of its buttons."),
    "06 exercise": (groups.exercise, "Make a call first: press one of its buttons."),
    "08 exercise": (no_dma.exercise, "Make a call first: press one of its buttons."),
    "06 share": (groups.share, "Make a call first: press one of its buttons."),
    "07 exercise": (vms.exercise, "Make a call first: press one of its buttons."),
    "09 exercise": (address_spaces.exercise, "Make a call first: press one of its buttons."),
    "09 free it": (address_spaces.free_it, "Make a call first: press one of its buttons."),
    "10 by hand": (races.by_hand, "No call has begun. Let one of them go on first."),
    "10 mend": (races.mend, "Nothing is changed as yet: this is the function with the bug."),
    "12 exercise": (vmm.exercise, "Make a call first: press one of its buttons."),
    "12 free it": (vmm.free_it, "Make a call first: press one of its buttons."),
    "12 mend": (vmm.mend, "Make a call first: press one of its buttons."),
}


def named_question(name: str) -> Question:
    return next(question for question in questions() if question.name == name)


def press(task: object) -> None:
    """Its own button that judges."""
    button = {Prediction: "commit", RoomView: "prove"}.get(type(task), "check")
    getattr(task, button).click()


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_an_untouched_task_says_what_to_do_first_and_counts_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    make, first = UNTOUCHED[kind]
    task = make()
    shown = len(task.children)  # type: ignore[attr-defined]
    press(task)
    assert first in task.message  # type: ignore[attr-defined]
    assert not isinstance(task, Exercise) or task.message == first, "no word of what is missing: it can be the answer"
    assert "✕" not in task.message  # type: ignore[attr-defined]
    assert progress.answers == {}
    assert len(task.children) == shown, "nothing is shown that tells the solution"  # type: ignore[attr-defined]
    if isinstance(task, Exercise | Ordering | ByHand | RoomView):
        assert task.help.solution.disabled
    else:
        assert isinstance(task, Prediction)
        assert task.predicted is None
        assert task.right is None


def test_a_quiz_in_which_nothing_is_answered_has_them_all_to_go():
    quiz = who_holds_whom.quiz()
    assert isinstance(quiz, Quiz)
    for question in quiz.questions:
        question.commit.click()
    assert quiz.message == "0 of 3 right, 3 to go."


def test_whoever_takes_everything_back_has_not_begun():
    exercise = start.free_it()
    exercise.bench.fd.text.value = "4"
    exercise.bench.buttons["close"].click()
    exercise.bench.undo.click()
    exercise.check.click()
    assert "Make a call first" in exercise.message


# ---- tasks


def begun(task: object, *calls: Callable[[Session], object]) -> Session:
    session: Session = task.begun()  # type: ignore[attr-defined]
    for call in calls:
        call(session)
    return session


def slip_of(task: object, session: Session) -> str:
    return next((as_distractor(distractor).text for fits, distractor in task.distractors.items() if fits(session)), "")  # type: ignore[attr-defined]


def test_who_binds_when_only_that_is_missing_has_not_bound_too_early():
    task = one_bind.EVERY_REFUSAL
    session = begun(task, one_bind.meet_them)
    session.undo()
    assert len(task.missing(session)) == 1
    assert slip_of(task, session) == ""
    assert "bound now" in slip_of(task, begun(task, lambda session: session.bind(3, argsz=24, iommufd=4)))


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_who_has_made_no_mistake_is_told_of_none(task):
    assert slip_of(task, task.begun()) == ""
    assert slip_of(task, task.solved()) == ""
    assert json.dumps(task.missing(task.solved())) == "[]"


# ---- misconceptions


def test_a_discussion_is_called_by_its_project_and_number():
    said = words(called(M.OWN_DRIVER_IS_ENOUGH))
    assert "Seen in kubevirt (issue 6718) , incus (issue 3422)" in said
