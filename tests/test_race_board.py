"""Being the scheduler: where threads meet, what each has seen there, what is still missing, and the board that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.desk import Desk, becomes, press, settle
from tests.searches import broken, each_puzzle
from vfiosim.engine import acquire
from vfiosim.explore import Witness, explore
from vfiosim.explore.missing import BROKEN, KEPT, OPEN, Way
from vfiosim.explore.touches import Touch, contested, name_of, touches, variables
from vfiosim.explore.turns import turns
from vfiosim.lab import Races, Sandbox, room
from vfiosim.lab.by_hand import scheduler
from vfiosim.lab.counterexample import Counterexample, turns_html
from vfiosim.lab.run import Run
from vfiosim.lab.sandbox.schedule import ThreadPanel
from vfiosim.lab.style import words
from vfiosim.lessons import races as lesson
from vfiosim.lessons.races_questions import moved
from vfiosim.machine import Machine
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import GROUP, bind, ready_to_bind

pytestmark = pytest.mark.xdist_group("races by hand")

COUNT, OPENED = ("vfio_group 1", "cdev_device_open_cnt"), ("vfio_group 1", "opened_file")


def r1(**options: Any) -> Sandbox:
    """The first puzzle without its lock, both calls before their first effect."""
    return scheduler(PUZZLES["R1"], PUZZLES["R1"].without, only=("vfio_group *", "file *"), **options)


def rows(sandbox: Sandbox) -> list[ThreadPanel]:
    return list(sandbox.schedule.rows.values())


def go(sandbox: Sandbox, *turns: str) -> None:
    """Turns such as "A to shared"."""
    for turn in turns:
        thread, _, how = turn.partition(" ")
        next(row for row in rows(sandbox) if row.thread == thread).buttons[how].click()


def way(name: str, number: int = 0) -> Witness:
    found = broken(name, number).counterexample
    assert found is not None
    return found


def touched(witness: Witness) -> list[Touch]:
    engine = witness.machine.engine
    return touches(engine, len(engine.micro) - len(witness))


# ---- where threads meet


def test_before_the_first_press_a_rehearsal_knows_what_the_two_calls_share():
    assert {*r1().run.rehearsal().places} == {COUNT, OPENED}


def test_a_place_that_threads_only_read_or_only_one_touches_is_not_contested():
    made = touched(way("R1"))
    everything = {touch.place for touch in made}
    assert ("fds A", "limit") in everything
    assert {*contested(made)} == {COUNT, OPENED}


def test_what_a_thread_has_read_is_out_of_date_once_another_one_has_written():
    sandbox = r1()
    go(sandbox, "A to shared", "A 1 effect", "B to the end")
    run = sandbox.run
    by_name = {one.name: one for one in seen_in(run)}
    count = by_name[name_of(COUNT)]
    assert (count.now, count.seen["A"].value, count.seen["A"].stale) == ("1", "0", True)
    assert (count.seen["B"].value, count.seen["B"].stale) == ("1", False)
    assert not by_name[name_of(OPENED)].seen["B"].stale


def seen_in(run: Run) -> list[Any]:
    return variables(run.machine.engine, run.rehearsal().places, touches(run.machine.engine), run.rehearsal().alone)


def test_the_line_of_a_lock_that_is_taken_out_is_struck_through_and_no_other():
    sandbox = r1()
    go(sandbox, "B to shared")
    panel = next(one for one in sandbox.schedule.rows.values() if one.thread == "B")
    struck = re.findall(r'<span class="line[^"]* out[^"]*"[^>]*>(.*?)</span></span>', panel.code.value)
    assert [words(line) for line in struck] == ["async with group.group_lock:"]


def test_two_calls_by_hand_are_told_with_what_they_name_and_a_lock_beside_its_object():
    sandbox = scheduler(PUZZLES["R2"])
    named = [words(each.name.value) for each in rows(sandbox)]
    assert [one.rpartition(", ")[2] for one in named] == ["iommufd=4)", "iommufd=5)"]
    pane = sandbox.machine_pane
    pane.without.set("vfio_device_set.lock")
    pane.take_out.click()
    assert "Taken out of the kernel: lock of vfio_device_set" in words(pane.taken.value)
    assert "lock vfio_device_set vfio0 taken out" in words(sandbox.schedule.shared.value)


def test_whose_call_has_ended_holds_nothing_that_could_be_out_of_date():
    sandbox = r1()
    go(sandbox, "A to the end", "B to the end")
    assert not any(seen.stale for one in seen_in(sandbox.run) for seen in one.seen.values())


def test_what_a_thread_is_going_to_do_is_told_until_it_has_done_it():
    sandbox = r1()
    told = [seen_in(sandbox.run)[0].ahead["B"]]
    for how in ("B to shared", "B to shared", "B to shared", "B 1 effect"):
        go(sandbox, how)
        told.append(next(one for one in seen_in(sandbox.run) if one.place == COUNT).ahead["B"])
    assert told == [("reads", "writes"), ("reads", "writes"), ("reads", "writes"), ("writes",), ()]


def test_data_come_before_counts_and_locks_come_last():
    witness = way("R13")
    found = variables(witness.machine.engine, contested(touched(witness)), touched(witness), {})
    assert [one.rank for one in found] == sorted(one.rank for one in found)
    assert found[0].rank == 0
    assert found[-1].name.endswith("lock")
    assert found[-1].now == "free"


def test_a_pointer_to_what_is_freed_and_the_freed_object_say_so():
    witness = way("R5")
    found = {
        one.name: one for one in variables(witness.machine.engine, contested(touched(witness)), touched(witness), {})
    }
    assert found["kvm 1"].now == "freed"
    assert found["vfio_device_file 1.kvm"].seen["A"].value == "kvm 1"
    assert found["vfio_device_file 1.kvm"].seen["A"].stale


# ---- what is still missing

EACH = pytest.mark.parametrize("name", ["R1", "R5", "R8", "R13", "R14", "R16"])


@EACH
def test_the_shortest_way_keeps_all_its_orders_and_before_the_first_effect_none(name):
    known = Way(way(name))
    assert known.orders
    assert {point.state for point in known.points(known.touches, ())} == {KEPT}
    assert {point.state for point in known.points([], ())} == {OPEN}


@EACH
def test_no_order_of_a_way_follows_from_another_one(name):
    orders = Way(way(name)).orders
    for one in orders:
        for other in orders:
            same = (one.first.thread, one.then.thread) == (other.first.thread, other.then.thread)
            assert one == other or not (same and one.first.at <= other.first.at and other.then.at <= one.then.at)


def schedules(seed: int, times: int) -> Iterable[Machine]:
    """The two calls of R1 without the lock, to their ends in random turns."""
    choose = Random(seed)
    for _ in range(times):
        machine = PUZZLES["R1"].setup()
        calls = [*moved(machine, without=("group_lock",)).values()]
        while any(not call.thread.ended for call in calls):
            call = choose.choice([call for call in calls if not call.thread.ended])
            for _ in range(choose.randint(1, 25)):
                call.step()
        yield machine


def test_in_random_schedules_it_breaks_exactly_where_no_order_is_missing():
    known, seen = Way(way("R1")), set()
    for machine in schedules(seed=11, times=60):
        kept = {point.state for point in known.points(touches(machine.engine), ("A", "B"))} == {KEPT}
        assert kept == bool(machine.check())
        seen.add(kept)
    assert seen == {True, False}


def states(sandbox: Sandbox, known: Way) -> list[str]:
    running = {row.thread for row in rows(sandbox)}
    return [point.state for point in known.points(touches(sandbox.run.machine.engine), {"A", "B"} - running)]


def test_an_order_is_open_then_kept_and_broken_where_the_second_thing_came_first():
    known, sandbox = Way(way("R1")), r1()
    assert states(sandbox, known) == [OPEN, OPEN]
    go(sandbox, "A to shared", "A to shared", "B to the end")
    assert states(sandbox, known) == [KEPT, OPEN]
    go(sandbox, "A to the end")
    assert states(sandbox, known) == [KEPT, KEPT]
    other = r1()
    go(other, "A to the end")
    assert states(other, known) == [OPEN, BROKEN]


def test_the_sentences_name_who_who_else_and_the_place():
    known, sandbox = Way(way("R1")), r1()
    go(sandbox, "A to shared", "A 1 effect")
    said = [point.sentence for point in known.points(touches(sandbox.run.machine.engine), ())]
    assert said == [
        "A has read cdev_device_open_cnt; B has not written it yet.",
        "B has not read opened_file yet; it has to, before A writes it.",
    ]
    assert known.between() == (
        "After A reads cdev_device_open_cnt, and before it writes opened_file: B reads opened_file and writes cdev_device_open_cnt."
    )


def test_the_verdict_of_the_task_says_what_has_to_happen_between_what():
    hand = lesson.by_hand()
    hand.help.hint.click()
    go(hand.sandbox, "A to the end")
    hand.check.click()
    assert "✕ A has written opened_file too early: B has to have read opened_file before that." in hand.message
    assert "After A reads cdev_device_open_cnt, and before it writes opened_file: B reads opened_file" in hand.message


def test_in_the_race_lab_what_is_missing_follows_each_press_once_a_way_is_known():
    lab = Races("R1", only=("fds",))
    lab.yourself.click()
    assert "Once Explore has found a way into harm" in lab.missing.value
    lab.protections["group_lock"].value = True
    lab.prediction.value = "broken"
    lab.commit.click()
    lab.explore.click()
    lab.yourself.click()
    assert lab.sandbox is not None
    assert "A has not read cdev_device_open_cnt yet" in lab.missing.value
    go(lab.sandbox, "A to shared", "A 1 effect")
    assert "A has read cdev_device_open_cnt; B has not written it yet." in lab.missing.value


# ---- the board


def test_the_picture_is_there_before_the_first_press_and_nothing_in_it_moves_then():
    sandbox = r1()
    assert sandbox.trace_pane.children
    player = sandbox.trace_pane.player.player
    before = {node.oid: player.layout.nodes[node.key] for node in player.graph.nodes if player.frame(0).get(node.key)}
    assert "vfio_group 1" in before
    go(sandbox, "A to shared")
    player = sandbox.trace_pane.player.player
    after = {node.oid: player.layout.nodes[node.key] for node in player.graph.nodes}
    assert {oid: (spot.left, spot.top) for oid, spot in before.items()} == {
        oid: (after[oid].left, after[oid].top) for oid in before
    }


def test_a_race_is_drawn_with_what_its_threads_share_and_not_with_the_boxes_of_the_one_before():
    lab = Races("R1", only=("vfio_group *",))
    lab.choice.value = "R14"
    lab.yourself.click()
    sandbox = lab.sandbox
    assert sandbox is not None
    go(sandbox, "A to shared", "B to shared")
    live = sandbox.trace_pane.player
    drawn = {part for node in live.player.graph.nodes for part in node.parts}
    assert {"iommufd_ctx 1", "iommufd_device 1"} <= drawn
    assert "vfio_group 1" not in drawn
    assert live.shown == ["graph"], "the board tells of the locks"


def test_an_arrow_to_a_lock_in_a_box_that_is_folded_ends_at_its_title():
    whole = scheduler(PUZZLES["R21"], only=()).trace_pane.player.player
    assert any(edge.into == "" for edge in whole.graph.edges)
    assert whole.layout is not None


def test_before_it_begins_the_code_of_each_thread_is_shown_with_a_cursor():
    for row in rows(r1()):
        assert row.code.value.count("▶") == 1
        assert row.code.value.count('aria-current="true"') == 1
        assert "enter the kernel" in row.next.value


def test_the_cursor_stands_on_the_line_that_runs_next_and_the_kernel_function_is_told_with_file_and_tag():
    sandbox = r1()
    go(sandbox, "A to shared", "B to shared")
    first, second = rows(sandbox)
    for row, line, function in (
        (first, "bound = await <b>load</b>(group.cdev_device_open_cnt)", "vfio_group_fops_open"),
        (second, "opened = await <b>load</b>(group.opened_file)", "vfio_device_block_group"),
    ):
        here = re.search(r'aria-current="true"><i>▶</i><span[^>]*>(.*?)</span>', row.code.value)
        assert here is not None
        assert here[1].strip() == line
        assert f"<code>{function}</code> drivers/vfio/group.c, v7.2" in row.next.value


def test_lines_that_touch_something_shared_are_marked_before_they_run():
    sandbox = r1()
    go(sandbox, "A to shared")
    marked = re.findall(r'title="touches ([^"]*)"', rows(sandbox)[0].code.value)
    assert marked == [name_of(COUNT), name_of(OPENED)]


def test_to_shared_stops_before_each_shared_place_and_undo_takes_a_whole_press_back():
    sandbox, stops = r1(), []
    for _ in range(3):
        go(sandbox, "A to shared")
        stops.append(words(rows(sandbox)[0].next.value).split(" vfiosim")[0])
    assert [" ".join(stop.split()[:4]) for stop in stops] == [
        "next: load vfio_group 1.cdev_device_open_cnt",
        "next: load vfio_group 1.opened_file",
        "next: store vfio_group 1.opened_file",
    ]
    sandbox.undo.click()
    sandbox.undo.click()
    assert "load vfio_group 1.cdev_device_open_cnt" in rows(sandbox)[0].next.value
    sandbox.redo.click()
    assert "load vfio_group 1.opened_file" in rows(sandbox)[0].next.value


def test_to_shared_goes_to_the_end_where_nothing_shared_comes_any_more():
    sandbox = r1()
    go(sandbox, *["B to shared"] * 4)
    assert [row.thread for row in rows(sandbox)] == ["A"]
    assert "B</b> has ended" in sandbox.schedule.ended


def test_a_race_with_presses_to_something_shared_is_shared_and_made_again_effect_by_effect():
    sandbox = r1()
    go(sandbox, "A to shared", "B to shared", "A to shared")
    again = Sandbox()
    again.run.load(sandbox.run.save())
    assert again.run.machine.trace == sandbox.run.machine.trace


def test_with_its_lock_a_thread_stops_at_the_lock_and_the_other_one_waits_for_it():
    sandbox = scheduler(PUZZLES["R1"], only=("fds",))
    go(sandbox, "A to shared", "A 1 effect", "B to the end")
    assert "B waits for vfio_group 1.group_lock, held by A" in words(rows(sandbox)[1].next.value)
    assert "held by A" in words(sandbox.schedule.shared.value)


def test_a_thread_whose_call_has_ended_keeps_its_place_on_the_board():
    sandbox = r1()
    places = [*sandbox.schedule.board.children]
    go(sandbox, "A to the end")
    left, shared, right = sandbox.schedule.board.children
    assert (shared, right) == (places[1], places[2])
    assert left is not places[0]
    assert "A has ended. ✓ open('/dev/vfio/1') → 3" in words(left.value)


def test_values_that_the_machine_says_contradict_each_other_are_framed_together():
    sandbox = r1()
    go(sandbox, "A to shared", "A to shared", "B to the end")
    assert "harmed" not in sandbox.schedule.shared.value
    assert "≠ now" in sandbox.schedule.shared.value
    go(sandbox, "A to the end")
    assert sandbox.schedule.shared.value.count('<tr class="harmed">') == 2


@each_puzzle(days=6)
def test_each_thread_of_each_puzzle_has_code_and_a_key_of_its_own_from_the_start(puzzle):
    found = rows(scheduler(puzzle, only=("fds",)))
    assert [row.thread for row in found] == [*puzzle.programs()]
    keys = {kind for row in found for kind in row.buttons["1 effect"]._dom_classes if kind.startswith("vfiosim-key-")}
    assert len(keys) == len(found)
    assert all("▶" in row.code.value for row in found)


# ---- counterexamples


def test_the_turns_of_a_way_tell_in_whole_words_who_holds_what():
    first, second, third = turns(way("R5"))
    assert [turn.thread for turn in (first, second, third)] == ["A", "B", "A"]
    assert first.stands["A"] == ("holds vfio_device_set vfio0.lock",)
    assert [f"{touch.verb[0]} {touch.name}" for touch in second.touches][-1] == "frees kvm 1"
    assert [turn.effects for turn in (first, second, third)] == [35, 33, 1]


async def forgets_to_unlock(device: Any) -> None:
    """A distractor: the way out without an unlock."""
    await acquire(device.group.group_lock)


def two_binds(trace: bool = True) -> Machine:
    machine = ready_to_bind("one", trace=trace)
    machine.process("opener")
    return machine


def test_a_thread_that_waits_says_for_what_and_who_holds_it():
    programs: dict[str, Any] = {"A": [bind("one")], "B": [("opener", "open", GROUP)]}
    found = explore(two_binds, programs, [], patches={"vfio_device_block_group": forgets_to_unlock})
    witness = next(one for one in found.violations if one.what.startswith("deadlock: "))
    assert "waits for vfio_group 1.group_lock, held by A" in turns(witness)[-1].stands["B"]


def test_effects_are_told_only_to_who_asks_for_them():
    made = turns(way("R1"))
    html = turns_html(made, ["A", "B"], "", 0)
    assert html.count("<details>") == len(made)
    assert "load fds A.limit" not in re.sub(r"<details>.*?</details>", "", html)


def test_a_counterexample_opens_at_the_harm_and_the_start_is_a_press_away():
    shown = Counterexample(way("R1"))
    assert shown.trace_pane.step == len(shown.trace)
    assert "2 switches" in words(shown.switches.value)
    assert shown.turns.value.count('aria-current="step"') == 1
    assert "✕ vfio_group 1 is open and counts 1 of its devices as bound" in words(shown.turns.value)
    shown.start.click()
    assert shown.trace_pane.step == 0
    assert "aria-current" not in shown.turns.value
    shown.harm.click()
    assert shown.trace_pane.step == len(shown.trace)


def test_the_turn_that_the_picture_is_in_is_marked():
    shown = Counterexample(way("R1"))
    marked = []
    for step in range(1, len(shown.trace) + 1):
        shown.trace_pane.go_to(step)
        current = [row for row in shown.turns.value.split("<tr") if "aria-current" in row]
        marked.append(len(re.findall(r"<tr", shown.turns.value.split("aria-current")[0])))
        assert len(current) == 1
    assert marked == sorted(marked)
    assert len({*marked}) == 3


def test_what_the_threads_share_is_told_as_it_is_at_the_step_of_the_picture():
    shown = Counterexample(way("R1"))
    told = {}
    for step in (0, 3, 7, len(shown.trace)):
        shown.trace_pane.go_to(step)
        told[step] = words(shown.shared.value)
    assert "cdev_device_open_cnt vfio_group 1 0 – –" in told[0]
    assert "cdev_device_open_cnt vfio_group 1 0 read 0 –" in told[3]
    assert "cdev_device_open_cnt vfio_group 1 1 read 0 ≠ now wrote 1" in told[7]
    assert ["contradiction" in said for said in told.values()] == [False, False, False, True]


def test_what_the_race_lab_finds_is_told_with_its_switches():
    lab = Races("R1", only=("fds",))
    lab.protections["group_lock"].value = True
    lab.prediction.value = "broken"
    lab.commit.click()
    lab.explore.click()
    told = [
        words(part.value)
        for line in lab.found.children
        for part in getattr(line, "children", ())
        if hasattr(part, "value")
    ]
    assert any("(A → B → A; 2 switches)" in line for line in told)
    assert any("each with an example" in words(part.value) for part in lab.found.children if hasattr(part, "value"))
    assert not any("effects" in line for line in told)


def test_the_shortest_way_of_a_room_of_the_museum_opens_at_the_harm():
    view = room(next(iter(ROOMS)))
    view.way.click()
    (shown,) = (child for child in view.children if isinstance(child, Counterexample))
    assert shown.trace_pane.step == len(shown.trace)
    assert shown.trace[shown.trace_pane.step - 1].refused


# ---- in a browser

BEGIN = "from vfiosim.lessons import races as lesson\nlesson.by_hand()"


def panel(root: Locator, number: int) -> Locator:
    return root.locator(".vfiosim-schedule .vfiosim-row.vfiosim-thread").nth(number)


def test_a_race_is_broken_with_keys_alone_and_jupyterlab_takes_none_of_them(desk: Desk) -> None:
    root = desk.widget(BEGIN)
    expect(root.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()
    expect(root).to_have_attribute("data-lm-suppress-shortcuts", "true")  # the keys are listened to
    cells = desk.page.locator(".jp-Notebook .jp-Cell")
    expect(cells).to_have_count(2)
    panel(root, 0).get_by_role("button", name="1 effect").focus()
    keyboard, first, second = desk.page.keyboard, panel(root, 0), panel(root, 1)
    keyboard.press("a")
    expect(first.locator(".vfiosim-next")).to_contain_text("load fds A.limit")
    keyboard.press("u")
    expect(first.locator(".vfiosim-next")).to_contain_text("enter the kernel")
    for key, where, text in (
        ("Shift+A", first, "load vfio_group 1.cdev_device_open_cnt"),
        ("Shift+A", first, "load vfio_group 1.opened_file"),
        ("Shift+B", second, "load vfio_group 1.opened_file"),
    ):
        keyboard.press(key)
        expect(where.locator(".vfiosim-next")).to_contain_text(text)
    keyboard.press("Alt+b")
    expect(root.locator(".vfiosim-ended")).to_contain_text("→ 0")
    expect(root.locator("table.shared td.stale")).to_contain_text("≠ now")
    keyboard.press("Alt+a")
    expect(root.locator("table.shared tr.harmed")).to_have_count(2)
    settle(desk.page)
    press(root, "Check")
    expect(root.locator(".vfiosim-verdict").first).to_contain_text("✓ You have broken it. You switched 2 times")
    expect(cells).to_have_count(2)


def test_on_a_small_screen_code_variables_buttons_and_picture_are_seen_together(desk: Desk) -> None:
    root = desk.widget(BEGIN)
    desk.page.set_viewport_size({"width": 1280, "height": 720})
    board = root.locator(".vfiosim-board").first
    board.evaluate("board => board.scrollIntoView({ block: 'start' })")
    for part in (
        panel(root, 0).locator("pre.code .here"),
        panel(root, 1).locator("pre.code .here"),
        root.locator("table.shared"),
        panel(root, 1).get_by_role("button", name="to the end"),
        root.get_by_role("button", name="Next →"),
    ):
        expect(part).to_be_in_viewport()
    expect(root.locator(".vfiosim-player svg.vfiosim-graph")).to_be_in_viewport(ratio=0.99)  # all of the picture
    cut = "board => [...board.querySelectorAll('.line > span')].map(one => one.scrollWidth > one.clientWidth)"
    becomes(board, cut, lambda lines: len(lines) > 5 and not any(lines))


def test_where_a_process_dies_of_a_race_turns_and_table_tell_of_its_threads_and_not_of_its_end():
    witness = PUZZLES["R2"].explore(without=["vfio_device_set.lock"]).counterexample
    assert witness is not None
    first, second, last = turns(witness)
    assert [turn.thread for turn in (first, second, last)] == ["A", "B", "A"]
    assert [touch.value for touch in second.touches if touch.place[1] == "iommufd"] == ["iommufd_ctx 2", "None"]
    assert [touch.value for touch in last.touches if touch.place[1] == "iommufd"] == ["None"]
    said = words(Counterexample(witness).shared.value)
    assert re.search(r"iommufd\s+vfio_device_file 1\s+None\s+read\s+None\s+wrote\s+None", said), said
