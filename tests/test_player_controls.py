"""Every control of the player after every other one; and which keys are for the player, which for the page around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.players import at, open_page, press
from tests.toys import House, make_key
from tests.traces import bind, keys
from tests.turns import DAY
from vfiosim.trace import Trace
from vfiosim.views import show

pytestmark = pytest.mark.xdist_group("player")

DAYS = 6  # after which all pairs have been pressed
# The controls are those that the page has: one of each kind of what can be pressed, and each key of the list behind "?".
# After each pair the player must still step; a change looks at a sixth of them, which tomorrow is another one, a night at all.
# Returns the controls and what went wrong: first control, second, what happened.
PAIRS = """([root, whole, number, days]) => {
    const find = selector => [...root.querySelectorAll(selector)].find(part => !part.closest('[hidden], [inert], .off'));
    const press = part => {
        if (part.matches('select')) part.selectedIndex = 0;
        if (part.matches('input')) part.value = 1;
        if (part.matches('[role=slider]')) {
            const {left, width} = part.getBoundingClientRect();
            part.dispatchEvent(new PointerEvent('pointerdown', {pointerId: 1, clientX: left + width / 2, bubbles: true}));
        }
        part.dispatchEvent(part.matches('select, input') ? new Event('change') : new MouseEvent('click', {bubbles: true}));
    };
    const type = (key, shiftKey) => {
        const at = root.contains(document.activeElement) ? document.activeElement : root;
        at.dispatchEvent(new KeyboardEvent('keydown', {key, shiftKey, bubbles: true, cancelable: true}));
    };
    const kind = part => {
        if (part.dataset.do) return `[data-do=${part.dataset.do}]`;
        if (part.ownerSVGElement) return `.${part.classList[0]}`;
        const {parentElement} = part, owner = parentElement.closest('[class]:not([class=""])');
        return `.${owner.classList[0]} ${owner === parentElement ? '' : parentElement.localName} > ${part.localName}`;
    };
    // What a reader does who looks for a control: close what lies over it, unfold what is folded, end the mode of a room, go
    // to the end, follow a node.
    const look = () => {
        const close = find('[role=dialog] > button');
        if (close) press(close);
        const folded = '[data-do=more][aria-expanded=false]', closed = '[data-do][aria-pressed=false]:not([data-do=compare])';
        for (const one of root.querySelectorAll(whole ? `${folded}, ${closed}` : folded)) press(one);
        const room = find('[data-do=room][aria-pressed=true]');
        if (room) press(room);
        press(find('[data-do=last]'));
        if (!find('.node[aria-pressed=true]')) press(find('.node'));
    };
    const all = new Map();
    const learn = before => {
        const pressed = 'button, input, select, summary, .node, .edge, [role=slider], ol > *';
        for (const part of root.querySelectorAll(pressed)) {
            const name = kind(part);
            if (!all.has(name) && find(name)) all.set(name, () => {
                if (!find(name)) look();
                if (!find(name)) all.get(before)();
                press(find(name));
            });
        }
    };
    look();
    learn();
    for (const [name, act] of [...all]) { look(); act(); learn(name); } // what comes up with a press, too
    const symbols = {'→': 'ArrowRight', '←': 'ArrowLeft', '−': '-', 'Space': ' ', '0–9': '1'};
    for (const {textContent} of whole ? root.querySelectorAll('[role=dialog] kbd') : []) {
        const shift = textContent.startsWith('Shift '), told = textContent.replace('Shift ', '');
        const key = symbols[told] || (shift ? told.toUpperCase() : told);
        if (!key.includes(',')) all.set(`key ${textContent}`, () => type(key, shift));
    }
    const wrong = [];
    let pair = [];
    window.addEventListener('error', event => { wrong.push([...pair, event.message]); event.preventDefault(); });
    for (const [one, first] of all) for (const [other, second] of all) {
        if (!whole && number++ % days) continue;
        pair = [one, other];
        try { first(); second(); } catch (error) { wrong.push([...pair, `${error}`]); }
        if (!find('[data-do=first]')) look();
        press(find('[data-do=first]'));
        const start = root.dataset.step;
        press(find('[data-do=next]'));
        if (start !== '0' || root.dataset.step !== '1') wrong.push([...pair, `at ${start}, then at ${root.dataset.step}`]);
    }
    return [[...all.keys()], wrong];
}"""


def assert_all_pairs_work(page: Page, folder: Path, trace: Trace, whole: bool) -> None:
    player = open_page(page, folder, show(trace))
    controls, wrong = page.evaluate(PAIRS, [player.element_handle(), whole, DAY % DAYS, DAYS])
    assert wrong == []
    missed = player.locator("button, input, select, summary").evaluate_all(
        "all => all.map(one => one.dataset.do).filter(Boolean)"
    )
    assert {f"[data-do={name}]" for name in missed} - {*controls} <= {
        "[data-do=all]",
        "[data-do=share]",
    }  # toys are shown as a whole, and cannot be shared
    assert len(controls) > 30


def test_the_player_steps_after_every_sixth_pair_of_its_controls(tab: Page, tmp_path: Path) -> None:
    house = House()
    house.run(make_key(house.person, house.door))
    assert_all_pairs_work(tab, tmp_path, house.trace, whole=False)


@pytest.mark.nightly
def test_the_player_steps_after_every_pair_of_controls_and_keys_with_all_views_open(tab: Page, tmp_path: Path) -> None:
    assert_all_pairs_work(tab, tmp_path, bind(), whole=True)


# ---- keys

HEARD = """() => {
    window.heard = [];
    document.addEventListener('keydown', event => window.heard.push(event.key));
}"""


def test_a_key_inside_the_player_does_not_reach_the_page_around_it(tab: Page, tmp_path: Path) -> None:
    player = open_page(tab, tmp_path, show(keys(), step=2))
    tab.evaluate(HEARD)
    press(player, "More ▾")
    field = player.get_by_role("spinbutton", name="Go to step")
    for place in (player, player.get_by_role("button", name="Next →"), player.locator(".node:not(.off)").first, field):
        place.focus()
        for key in ("a", "b", "x", "z", "Z", "Enter", "Delete", "Backspace", "ArrowDown", "Escape", "+", "PageUp"):
            tab.keyboard.press(key)
    assert tab.evaluate("window.heard") == []
    field.focus()
    tab.keyboard.type("3")
    tab.keyboard.press("Enter")
    at(player, 3)


def test_what_browser_and_system_listen_to_goes_through_the_player(tab: Page, tmp_path: Path) -> None:
    player = open_page(tab, tmp_path, show(keys(), step=2))
    tab.evaluate(HEARD)
    player.focus()
    for chord in ("Control+b", "Meta+b", "Alt+b", "F2", "Tab"):
        tab.keyboard.press(chord)
    heard = tab.evaluate("window.heard")
    assert [key for key in heard if len(key) == 1 or key in ("F2", "Tab")] == ["b", "b", "b", "F2", "Tab"]
    expect(player).not_to_be_focused()


def test_next_goes_along_a_walk_and_n_step_by_step(page: Page, tmp_path: Path) -> None:
    trace = bind()
    walk = [trace[step].sentence for step in (0, 4, 12)]
    player = open_page(page, tmp_path, show(trace, walk=walk))
    player.focus()
    for step in (1, 5, 13, len(trace), len(trace)):
        page.keyboard.press("ArrowRight")
        at(player, step)
    page.keyboard.press("ArrowLeft")
    at(player, 13)
    changed = player.locator(".row.changed")
    several = changed.count()
    page.keyboard.press("N")
    at(player, 12)
    page.keyboard.press("n")
    at(player, 13)
    assert changed.count() == several > 3  # all that changed since step 5


OPEN_ALL = """() => {
    document.querySelector('[data-do=more]').click();
    const closed = '[data-do][aria-pressed=false]:not([data-do=compare], [data-do=room])';
    for (const one of document.querySelectorAll(closed)) one.click();
}"""
STEPS = "() => { for (let n = 0; n < 12; n++) document.querySelector('[data-do=next]').click(); }"


def test_with_all_views_open_steps_that_follow_each_other_make_the_browser_lay_the_page_out_once(
    tab: Page, tmp_path: Path
) -> None:
    player = open_page(tab, tmp_path, show(bind()))
    tab.evaluate(OPEN_ALL)
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")

    def layouts() -> int:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return int(next(one["value"] for one in metrics if one["name"] == "LayoutCount"))

    before = layouts()
    tab.evaluate(STEPS)
    at(player, 12)
    assert layouts() - before < 6
    player.locator(".code").scroll_into_view_if_needed()
    expect(player.locator(".line.current")).to_be_in_viewport()  # of the code, too, which was scrolled
    session.detach()
