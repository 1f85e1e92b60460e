"""The views beside the graph, and how to get about in a trace: each control pressed once, and what it does."""

from __future__ import annotations

import re
from itertools import chain, pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.players import ALL, appearance, at, busy, doors, open_page, press
from tests.toys import House, hold
from tests.traces import bind, keys
from vfiosim.puzzles import PUZZLES
from vfiosim.views import show
from vfiosim.views.brief import Brief
from vfiosim.views.collapse import MOST
from vfiosim.views.counters import counts_over
from vfiosim.views.graph import HIDDEN
from vfiosim.views.lanes import lanes_data
from vfiosim.why import why

pytestmark = pytest.mark.xdist_group("player")


@pytest.fixture
def page(tab: Page) -> Page:
    """One page for all tests here: each opens its own file in it."""
    return tab


# ---- the views

DIM = re.compile(r"\bdim\b")


def test_a_lane_shows_what_its_thread_holds_and_whom_it_waits_for(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors(), step=4))
    expect(player.locator(".scrubber .state").nth(0)).to_have_text("holds door front.lock")
    expect(player.locator(".scrubber .state").nth(1)).to_have_text("waits for door front.lock, held by ann")
    expect(player.locator(".lock.waits")).to_have_text("waits for door front.lock, held by ann")


def test_the_lanes_say_the_same_as_the_states_of_the_trace() -> None:
    trace = doors()
    data = lanes_data(trace, trace.states())
    for number, state in enumerate(trace.states()):
        bars = {(data["names"][bar[0]], bar[1], bar[4]) for bar in data["bars"] if bar[2] <= number < bar[3]}
        locks = {
            (holder, "holds", f"{thing.oid}.{lock}")
            for thing in state.objects.values()
            for lock, holder in thing.locks.items()
            if holder
        }
        waiting = {(one.thread, "waits", str(one).partition(" waits for ")[2]) for one in state.waiting()}
        assert bars == locks | waiting, f"after step {number}"


def test_the_counters_are_those_that_change_and_a_line_follows_the_step(page: Page, tmp_path: Path) -> None:
    trace = bind()
    player = open_page(page, tmp_path, show(trace, views=ALL))
    player.focus()
    line = player.locator(".drawing .cursor")
    places = []
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        places.append(float(line.get_attribute("x1") or "nan"))
    assert places == sorted(set(places))
    for name, values in counts_over(trace, trace.states(), HIDDEN).items():
        expect(player.get_by_role("row", name=re.compile(re.escape(name)))).to_contain_text(str(values[-1][1]))
        expect(player.locator(".drawing text", has_text=name)).to_have_count(1)


def test_each_count_is_drawn_as_a_line_with_its_number_wherever_it_changes(page: Page, tmp_path: Path) -> None:
    trace = keys()
    player = open_page(page, tmp_path, show(trace, step=2, views=ALL))
    row = player.get_by_role("row", name=re.compile("door front.users"))
    expect(row.get_by_role("cell")).to_have_text("1")
    counts = counts_over(trace, trace.states(), HIDDEN)
    expect(player.locator(".drawing .count")).to_have_count(len(counts))
    written = [[name, *(str(value) for _, value in values if value is not None)] for name, values in counts.items()]
    steps = [str(step) for step in range(len(trace) + 1)]
    expect(player.locator(".drawing text")).to_have_text([*chain(*written), *steps])


def test_the_source_shows_the_whole_function_and_the_line_that_runs(page: Page, tmp_path: Path) -> None:
    trace = bind()
    step = trace[10]
    player = open_page(page, tmp_path, show(trace, step=11, views=ALL))
    current = player.locator(".code .current")
    expect(current.locator(".no")).to_have_text(str(step.line))
    expect(current.locator("code")).to_contain_text(step.source)
    expect(player.locator(".code")).to_contain_text(f"async def {step.function}(")
    expect(player.locator(".mirrors")).to_have_text(f"{step.kernel_function}, {step.kernel_file}, v7.2")
    expect(current).to_be_in_viewport()


def test_the_text_of_every_function_is_in_the_data_once() -> None:
    data = show(busy()).data(live=True)
    assert len(set(data["texts"])) == len(data["texts"])
    assert sum("async def iommufd_device_bind(" in text for text in data["texts"]) == 1


DRAWN = {
    "boxes": ".node:not(.off)",
    "rows": ".row:not(.off) :is(.name, .value)",
    "of what is not drawn": ".stub:not(.off) title",
}


def test_the_picture_in_words_has_all_that_is_drawn(page: Page, tmp_path: Path) -> None:
    trace = bind()
    player = open_page(page, tmp_path, show(trace))
    player.focus()
    for _ in range(len(trace) + 1):
        words = player.locator(".words").inner_text()
        drawn = {
            part: player.locator(where).evaluate_all("all => all.map(one => one.dataset.oid ?? one.textContent)")
            for part, where in DRAWN.items()
        }
        assert all(drawn.values()), drawn
        drawn["rows"] = [text.split("→")[-1].strip("– ") for text in drawn["rows"]]
        assert [text for texts in drawn.values() for text in texts if text not in words] == []
        page.keyboard.press("ArrowRight")
    told = [line.split("; ") for line in player.locator(".words li").all_inner_texts()]
    assert told
    assert [line for line in told if len({*line}) < len(line)] == []  # one holder may count in two rows


@pytest.mark.parametrize(
    ("name", "key", "part"),
    [
        ("Picture", "g", ".stage"),
        ("Locks", "l", ".locks"),
        ("Counters", "k", ".counters"),
        ("Details", "i", ".facts"),
        ("Source", "s", ".function"),
        ("As text", "t", ".words"),
    ],
)
def test_each_view_can_be_opened_and_closed(page: Page, tmp_path: Path, name: str, key: str, part: str) -> None:
    player = open_page(page, tmp_path, show(bind(), step=3))
    press(player, name)
    button = player.get_by_role("button", name=name, exact=True)
    player.focus()
    for is_open in (name != "Picture", name == "Picture"):
        expect(button).to_have_attribute("aria-pressed", str(is_open).lower())
        box = player.locator(part).bounding_box()
        assert (box is not None and box["width"] > 5) == is_open
        page.keyboard.press(key)


def test_a_view_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="views are some of graph, lanes, counters, source, details"):
        show(keys(), views=("graph", "sound"))


# ---- getting about


def test_next_and_last_phase_change_and_error(page: Page, tmp_path: Path) -> None:
    trace = doors()
    player = open_page(page, tmp_path, show(trace))
    phases = [
        1,
        *(step.index + 1 for before, step in pairwise(trace) if step.phase != before.phase),
    ]
    refused = next(step.index + 1 for step in trace if step.refused)
    for name, step in (("phase ›", phases[0]), ("phase ›", phases[1]), ("‹ phase", phases[0]), ("error ›", refused)):
        press(player, name)
        at(player, step)
    press(player, "error ›")
    expect(player.get_by_role("alert")).to_have_text(f"There is no error after step {refused}.")
    press(player, "From the start")
    press(player, "change ›")
    changes = show(trace).graph.changes
    at(player, next(step.index + 1 for step in trace if any(changes[step.first + 1 : step.last + 2])))
    press(player, "Last")
    press(player, "‹ change")
    press(player, "‹ error")
    expect(player.get_by_role("alert")).to_contain_text("There is no error before step")


def test_the_key_for_the_next_error_goes_to_what_is_broken(page: Page, tmp_path: Path) -> None:
    found = PUZZLES["R1"].explore(["group_lock"]).counterexample
    assert found is not None
    player = open_page(page, tmp_path, show(found.trace))
    player.focus()
    page.keyboard.press("e")
    at(player, len(found.trace))
    expect(player.locator(".sentence")).to_contain_text(PUZZLES["R1"].happens)
    expect(player.locator(".chip.errno")).to_have_text("✕ broken")
    expect(player.locator(".segment.refused")).to_have_class(re.compile("current"))
    expect(player.locator(".segment.refused")).to_have_text("✕ broken")
    expect(player.locator(".edge.new")).to_have_count(1)  # what it is broken by


def test_speed_can_be_changed_by_keys(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors()))
    press(player, "More ▾")
    player.focus()
    for key, speed in (("+", "fast"), ("+", "fast"), ("-", "normal"), ("-", "slow")):
        page.keyboard.press(key)
        expect(player.get_by_role("combobox", name="Speed")).to_have_value(speed)


def test_eight_keys_are_listed_and_all_of_them_behind_a_word(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors()))
    player.focus()
    page.keyboard.press("?")
    sheet = player.get_by_role("dialog", name="Keys")
    expect(sheet.locator("tr:visible")).to_have_count(8)
    sheet.get_by_text("All keys").click()
    expect(sheet.locator("tr", has_text="next refusal or oops")).to_be_visible()
    box, size = sheet.bounding_box(), page.viewport_size
    assert box is not None
    assert size is not None
    assert 0 <= box["y"] <= size["height"] - box["height"]
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(player).to_be_focused()
    press(player, "Keys ?")
    sheet.get_by_role("button", name="Close").click()
    expect(sheet).to_be_hidden()


# ---- following, asking, comparing, sharing


def test_a_node_is_followed_through_time(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(keys(), step=2))
    player.locator('.node[data-oid="key 1"]').click()
    history = player.get_by_role("list", name="Changes of key 1").get_by_role("button")
    expect(history.first).to_have_text("2. key 1 is there")
    expect(history.filter(has_text="4. key 1 is gone")).to_have_count(1)
    history.filter(has_text="3. held: 0 → 1").click()
    at(player, 3)
    player.focus()
    page.keyboard.press("c")
    at(player, 4)
    page.keyboard.press("Escape")
    expect(player.locator(".following")).to_have_count(0)
    expect(player.locator(".node.picked")).to_have_count(0)


def test_an_arrow_is_followed_through_time_by_mouse_and_by_keyboard(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(keys(), step=2))
    player.locator(".edge:not(.off) .tip").first.click()
    expect(player.locator(".following")).to_contain_text("Following key 1 → door front")
    expect(player.locator(".history")).to_contain_text("− opens it")
    player.focus()
    page.keyboard.press("Escape")
    node = player.locator('.node[data-oid="door front"]')
    node.focus()
    page.keyboard.press("Enter")
    player.locator("summary", has_text="to follow").press("Enter")
    player.get_by_role("button", name="key 1 → door front", exact=True).press("Enter")
    expect(player.locator(".following")).to_contain_text("Following key 1 → door front")


def test_who_holds_what_is_followed_and_is_not_drawn_is_told_by_mouse_and_by_keyboard(
    page: Page, tmp_path: Path
) -> None:
    player = open_page(page, tmp_path, show(bind(), step=-1))
    device = player.locator('.node[data-oid="vfio_device vfio0"]')
    before = player.locator(".stage svg").bounding_box()
    device.locator(".stub").click()
    expect(player.get_by_role("tooltip")).to_have_text("+1 driver vfio-pci (registered): it is not in the picture")
    assert player.locator(".stage svg").bounding_box() == before, "what tells of a number moves nothing"
    expect(player.locator(".following")).to_have_count(0)
    device.focus()
    page.keyboard.press("Enter")
    expect(player.locator(".stubs")).to_have_text("refcount, not drawn: driver vfio-pci (registered)")
    assert player.locator(".stage svg").bounding_box() == before, "nor does what is followed"


def test_nodes_are_reached_by_keyboard(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=-1))
    there = player.locator(".node:not(.off)")
    assert there.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
    there.first.focus()
    page.keyboard.press("ArrowDown")
    expect(there.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(there.first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowLeft")
    at(player, len(bind()) - 1)


def test_why_is_it_alive_has_the_answer_of_python_at_every_step(page: Page, tmp_path: Path) -> None:
    for trace in (bind(), keys(), busy(1)):
        player = open_page(page, tmp_path, show(trace))
        names = [node.oid for node in show(trace).graph.nodes if not node.oid.startswith("thread ")]
        for step, state in enumerate(trace.states()):
            alive = [name for name in names if name in state.objects]
            player.evaluate("(root, step) => root.vfiosim.goTo(step)", step)
            for name, text in player.evaluate("(root, all) => all.map(one => [one, root.vfiosim.why(one)])", alive):
                assert sorted(text.split("\n")) == sorted(str(why(state, name)).split("\n")), f"step {step}"


def test_the_question_is_asked_with_a_button_or_a_key(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(keys(), step=3))
    player.focus()
    page.keyboard.press("w")
    expect(player.get_by_role("alert")).to_contain_text("Choose a node first")
    player.locator('.node[data-oid="key 1"]').click()
    player.get_by_role("button", name="Why is it alive?").click()
    expect(player.locator(".why")).to_have_text("key 1 is kept alive by 1 reference (held):person ann (key 1)")
    player.focus()
    page.keyboard.press("End")
    expect(player.locator(".why")).to_have_text("key 1 is not alive here.")
    page.keyboard.press("w")
    expect(player.locator(".why")).to_have_text("")


def test_the_ways_that_keep_it_alive_are_lit_in_the_picture_and_told_in_words(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=-1))
    player.locator('.node[data-oid="iommufd_device 1"] .title').click()
    player.get_by_role("button", name="Why is it alive?").click()
    told = player.locator(".why")
    expect(told).to_contain_text("iommufd_device 1 is kept alive by")
    expect(told).to_contain_text("iommufd_ctx 1 (has its ID), held by file iommu#1 (owns it), held by descriptor 4 of")
    file, group = (player.locator(f'.node[data-oid="{name}"]') for name in ("file iommu#1", "iommu_group 1"))
    expect(file).not_to_have_class(DIM)
    expect(group).to_have_class(DIM)
    player.get_by_role("button", name="Why is it alive?").click()
    expect(group).not_to_have_class(DIM)


def test_what_a_step_has_looked_at_and_changed_is_shown_as_changed(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind()))
    seen = 0
    for step in range(1, len(bind()) + 1):
        player.evaluate("(root, step) => root.vfiosim.goTo(step)", step)
        fills = player.evaluate(
            """root => ['.row.changed.read', '.row.changed:not(.read)'].map(which =>
            [...root.querySelectorAll(`${which} > .bar`)].map(bar => getComputedStyle(bar).fill))"""
        )
        both, changed = fills
        seen += len(both)
        assert len({*both, *changed}) <= 1
    assert seen


def test_any_two_steps_can_be_compared(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(keys()))
    press(player, "Compare")
    player.focus()
    page.keyboard.press("3")
    facts = player.locator(".compared li")
    expect(facts.filter(has_text="key 1 is there")).to_have_count(1)
    expect(facts.filter(has_text="door front.users: 0 → 1")).to_have_count(1)
    expect(player.locator('.node.new[data-oid="key 1"]')).to_have_count(1)
    field = player.get_by_role("spinbutton", name="Compare with step")
    field.fill("4")
    field.press("Enter")
    expect(player.locator(".chip.base")).to_have_text("against step 4")
    expect(facts.filter(has_text="door front.users: 0 → 1")).to_have_count(1)
    field.fill("77")
    field.press("Enter")
    expect(player.get_by_role("alert")).to_have_text("There is no step 77: write 0 to 4.")
    player.focus()
    page.keyboard.press("d")
    expect(facts).to_have_count(0)
    expect(player.locator(".node.new")).to_have_count(0)


def test_a_step_is_shared_as_a_text_that_leads_back_to_it(page: Page, tmp_path: Path) -> None:
    from vfiosim.replay import replay

    trace = bind()
    player = open_page(page, tmp_path, show(trace, step=5))
    press(player, "Share")
    text = player.get_by_role("textbox", name="Text to share").input_value()
    found = re.fullmatch(r'replay\("(.*)"\)', text)
    assert found
    again = replay(found[1])
    assert again.step
    assert again.trace[again.step - 1].sentence == trace[4].sentence


def test_what_is_broken_is_shared_as_the_step_that_broke_it(page: Page, tmp_path: Path) -> None:
    from vfiosim.replay import replay

    found = PUZZLES["R1"].explore(["group_lock"]).counterexample
    assert found is not None
    player = open_page(page, tmp_path, show(found.trace, step=-1))
    press(player, "Share")
    text = player.get_by_role("textbox", name="Text to share").input_value()
    again = replay(text.removeprefix('replay("').removesuffix('")'))
    assert again.step == len(again.trace)
    assert PUZZLES["R1"].happens in again._repr_mimebundle_()["text/html"]


def test_what_cannot_be_shared_has_no_such_button(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors()))
    player.get_by_role("button", name="More").click()
    expect(player.get_by_role("button", name="Share")).to_have_count(0)
    player.focus()
    page.keyboard.press("y")
    expect(player.get_by_role("alert")).to_contain_text("cannot be made again")


def test_the_page_can_name_the_step_to_open_at(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, show(keys()))
    page.goto("about:blank")
    page.goto((tmp_path / "page.html").as_uri() + "#step=3")
    at(page.locator(".vfiosim-player"), 3)


def test_the_lines_of_a_log_lead_to_their_steps(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, show(keys(), log=[("the first", 1), ("of no step", 0), ("the third", 3)]))
    log = page.locator(".vfiosim-log")
    expect(log.get_by_role("button")).to_have_text(["the first", "the third"])
    log.get_by_role("button", name="the third").click()
    at(page.locator(".vfiosim-player"), 3)


# ---- for a room, and for odd names


def test_for_a_room_there_are_large_letters_few_nodes_no_code_and_only_keys(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    made = show(busy(), step=30, presenter=True)
    player = open_page(page, tmp_path, made)
    assert len(made.graph.nodes) <= MOST
    expect(player.get_by_role("button", name="Next →")).to_have_count(0)
    expect(player.locator(".source:visible, .code:visible, .kernel:visible")).to_have_count(0)
    sizes = player.evaluate(
        """root => [...root.querySelectorAll('.say *, .scrubber .name, .segment, .scrubber .state')]
            .filter(one => one.getClientRects().length).map(one => parseFloat(getComputedStyle(one).fontSize))"""
    )
    scale = page.evaluate("document.querySelector('.stage svg').getScreenCTM().a")
    assert min([*sizes, 16 * scale]) >= 20
    player.focus()
    page.keyboard.press("ArrowRight")
    at(player, 31)
    expect(player.locator(".chip.place")).to_have_text(f"31 / {len(busy())}")


def test_a_group_is_one_box_that_counts_its_living_objects() -> None:
    trace = busy()
    plain, merged = show(trace).graph, show(trace, collapse=["file", ("vfio_group", "iommu_group")]).graph
    assert len(plain.nodes) > MOST
    box = next(node for node in merged.nodes if node.label == "file")
    members = [node for node in plain.nodes if node.kind == "file"]
    assert box.kind == f"+{len(members)}"
    assert not [node for node in merged.nodes if node.kind == "file"]
    for number in range(len(plain.changes)):
        living = sum(plain.frame(number).get(node.key) == "alive" for node in members)
        assert merged.frame(number).get(f"{box.key}r0", "0") == str(living)
    assert len(show(keys(), collapse=["door", "person"]).graph.nodes) == len(show(keys()).graph.nodes)


def test_what_is_collapsed_is_drawn_in_the_page_as_in_python(page: Page, tmp_path: Path) -> None:
    made = show(busy(), collapse=["file"])
    player = open_page(page, tmp_path, made)
    for step in (0, 20, 60, 10):
        player.evaluate("(root, step) => root.vfiosim.goTo(step)", step)
        drawn = page.evaluate("document.querySelector('.stage svg').outerHTML")
        assert appearance(drawn) == appearance(made.svg(step))


def test_a_reason_of_a_thousand_letters_is_cut_in_the_picture_and_stays_text(page: Page, tmp_path: Path) -> None:
    house = House()
    long = "<script>window.hacked = 1</script>\"'" + "x" * 1000
    house.run(hold(house.door.users, house.person, long))
    player = open_page(page, tmp_path, show(house.trace, step=-1, views=ALL))
    expect(player.locator(".row-pointer:not(.off) .name")).to_have_text(re.compile(r"^<script>.*…$"))
    expect(player.locator(".changes")).to_be_visible()
    box = player.locator(".stage svg").bounding_box()
    assert box
    assert box["height"] > 60
    player.locator(".node").first.click()
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_when_the_node_with_the_focus_goes_the_keys_still_work(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(keys(), step=3))
    player.locator('.node[data-oid="key 1"]').focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    at(player, 1)


def test_later_calls_of_a_lane_stay_in_it() -> None:
    result = PUZZLES["R5"].explore(PUZZLES["R5"].without)
    assert result.counterexample is not None
    trace = result.counterexample.trace
    assert [step.thread for step in trace].count("B#2") > 0
    assert lanes_data(trace, trace.states())["names"] == ["A", "B"]


def test_who_takes_finer_steps_than_those_of_a_walk_sees_every_field_and_a_walk_begins_brief(
    page: Page, tmp_path: Path
) -> None:
    trace = bind()
    brief = Brief({"fds": (), "file vfio0#*": ("access_granted",), "vfio_device vfio0": ("open_count",)})
    player = open_page(page, tmp_path, show(trace, walk=("vmm calls", "The gate opens"), brief=brief))
    player.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    stop = next(step.index + 1 for step in trace if step.sentence.startswith("The gate opens"))
    at(player, stop)
    expect(player.locator(".row .name", has_text="cdev_opened")).to_have_count(0)
    expect(player.locator(".row.changed .name")).to_have_text(["open_count", "access_granted"])
    player.locator('.node[data-oid="vfio_device vfio0"]').click()
    expect(player.locator(".following")).to_contain_text("Following vfio_device vfio0")
    expect(player.locator(".row .name", has_text="cdev_opened")).to_have_count(0)
    page.keyboard.press("n")
    at(player, stop + 1)
    expect(player.locator(".row .name", has_text="cdev_opened")).to_have_count(1)
    expect(player.get_by_role("alert")).to_contain_text("Now with every box and every field.")
    whole = player.get_by_role("button", name="All fields", exact=True)
    expect(whole).to_have_attribute("aria-pressed", "true")
    whole.click()
    at(player, stop)
    expect(player.locator(".row .name", has_text="cdev_opened")).to_have_count(0)
    player.get_by_role("slider", name="Step").click(position={"x": 200, "y": 9})
    at(player, 1)
    expect(player.locator(".row .name", has_text="cdev_opened")).to_have_count(0)
