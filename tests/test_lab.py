"""The widgets of the lab, driven through their buttons and fields as a reader does it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from vfiosim import DeviceSpec, Topology, uapi
from vfiosim.lab import Bench, Exercise, Finding, Prediction, Question, Session
from vfiosim.lab.bench import ROWS
from vfiosim.lab.stage import NO_PLAYER, Stage
from vfiosim.lessons import one_bind
from vfiosim.lessons.one_bind_questions import QUESTIONS


def press(bench: Bench, *names: str) -> str:
    """Press buttons one after another; the answer is the line about the last one."""
    for name in names:
        bench.buttons[name].click()
    return bench.message


def opened(**options) -> Bench:
    bench = Bench(**options)
    press(bench, "open device", "open iommufd")
    return bench


def shown_steps(bench: Bench) -> list[str]:
    return [step["sentence"] for step in bench.stage.player.data["steps"]]


def ledger(session: Session) -> dict[str, object]:
    """Everything that a reader could see of the machine."""
    state = session.machine.trace.end
    return {oid: (thing.fields, thing.counts, thing.tables, thing.locks) for oid, thing in state.objects.items()}


# ---- pressing buttons


def test_a_bind_is_three_presses_away_from_a_fresh_bench():
    bench = Bench()
    assert press(bench, "open device").startswith('✓ open("/dev/vfio/devices/vfio0") → 3')
    press(bench, "open iommufd")
    assert press(bench, "bind").startswith("✓ ioctl(3, VFIO_DEVICE_BIND_IOMMUFD) → 0 the kernel wrote out_devid = 1")


def test_after_a_press_the_player_stands_at_the_first_step_of_that_call():
    bench = opened()
    press(bench, "bind")
    assert bench.stage.step == 1
    assert shown_steps(bench)[0] == "vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)."
    assert 12 <= len(shown_steps(bench)) <= 20


def test_the_line_about_a_call_says_that_the_picture_begins_before_its_result():
    bench = opened()
    steps = f"{len(bench.session.steps)} steps: the picture begins at step 1; End shows the result."
    assert bench.message.endswith(steps)


def test_the_descriptor_table_is_always_there_and_follows_every_press():
    bench = Bench()
    assert "none yet" in bench.table.value
    press(bench, "open device", "open iommufd", "dup")
    found = re.findall(r"<b>(\d+)</b> → file ([^<]+)", bench.table.value)
    assert found == [("3", "vfio0#1"), ("4", "iommu#1"), ("5", "vfio0#1")]
    press(bench, "close")
    assert "<b>3</b>" not in bench.table.value


def test_a_refusal_shows_the_errno_the_sentence_the_check_and_the_line():
    bench = opened()
    press(bench, "open group")
    message = press(bench, "bind")
    assert "→ EBUSY the legacy group is open" in message
    assert re.search(r"check group_is_open at vfiosim/kernel/vfio/group\.py:\d+", message)


def test_a_new_file_goes_into_the_fields_that_are_about_such_a_file():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio")
    fields = (bench.bind_fd, bench.struct["iommufd"], bench.listed, bench.vm, bench.kv)
    assert [field.text.value for field in fields] == ["3", "4", "3", "6", "5"]
    assert "→ 0" in press(bench, "FILE ADD")
    assert "EEXIST" in press(bench, "FILE ADD")
    assert "→ 0" in press(bench, "FILE DEL")
    assert "ENOENT" in press(bench, "FILE DEL")


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("argsz", "8", "EINVAL"),
        ("argsz", "0x1000", "EFAULT"),
        ("argsz", "024", "0"),
        ("flags", "2", "EINVAL"),
        ("flags", "1", "EFAULT"),
        ("iommufd", "-1", "EINVAL"),
        ("iommufd", "777", "EBADF"),
        ("iommufd", "3", "EBADFD"),
        ("out_devid", "99", "0"),
        ("token_uuid_ptr", "123", "0"),
    ],
)
def test_every_field_of_the_struct_reaches_the_kernel(field, value, answer):
    bench = opened()
    bench.struct[field].text.value = value
    press(bench, "bind")
    assert bench.session.actions[-1].outcome.result == answer


def test_get_info_is_refused_before_a_bind_and_answered_after_it():
    bench = opened()
    assert "→ EINVAL" in press(bench, "GET_INFO")
    press(bench, "bind")
    assert re.search(r"the device has [1-9]\d* regions", press(bench, "GET_INFO"))


def test_another_device_can_be_chosen():
    bench = Bench()
    bench.device.value = "/dev/vfio/devices/vfio4"
    press(bench, "open device", "open iommufd")
    assert "out_devid = 1" in press(bench, "bind")
    assert "iommufd_access 1" in bench.session.machine.trace.end.objects


# ---- bad input


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("argsz", "many", "“many” is no number; write one like 24 or 0x18"),
        ("argsz", "٢٤", "“٢٤” is no number; write one like 24 or 0x18"),
        ("argsz", "2_4", "“2_4” is no number; write one like 24 or 0x18"),
        ("argsz", "-1", "-1 does not fit; from 0 to 4294967295"),
        ("flags", "", "a number is missing here"),
        ("iommufd", "2147483648", "2147483648 does not fit; from -2147483648 to 2147483647"),
        ("token_uuid_ptr", str(1 << 64), f"{1 << 64} does not fit; from 0 to {(1 << 64) - 1}"),
    ],
)
def test_bad_input_gives_a_message_beside_its_field_and_changes_nothing(field, value, message):
    bench = opened()
    before = ledger(bench.session), bench.code.value, bench.stage.player.data
    bench.struct[field].text.value = value
    assert press(bench, "bind") == f"Nothing was called; see what is said at {field}."
    assert bench.struct[field].message == message
    assert (ledger(bench.session), bench.code.value, bench.stage.player.data) == before


def test_two_bad_fields_each_have_their_message():
    bench = opened()
    bench.struct["argsz"].text.value = bench.struct["flags"].text.value = "x"
    press(bench, "bind")
    assert bench.struct["argsz"].message
    assert bench.struct["flags"].message


@pytest.mark.parametrize("button", ["GET_INFO", "dup", "close"])
def test_a_closed_descriptor_gives_a_message_beside_its_field_and_changes_nothing(button):
    bench = opened()
    bench.fd.text.value = "9"
    before = ledger(bench.session)
    press(bench, button)
    assert bench.fd.message == "9 is not open; see the table of descriptors"
    assert ledger(bench.session) == before


def test_a_message_goes_away_as_soon_as_the_field_is_changed():
    bench = opened()
    bench.fd.text.value = "9"
    press(bench, "close")
    bench.fd.text.value = "3"
    assert bench.fd.message == ""
    assert "→ 0" in press(bench, "close")


@pytest.mark.parametrize("rows", [(row,) for row in ROWS])
def test_no_button_of_a_fresh_bench_raises(rows):
    bench = Bench(show=rows)
    for name in bench.buttons:
        assert press(bench, name)


def test_a_closed_descriptor_is_not_put_on_the_list():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio")
    bench.listed.text.value = "77"
    assert press(bench, "FILE ADD") == "Nothing was called; see what is said at file fd."
    assert bench.listed.message == "77 is not open; see the table of descriptors"


def test_a_message_goes_away_when_the_descriptor_is_open_again():
    bench = opened()
    press(bench, "close", "close")
    assert bench.fd.message == "3 is not open; see the table of descriptors"
    press(bench, "open device")
    assert bench.fd.message == ""


def unknown(bench: Bench) -> str:
    """A call whose answer the model does not know."""
    bench._press(
        lambda: bench.session._do(
            ["p.ioctl(3, uapi.KVM_CHECK_EXTENSION)"],
            "ioctl(3, KVM_CHECK_EXTENSION)",
            lambda p: str(p.ioctl(p.open("/dev/kvm"), uapi.KVM_CHECK_EXTENSION)),
        )
    )
    return bench.message


def test_what_is_not_modelled_is_no_refusal_of_the_kernel():
    bench = Bench()
    assert "→ not modelled : KVM_CHECK_EXTENSION. The real kernel" in unknown(bench)
    assert 'class="unknown"' in bench.result.value
    assert "ENOSYS" not in bench.message
    assert "check" not in bench.message


def test_what_is_not_modelled_is_a_comment_in_the_code():
    bench = Bench()
    unknown(bench)
    assert "# KVM_CHECK_EXTENSION is not modelled:\n# p.ioctl(3, uapi.KVM_CHECK_EXTENSION)" in bench.code.value
    assert "with suppress" not in bench.code.value


def test_a_program_that_has_ended_is_told_so_in_words():
    bench = opened()
    bench.session.process.exit()
    bench._refresh({})
    assert press(bench, "open device") == "Nothing was called: the process 'vmm' has ended. Undo or reset helps."
    bench.reset.click()
    assert "→ 3" in press(bench, "open device")


def test_a_row_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="no row \\['bond'\\]; there are open, descriptor"):
        Bench(show=("bond",))


# ---- the way back


def test_undo_brings_back_the_machine_from_before_the_call():
    bench = opened()
    before = ledger(bench.session)
    press(bench, "bind")
    bench.undo.click()
    assert bench.message == "Taken back: ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)"
    assert ledger(bench.session) == before
    assert "→ 0" in press(bench, "bind")


def test_undo_works_back_to_the_beginning_and_no_further():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio", "FILE ADD", "bind", "bind", "close")
    while not bench.undo.disabled:
        bench.undo.click()
    assert ledger(bench.session) == ledger(Session())
    bench.undo.click()
    assert bench.message == "There is nothing to take back."


def test_what_a_lesson_has_prepared_cannot_be_undone_and_comes_back_at_reset():
    bench = one_bind.first_bind()
    assert bench.undo.disabled
    press(bench, "bind")
    bench.reset.click()
    assert ledger(bench.session) == ledger(Session(start=one_bind.opened))
    assert "→ 0" in press(bench, "bind")


def test_reset_also_empties_the_fields():
    bench = opened()
    bench.struct["argsz"].text.value = "many"
    press(bench, "bind")
    bench.reset.click()
    assert [field.text.value for field in bench.struct.values()] == ["24", "0", "0", "0", "0"]
    assert (bench.bind_fd.text.value, bench.struct["argsz"].message) == ("", "")


def test_the_code_of_a_session_does_the_same_again():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio", "bind", "FILE ADD", "FILE ADD", "bind", "dup", "GET_INFO", "close")
    bench.copy.click()
    assert bench.code.layout.display == ""
    names: dict[str, object] = {}
    exec(bench.code.value, names)
    assert names["m"].trace.end.objects == bench.session.machine.trace.end.objects  # type: ignore[attr-defined]


def test_each_line_of_the_code_has_its_own_result():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio")
    lines = bench.code.value.splitlines()
    assert "p.ioctl(kvm, uapi.KVM_CREATE_VM)  # 6" in lines
    assert "p.close(kvm)" in lines
    assert "p.ioctl(6, uapi.KVM_CREATE_DEVICE, wanted)  # wanted.fd is 5" in lines


def test_the_code_of_a_machine_of_ones_own_runs_too():
    session = Session(Topology("mine", (DeviceSpec("tty", "a-uuid", 4, bus="mdev", driver="mtty"),)))
    session.open("/dev/vfio/devices/vfio0")
    names: dict[str, object] = {}
    exec(session.code(), names)
    assert names["m"].trace.end.objects == session.machine.trace.end.objects  # type: ignore[attr-defined]


# ---- why is it alive?


def test_why_names_every_direct_holder_once():
    bench = one_bind.close()
    alive = bench.children[-1]
    alive.choice.value = "file iommu#1"
    alive.ask.click()
    lines = re.findall(r"<li>(.*?)</li>", alive.answer.value)
    assert "kept alive by 3 holders" in alive.answer.value
    assert [re.search(r"(\S+ \S+) --[^-]*--&gt; file iommu#1", line).group(1) for line in lines] == [  # type: ignore[union-attr]
        "fds vmm",
        "vfio_device_file 1",
        "iommufd_device 1",
    ]


def test_why_follows_the_bench():
    bench = one_bind.close()
    alive = bench.children[-1]
    alive.choice.value = "vfio_device_file 1"
    alive.ask.click()
    press(bench, "close")
    assert alive.answer.value == ""
    bench.fd.text.value = "4"
    press(bench, "close")
    assert "vfio_device_file 1" not in alive.choice.options


def test_why_answers_for_the_step_that_is_shown():
    bench = one_bind.close()
    alive = bench.children[-1]
    press(bench, "close")
    alive.choice.value = "vfio_device_file 1"
    alive.ask.click()
    steps = len(bench.session.steps)
    assert f"After step 1 of {steps}:</b> Nothing keeps vfio_device_file 1 alive." in alive.answer.value
    bench.stage.player.step = 0
    assert "Before step 1:</b> vfio_device_file 1 is kept alive by 1 holder" in alive.answer.value
    bench.stage.player.step = steps
    assert f"After step {steps} of {steps}:</b> vfio_device_file 1 is not alive." in alive.answer.value


def test_why_answers_for_now_before_the_first_call():
    alive = one_bind.close().children[-1]
    alive.ask.click()
    assert "<b>Now:</b>" in alive.answer.value


def test_in_the_picture_of_the_lesson_with_a_vm_the_list_has_its_holder():
    for bench in (one_bind.kvm(), one_bind.exercise().bench):
        press(bench, *(["create VM", "create kvm-vfio"] if "bind" in bench.buttons else ["GET_INFO"]))
        svg = bench.stage.player.data["svg"]
        assert re.search(r'data-oid="kvm_device', svg)
        assert re.search(r'data-oid="kvm_vfio', svg)


# ---- predictions


def answer(prediction: Prediction, value: str) -> str:
    prediction.choice.value = value
    prediction.commit.click()
    prediction.reveal.click()
    return prediction.message


def test_nothing_is_revealed_before_a_prediction_is_committed():
    prediction = one_bind.predict("close the iommufd first")
    assert prediction.reveal.disabled
    prediction.reveal.click()
    assert "Commit to a prediction first." in prediction.message
    prediction.commit.click()
    assert "Choose one of the answers first." in prediction.message
    assert prediction.reveal.disabled
    prediction.choice.value = "busy"
    prediction.commit.click()
    assert prediction.choice.disabled
    assert not prediction.reveal.disabled
    assert not any(isinstance(child, Stage) for child in prediction.children)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_right_answer_is_the_one_that_the_simulator_gives(name):
    right = QUESTIONS[name].experiment().answer
    message = answer(one_bind.predict(name), right)
    assert "✓ You predicted" in message
    assert "What misled you?" not in message


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, q in QUESTIONS.items() for wrong in q.wrong])
def test_a_wrong_answer_stays_beside_the_truth_with_the_belief_and_the_steps_that_refute_it(name, wrong):
    prediction = one_bind.predict(name)
    message = answer(prediction, wrong)
    question = QUESTIONS[name]
    said = question.choices.get(wrong, wrong)
    truth = question.experiment().answer
    assert re.search(rf"✕ You predicted {re.escape(said)}", message)
    assert question.choices.get(truth, truth) in message
    assert "What misled you?" in message
    stage = prediction.children[-1]
    assert isinstance(stage, Stage)
    assert 0 < len(stage.trace) <= 20


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_wrong_choice_of_a_question_has_its_belief(name):
    question = QUESTIONS[name]
    assert question.choices or question.otherwise
    right = question.experiment().answer
    assert right not in question.wrong
    assert set(question.choices) <= {right, *question.wrong}


def test_a_typed_prediction_must_be_a_number_or_an_errno():
    prediction = one_bind.predict("which error wins?")
    for typed, message in (("", "Type a prediction first."), ("EWHAT", "Type a number like 2")):
        prediction.choice.value = typed
        prediction.commit.click()
        assert message in prediction.message
        assert prediction.reveal.disabled
    assert "✓" in answer(prediction, " ebusy ")


def test_a_typed_answer_that_nobody_expected_is_answered_too():
    assert "Count holders, not calls" in answer(one_bind.predict("who holds the iommufd?"), "17")


def test_a_prediction_can_be_made_anew():
    prediction = one_bind.predict("a device without DMA")
    answer(prediction, "zero")
    prediction.again.click()
    assert (prediction.message.strip(), prediction.choice.value, prediction.reveal.disabled) == ("", None, True)
    assert not any(isinstance(child, Stage) for child in prediction.children)
    assert "✓" in answer(prediction, "positive")


def test_a_question_is_asked_of_the_simulator_only_when_it_is_revealed():
    asked = []

    def experiment() -> Finding:
        asked.append(1)
        return Finding("0", Session().steps, 0)

    prediction = Prediction(Question("Zero?", experiment, "it is so.", otherwise="no"))
    prediction.choice.value = "0"
    prediction.commit.click()
    assert asked == []
    prediction.reveal.click()
    assert asked == [1]


def test_a_question_that_the_lesson_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'why'; there are open is enough"):
        one_bind.predict("why")


# ---- the task


@pytest.fixture
def exercise() -> Exercise:
    return one_bind.exercise()


def close(bench: Bench, fd: int) -> None:
    bench.fd.text.value = str(fd)
    press(bench, "close")


def test_the_task_is_not_solved_at_its_start(exercise):
    exercise.check.click()
    assert "✕ Not yet." in exercise.message
    assert "held by fds vmm (fd 3) and fds vmm (fd 5) and kvm_vfio 1 (in its list)" in exercise.message


def test_the_tasks_own_solution_solves_it(exercise):
    one_bind.free_it(exercise.bench.session)
    exercise.check.click()
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in exercise.message


def test_closing_the_descriptors_only_leaves_the_list_as_holder(exercise):
    close(exercise.bench, 3)
    close(exercise.bench, 5)
    exercise.check.click()
    assert "held by kvm_vfio 1 (in its list)" in exercise.message
    assert "not 0" in exercise.message


def test_closing_the_kvm_vfio_descriptor_is_a_second_way(exercise):
    for fd in (3, 5, 6):
        close(exercise.bench, fd)
    assert exercise.solved


def test_closing_everything_is_no_solution(exercise):
    for fd in (3, 4, 5, 6, 7):
        close(exercise.bench, fd)
    exercise.check.click()
    assert "the VM must stay open" in exercise.message
    assert "the iommufd must stay open" in exercise.message


def test_a_verdict_does_not_outlive_the_next_call(exercise):
    exercise.check.click()
    close(exercise.bench, 3)
    assert "Not yet" not in exercise.message


def test_the_way_that_is_longer_is_told_of_the_shorter_one(exercise):
    press(exercise.bench, "dup")
    for fd in (3, 5, 8, 6):
        close(exercise.bench, fd)
    exercise.check.click()
    assert "You needed 5 calls. It can be done with 3." in exercise.message


def test_hint_and_solution_come_and_go(exercise):
    exercise.hint.click()
    assert "Hint." in exercise.message
    exercise.solution.click()
    assert "KVM_DEV_VFIO_FILE_DEL" in exercise.message
    exercise.solution.click()
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
        "b = Bench(); b.buttons['open device'].click(); print(b.stage.children[0].value)"
    )
    assert text.count(NO_PLAYER) == 1
    assert "vmm calls open(/dev/vfio/devices/vfio0)." in text


def test_without_graphviz_the_player_has_text_and_one_clear_line():
    text = run(
        "import sys; sys.modules['graphviz'] = sys.modules['pygraphviz'] = None\n"
        "from vfiosim.lab import Bench\n"
        "b = Bench(); b.buttons['open device'].click(); d = b.stage.player.data; print(d['svg'] == '', d['hint'])"
    )
    assert text.startswith("True To see pictures")


# ---- where there are no widgets


def test_a_bench_leaves_a_player_behind_that_needs_no_widgets():
    bundle = one_bind.first_bind()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "VFIO_DEVICE_BIND_IOMMUFD" in bundle["text/html"]
    assert "new Player(" in bundle["text/html"]
    assert bundle["text/plain"].startswith("File descriptors of the program: 3 → file vfio0#1 4 → file iommu#1")


def test_after_a_call_a_bench_leaves_the_steps_of_that_call_behind():
    bench = one_bind.first_bind()
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
    assert "new Player(" in html


def test_a_task_leaves_itself_and_its_player_behind(exercise):
    bundle = exercise._repr_mimebundle_()
    assert "Make the device free again" in bundle["text/html"]
    assert "new Player(" in bundle["text/html"]
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
    bench = one_bind.first_bind()

    def places() -> dict[str, str]:
        svg = bench.stage.player.data["svg"]
        return dict(re.findall(r'data-oid="([^"]+)".*?<rect class="box" x="([-0-9.]+)" y', svg))

    before = places()
    bench.buttons["bind"].click()
    assert len(before) > 5
    assert places() == before
