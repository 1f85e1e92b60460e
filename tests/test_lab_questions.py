"""The questions and the task of the lab, what is left where something is missing, and that everybody can use it."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape

import pytest

from tests.benches import opened, press
from vfiosim.lab import Bench, Exercise, ExperimentResult, Prediction, Question, Session
from vfiosim.lab.alive import Alive, candidates, describe
from vfiosim.lab.trace_pane import NO_PLAYER, TracePane
from vfiosim.lessons import one_bind, start, who_holds_whom
from vfiosim.lessons.lesson import lessons
from vfiosim.lessons.one_bind import bound_for_a_vm
from vfiosim.lessons.one_bind_questions import QUESTIONS
from vfiosim.why import why

# ---- why is it alive?


def why_of(bench: Bench) -> Alive:
    """The part of a bench that asks who keeps something alive."""
    _, right = bench.children[-1].children
    return next(part for part in right.children if isinstance(part, Alive))


def test_why_names_every_direct_holder_once():
    bench = who_holds_whom.holders()
    alive = why_of(bench)
    alive.choice.value = "file iommu#1"
    alive.ask.click()
    lines = re.findall(r"<li>(.*?)</li>", alive.answer.value)
    assert "kept alive by 3 references (f_ref)" in alive.answer.value
    ends = [line.partition(" holds file iommu#1")[0].removesuffix(", which").rpartition("s ")[2] for line in lines]
    assert ends == [
        "descriptor 4 of vmm",
        "vfio_device_file 1",
        "iommufd_device 1 (bound)",
    ]


def test_behind_each_shortest_way_the_longer_ones_open_so_that_every_path_can_be_read():
    bench = who_holds_whom.holders()
    alive = why_of(bench)
    alive.choice.value = "iommufd_ctx 1"
    alive.ask.click()
    paths = why(bench.session.machine, "iommufd_ctx 1").paths
    opened = "".join(re.findall(r"<details><summary>and \d longer paths?</summary>(.*?)</details>", alive.answer.value))
    assert 0 < opened.count("<p>") == len(paths) - 3
    assert all(path.words in unescape(alive.answer.value) for path in paths)


def test_the_references_that_are_told_are_as_many_as_each_counter_of_the_picture_has():
    session = Session(start=bound_for_a_vm)
    state, asked = session.machine.trace.end, 0
    for oid in candidates(state):
        counts = {name: state.objects[oid].total(name) for name in state.objects[oid].counts}
        ((head, *_), *_), _ = describe(why(state, oid))
        told = re.fullmatch(rf"{oid} is kept alive by (\d+) references? \((.*)\):", head)
        if told is not None:
            asked += 1
            assert int(told[1]) == sum(counts.values()), head
            several = {name: int(n) for n, name in re.findall(r"(\d+) in (\w+)", told[2])}
            assert (several or {told[2]: int(told[1])}) == {name: n for name, n in counts.items() if n}, head
    assert asked >= 6


def test_each_counter_that_is_told_has_a_row_in_the_picture_or_is_said_to_have_none():
    bench, hidden = Bench(Session(start=bound_for_a_vm)), 0
    pane = bench.trace_pane
    assert len(pane.counters) > 12
    for oid in pane.counters:
        answer = why(bench.session.machine, oid)
        if answer.paths:
            ((head, *_), *_), _ = describe(answer, pane.counters)
            told = re.findall(r"(?:lives as long as (.*), which )?is kept alive by \d+ references? \((.*)\):$", head)
            ((owner, counted),) = told
            target, (drawn, _, aside) = owner or oid, counted.partition("not drawn here: ")
            names = [{*re.findall(r"[a-z_]+(?=[,;]|$)", some)} for some in (drawn, aside)]
            assert names[0] <= pane.counters[target], head
            assert not names[1] & pane.counters[target], head
            hidden += bool(aside)
    assert hidden >= 2
    assert describe(why(bench.session.machine, "vfio_device vfio0"), pane.counters)[0][0].said == (
        "vfio_device vfio0 is kept alive by 4 references (2 in refcount; not drawn here: 2 in kref):"
    )


def test_what_is_owned_has_the_holders_of_its_owner_and_all_are_brought_out():
    bench = who_holds_whom.holders()
    alive = why_of(bench)
    alive.choice.value = "iommufd_ctx 1"
    alive.ask.click()
    assert (
        "iommufd_ctx 1 lives as long as file iommu#1, which is kept alive by 3 references (f_ref):"
        in alive.answer.value
    )
    assert len(re.findall("<li>", alive.answer.value)) == 3
    assert {"fds vmm", "vfio_device_file 1", "iommufd_device 1"} < {*bench.trace_pane.player.highlight}


def test_why_follows_the_bench():
    bench = who_holds_whom.holders()
    alive = why_of(bench)
    alive.choice.value = "vfio_device_file 1"
    alive.ask.click()
    press(bench, "close")
    assert alive.answer.value == ""
    bench.fd.text.value = "4"
    press(bench, "close")
    assert "vfio_device_file 1" not in dict(alive.choice.options).values()


def test_why_answers_for_the_step_that_is_shown():
    bench = who_holds_whom.holders()
    alive = why_of(bench)
    press(bench, "close")
    bench.trace_pane.player.step = 2
    alive.choice.value = "vfio_device_file 1"
    alive.ask.click()
    steps = len(bench.session.steps)
    assert f"After step 2 of {steps}:</b> Nothing keeps vfio_device_file 1 alive." in alive.answer.value
    bench.trace_pane.player.step = 0
    assert (
        "Before step 1:</b> vfio_device_file 1 lives as long as file vfio0#1, which is kept alive by 1 reference (f_ref)"
        in alive.answer.value
    )
    bench.trace_pane.player.step = steps
    assert f"After step {steps} of {steps}:</b> vfio_device_file 1 is not alive." in alive.answer.value


def test_why_answers_for_now_before_the_first_call():
    alive = why_of(who_holds_whom.holders())
    alive.ask.click()
    assert "<b>Now:</b>" in alive.answer.value


def test_in_the_picture_of_the_lesson_with_a_vm_the_list_has_its_holder():
    for bench in (one_bind.kvm(), one_bind.exercise().bench):
        press(bench, *(["create VM", "create kvm-vfio"] if "bind" in bench.buttons else ["GET_INFO"]))
        svg = bench.trace_pane.player.data["svg"].replace("'", '"')
        assert re.search(r">kvm_device<", svg)
        assert re.search(r">kvm_vfio<", svg)


# ---- predictions


def answer(prediction: Prediction, value: str) -> str:
    prediction.choice.value = value
    prediction.commit.click()
    prediction.reveal.click()
    return prediction.message


def test_nothing_is_revealed_before_a_prediction_is_committed():
    prediction = one_bind.predict("close the iommufd first")
    prediction.reveal.click()  # as a press that was on its way
    prediction.commit.click()
    assert "Choose one of the answers first." in prediction.message
    assert not any(isinstance(child, TracePane) for child in prediction.children)
    prediction.choice.value = "busy"
    prediction.commit.click()
    assert prediction.choice.disabled
    assert any(isinstance(child, TracePane) for child in prediction.children)


def test_every_question_of_every_lesson_has_one_button_to_answer_and_none_to_reveal():
    for lesson in lessons():
        asked = [lesson.predict(name) for name in lesson.questions]
        for prediction in [start.predict("unbound"), *asked, *(lesson.quiz().questions if lesson.check else ())]:
            names = [
                one.description
                for part in prediction.children
                for one in getattr(part, "children", ())
                if hasattr(one, "description")
            ]
            assert "Answer" in names
            assert "Reveal" not in names


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_right_answer_is_the_one_that_the_simulator_gives(name):
    right = QUESTIONS[name].experiment().answer
    message = answer(one_bind.predict(name), right)
    assert "✓ You predicted" in message
    assert "What misled you?" not in message


@pytest.mark.parametrize(("name", "wrong"), [(name, next(iter(q.wrong))) for name, q in QUESTIONS.items()])
def test_a_wrong_answer_stays_beside_the_truth_with_the_belief_and_the_steps_that_refute_it(name, wrong):
    prediction = one_bind.predict(name)
    message = answer(prediction, wrong)
    question = QUESTIONS[name]
    said = question.choices.get(wrong, wrong)
    truth = question.experiment().answer
    assert re.search(rf"✕ You predicted {re.escape(said)}", message)
    assert question.choices.get(truth, truth) in message
    assert "What misled you?" in message
    stage = prediction.stage
    assert isinstance(stage, TracePane)
    assert 0 < len(stage.trace) <= 20


def test_a_typed_prediction_must_be_a_number_or_an_errno():
    prediction = one_bind.predict("which error wins?")
    for typed, message in (("", "Type a prediction first."), ("EWHAT", "There is no errno EWHAT.")):
        prediction.choice.value = typed
        prediction.commit.click()
        assert message in prediction.message
        assert prediction.reveal.disabled
    assert "✓" in answer(prediction, " ebusy ")


def test_a_typed_answer_that_nobody_expected_is_answered_too():
    assert "and the device object that BIND makes." in answer(one_bind.predict("two cards"), "17")


def test_a_prediction_can_be_made_anew():
    prediction = one_bind.predict("a device without DMA")
    answer(prediction, "zero")
    prediction.again.click()
    assert (prediction.message.strip(), prediction.choice.value, prediction.reveal.disabled) == ("", None, True)
    assert not any(isinstance(child, TracePane) for child in prediction.children)
    assert "✓" in answer(prediction, "positive")


def test_a_question_is_asked_of_the_simulator_only_when_it_is_answered():
    asked = []

    def experiment() -> ExperimentResult:
        asked.append(1)
        return ExperimentResult("0", Session().steps, 0)

    prediction = Prediction(Question("Zero?", experiment, "it is so.", otherwise="no"))
    prediction.choice.value = "0"
    assert asked == []
    prediction.commit.click()
    assert asked == [1]


def test_a_question_that_the_lesson_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'why'; there are another file"):
        one_bind.predict("why")


# ---- the task


@pytest.fixture
def exercise() -> Exercise:
    return one_bind.exercise()


def close(bench: Bench, fd: int) -> None:
    bench.fd.text.value = str(fd)
    press(bench, "close")


def test_a_call_that_changes_nothing_does_not_solve_the_task_and_check_does_not_name_who_still_holds(exercise):
    exercise.bench.fd.text.value = "3"
    press(exercise.bench, "GET_INFO")
    exercise.check.click()
    assert not exercise.solved
    assert "something still holds it" in exercise.message
    assert "kvm_vfio" not in exercise.message


def test_the_tasks_own_solution_solves_it(exercise):
    one_bind.free_it(exercise.bench.session)
    exercise.check.click()
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in exercise.message


def test_who_has_solved_it_is_told_why_it_works(exercise):
    one_bind.free_it(exercise.bench.session)
    exercise.check.click()
    assert "Why it works. The file is held three times" in exercise.message
    assert "You had opened the solution" not in exercise.message


def test_who_has_solved_it_with_the_solution_open_is_told_to_do_it_without(exercise):
    exercise.check.click()
    close(exercise.bench, 3)
    exercise.check.click()
    exercise.solution.click()
    exercise.solution.click()
    for fd in (5, 6):
        close(exercise.bench, fd)
    exercise.check.click()
    assert (
        "You had opened the solution, so this does not count yet. Press Reset and do it once more without."
        in exercise.message
    )


def test_closing_the_descriptors_only_leaves_the_list_as_holder(exercise):
    close(exercise.bench, 3)
    close(exercise.bench, 5)
    exercise.check.click()
    assert "something still holds it" in exercise.message
    assert "open_count of vfio_device vfio0 is 0; now: it is 1" in exercise.message


def test_closing_the_kvm_vfio_descriptor_is_a_second_way(exercise):
    for fd in (3, 5, 6):
        close(exercise.bench, fd)
    assert exercise.solved


def test_closing_everything_is_no_solution(exercise):
    for fd in (3, 4, 5, 6, 7):
        close(exercise.bench, fd)
    exercise.check.click()
    assert "wanted: a descriptor leads to the VM; now: there is none" in exercise.message
    assert "wanted: a descriptor leads to the iommufd; now: there is none" in exercise.message


def test_a_verdict_does_not_outlive_the_next_call(exercise):
    close(exercise.bench, 3)
    exercise.check.click()
    assert "Not yet" in exercise.message
    close(exercise.bench, 5)
    assert "Not yet" not in exercise.message


def test_the_way_that_is_longer_is_told_of_the_shorter_one(exercise):
    press(exercise.bench, "dup")
    for fd in (3, 5, 8, 6):
        close(exercise.bench, fd)
    exercise.check.click()
    assert "You needed 5 calls. It can be done with 3." in exercise.message


def test_a_solution_comes_and_goes_below_the_hints_that_stay_until_the_task_is_solved(exercise):
    exercise.hint.click()
    hint = exercise.message
    assert "Hint 1 of 3." in hint
    exercise.solution.click()
    assert "Hint 1 of 3." in exercise.message
    assert "KVM_DEV_VFIO_FILE_DEL" in exercise.message
    exercise.solution.click()
    assert exercise.message == hint
    exercise.help.solved()
    assert exercise.message.strip() == ""


# ---- where something is missing


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_anywidget_the_bench_shows_the_steps_as_text_and_one_clear_line():
    text = run(
        "import sys; sys.modules['anywidget'] = None\n"
        "from vfiosim.lab import Bench\n"
        "b = Bench(); b.buttons['open device'].click(); print(b.trace_pane.children[0].value)"
    )
    assert text.count(NO_PLAYER) == 1
    assert "vmm calls open(/dev/vfio/devices/vfio0)." in text


def test_without_graphviz_the_player_has_its_picture_all_the_same():
    text = run(
        "import sys; sys.modules['graphviz'] = sys.modules['pygraphviz'] = None\n"
        "from vfiosim.lab import Bench\n"
        "b = Bench(); b.buttons['open device'].click(); print('data-oid=' in b.trace_pane.player.data['svg'])"
    )
    assert text == "True\n"


# ---- where there are no widgets


def test_a_bench_leaves_a_player_behind_that_needs_no_widgets():
    bundle = start.first_bind()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "VFIO_DEVICE_BIND_IOMMUFD" in bundle["text/html"]
    assert "new DecompressionStream(" in bundle["text/html"]
    assert bundle["text/plain"].startswith("vmm has open: 3 → vfio0#1 4 → iommu#1")


def test_after_a_call_a_bench_leaves_the_steps_of_that_call_behind():
    bench = start.first_bind()
    press(bench, "bind")
    bundle = bench._repr_mimebundle_()
    assert "out_devid = 1" in bundle["text/html"]
    assert "vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)." in bundle["text/plain"]


def test_a_prediction_leaves_its_question_and_choices_behind_but_not_the_answer():
    bundle = one_bind.predict("close the iommufd first")._repr_mimebundle_()
    for kind in ("text/html", "text/plain"):
        assert "The program closes the descriptor of the" in bundle[kind]
        assert "close fails with EBUSY" in bundle[kind]
        assert "The simulator says" not in bundle[kind]


def test_a_revealed_prediction_leaves_the_verdict_and_the_player_behind():
    prediction = one_bind.predict("close the iommufd first")
    answer(prediction, "busy")
    html = prediction._repr_mimebundle_()["text/html"]
    assert "What misled you?" in html
    assert "new DecompressionStream(" in html


def test_a_task_leaves_itself_and_its_player_behind(exercise):
    bundle = exercise._repr_mimebundle_()
    assert "Make the device free again" in bundle["text/html"]
    assert "new DecompressionStream(" in bundle["text/html"]
    assert "Make the device free again" in bundle["text/plain"]


# ---- accessible


def test_every_control_has_a_name_for_a_screen_reader():
    bench = Bench()
    for button in [*bench.buttons.values(), bench.undo, bench.reset, bench.copy]:
        assert button.description
        assert button.tooltip
    for field in [bench.bind_fd, bench.fd, bench.vm, bench.kv, bench.listed, *bench.struct.values()]:
        assert field.text.description
        assert field.text.tooltip


def test_messages_are_announced():
    bench = opened()
    assert 'role="status"' in bench.result.value
    bench.fd.text.value = "x"
    press(bench, "close")
    assert 'role="alert"' in bench.fd.problem.value


def test_nothing_moves_in_the_picture_between_two_presses():
    bench = start.first_bind()

    def places() -> dict[str, str]:
        svg = bench.trace_pane.player.data["svg"]
        return dict(re.findall(r"data-oid='([^']+)'.*?<rect class='box' x='([-0-9.]+)' y", svg))

    before = places()
    bench.buttons["bind"].click()
    assert len(before) > 5
    assert places() == before
