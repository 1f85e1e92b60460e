"""What is typed into the lab: Tab and Enter in an editor, and letters that JupyterLab would take for commands."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.desk import Desk, button, press
from vfiosim.views.script import script

# A page to which the editor's widget is added while its place is not there yet, as in a cell that is restored or scrolled away.
LATE = f"""async () => {{
    const module = URL.createObjectURL(new Blob([{json.dumps(script("editor.js"))}], {{ type: "text/javascript" }}));
    const widget = (await import(module)).default, el = document.createElement("div");
    await widget.initialize?.({{ model: {{}} }});
    el.style.display = "none";
    await widget.render({{ el, model: {{}} }});
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    const lab = '<div class="vfiosim-lab"><div class="vfiosim-editor"><textarea></textarea></div><button>on</button></div>';
    document.body.innerHTML = lab;
    document.body.firstChild.append(el);
}}"""


@pytest.fixture
def editor(tab: Page) -> Locator:
    """An editor that came to the page after its script."""
    tab.goto("about:blank")
    tab.evaluate(LATE)
    return tab.locator("textarea")


def test_tab_indents_in_an_editor_whose_place_comes_after_its_script_and_its_lines_are_numbered(
    editor: Locator,
) -> None:
    expect(editor).to_have_attribute("data-lines", "0,1")
    editor.fill("pass")
    editor.press("Home")
    editor.press("Tab")
    expect(editor).to_have_value("    pass")
    editor.press("Shift+Tab")
    expect(editor).to_have_value("pass")
    expect(editor).to_be_focused()


def test_enter_keeps_the_indentation_and_goes_deeper_after_a_colon(editor: Locator) -> None:
    editor.fill("    if open:")
    editor.press("Enter")
    editor.press_sequentially("close()")
    editor.press("Enter")
    editor.press_sequentially("again()")
    expect(editor).to_have_value("    if open:\n        close()\n        again()")


def test_tab_moves_all_the_lines_that_are_selected(editor: Locator) -> None:
    editor.fill("a\n  b\nc")
    editor.evaluate("field => field.setSelectionRange(0, 4)")
    editor.press("Tab")
    expect(editor).to_have_value("    a\n      b\nc")
    editor.press("Shift+Tab")
    expect(editor).to_have_value("a\n  b\nc")


def test_on_a_control_of_the_lab_a_letter_is_no_command_of_jupyterlab_and_home_and_end_are_for_the_picture(
    desk: Desk,
) -> None:
    root = desk.widget("from vfiosim.lab import Sandbox\nSandbox()")
    cells = desk.page.locator(".jp-Notebook .jp-Cell")
    expect(cells).to_have_count(2)
    press(root, "open iommufd")  # the form turns to the new descriptor
    for key, state in (("Home", "next"), ("End", "back")):
        button(root, "open iommufd").press(key)
        expect(root.locator(f"[data-do={state}]")).to_be_enabled()
        expect(root.locator(f"[data-do={'back' if state == 'next' else 'next'}]")).to_be_disabled()
    controls = [
        button(root, "open iommufd"),
        root.get_by_label("path", exact=True),
        root.get_by_label("call", exact=True),  # a list takes letters as the beginnings of its lines
    ]
    root.get_by_label("on", exact=True).select_option("no descriptor")
    for control in controls:
        control.focus()
        for key in ("x", "b", "m", "d", "d"):
            control.press(key)
    expect(root.get_by_label("call", exact=True)).to_be_focused()
    expect(cells).to_have_count(2)
    expect(desk.page.locator(".jp-Notebook .jp-MarkdownCell")).to_have_count(0)


def test_an_editor_has_a_number_for_each_of_its_lines_whoever_writes_them(editor: Locator) -> None:
    editor.fill("a\nb\nc")
    expect(editor).to_have_attribute("data-lines", "0,1,2,3")
    editor.press("End")
    editor.press("Enter")
    expect(editor).to_have_attribute("data-lines", "0,1,2,3,4")
    editor.evaluate("field => { field.value = 'a' }")  # as the kernel does
    expect(editor).to_have_attribute("data-lines", "0,1")
