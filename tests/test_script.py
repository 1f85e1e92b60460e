"""The player's modules, joined into one text, as claims. That the text runs is what every browser test says."""

from __future__ import annotations

import re

from tests.conftest import ROOT
from vfiosim.views.script import script, terse

ENTRIES = ("widget.js", "presents.js", "inline.js", "chips.js", "editor.js", "scheduler.js", "ordering.js", "panes.js")
MODULES = sorted((ROOT / "assets" / "player").glob("*.js"))


def own_names(text: str) -> list[str]:
    return re.findall(r"^(?:export )?(?:async )?(?:class|function|const|let) (\w+)", text, re.MULTILINE)


def test_every_module_is_needed_and_stands_in_the_script_once() -> None:
    joined = [own_names(script(entry)) for entry in ENTRIES]
    for module in MODULES:
        for name in own_names(module.read_text("utf-8")):
            assert max(names.count(name) for names in joined) == 1, f"{name} of {module.name}"


def test_no_name_stands_at_the_top_of_two_modules() -> None:
    names = [name for module in MODULES for name in own_names(module.read_text("utf-8"))]
    assert sorted(names) == sorted(set(names))


def test_the_joined_script_imports_nothing_and_a_page_carries_no_code_of_a_widget() -> None:
    assert not re.search(r"^(import|export) ", script("inline.js"), re.MULTILINE)
    assert re.findall(r"^(?:import|export) .*", script("widget.js"), re.MULTILINE) == ["export default {"]
    assert "save_changes" not in script("inline.js")


def test_a_page_is_spared_comments_and_the_ends_of_lines_that_end_nothing() -> None:
    text = terse('const a = "http://x"; // said\n  // whole\n  go(a);\n')
    assert text == 'const a = "http://x";go(a);'
    assert terse("let a = {\n  b,\n}\nc()\n") == "let a = {b,}\nc()\n"
    assert not re.search(r"""(["'`])[^"'`\n]* // [^"'`\n]*\1""", script("inline.js"))
