"""One scale of letters and one set of colours for everything that is shown: both stand in one file."""

from __future__ import annotations

import re
from itertools import combinations
from math import dist

import pytest

from vfiosim.assets import asset, palette, style_sheet
from vfiosim.engine import Phase
from vfiosim.lessons import start
from vfiosim.views.player import styles

SHEETS = ("player.css", "lab.css", "questions.css", "schedule.css")


def rules(name: str) -> str:
    """What a sheet says, without its comments and what is drawn in a picture's own units."""
    text = re.sub(r"/\*.*?\*/", "", asset(name).read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"[^}]*\.stage [^{]*{[^}]*}", "", text)


@pytest.mark.parametrize("name", SHEETS)
def test_letters_have_one_of_the_sizes_of_the_scale(name: str) -> None:
    sizes = re.findall(r"font(?:-size)?:([^;}]*)", rules(name))
    assert sizes
    assert [size for size in sizes if re.search(r"\dpx", size)] == []


@pytest.mark.parametrize("name", SHEETS)
def test_every_name_of_the_scale_is_one_that_there_is(name: str) -> None:
    known = {*re.findall(r"(--vfiosim-[\w-]+):", asset("tokens.css").read_text("utf-8"))}
    assert {*re.findall(r"var\((--vfiosim-[\w-]+)", rules(name))} <= known


@pytest.mark.parametrize("name", SHEETS)
def test_a_text_that_keeps_its_lines_breaks_no_word_that_fits_into_one(name: str) -> None:
    """JupyterLab breaks the words of every <pre> of an output anywhere: who wraps one has to say otherwise."""
    wrapped = re.findall(r"\bpre[\w.-]* {([^}]*white-space: pre-wrap[^}]*)}", rules(name))
    assert [each for each in wrapped if "word-break: normal" not in each] == []


def test_in_the_dark_no_colour_is_forgotten() -> None:
    """The system's dark and JupyterLab's dark change the same colours, but for those that JupyterLab gives itself."""
    text = asset("tokens.css").read_text("utf-8")
    lab, system = (
        {*re.findall(r"(--vfiosim-[\w-]+):", block)}
        for block in re.findall(r"body[^{]*\{([^}]*color-scheme: dark;)", text)
    )
    given = {f"--vfiosim-{name}" for name in ("ink", "paper", "soft", "line")}
    assert system == lab | given


# ---- one palette, in which a colour means one thing

EYES = {  # what is left of a colour, by Machado, Oliveira and Fernandes (2009), severity 1.0
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no green": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "no red": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "no blue": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
MARKS = ("changed", "looked-at", "harm")


def linear(colour: str) -> list[float]:
    whole = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in whole]


def perceived(colour: str, eyes: str) -> tuple[float, float, float]:
    """A colour in CIELAB, as such eyes see it."""
    r, g, b = (
        min(1.0, max(0.0, sum(a * part for a, part in zip(row, linear(colour), strict=True)))) for row in EYES[eyes]
    )
    tones = (0.434 * r + 0.376 * g + 0.190 * b, 0.213 * r + 0.715 * g + 0.072 * b, 0.018 * r + 0.109 * g + 0.873 * b)
    x, y, z = (tone ** (1 / 3) if tone > 0.009 else 7.787 * tone + 16 / 116 for tone in tones)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("eyes", EYES)
def test_a_change_a_look_harm_and_the_phases_have_colours_that_nothing_else_has(eyes: str) -> None:
    seen = {name: perceived(colour, eyes) for name, colour in palette().items()}
    phases = [name for name in seen if name.startswith("phase-")]
    pairs = [(one, other) for one in MARKS for other in seen if other != one] + [*combinations(phases, 2)]
    assert len(phases) == len(Phase)
    assert [pair for pair in pairs if dist(*(seen[name] for name in pair)) < 10] == []


@pytest.mark.parametrize("name", ["graph.css", *SHEETS])
def test_no_sheet_has_a_colour_of_its_own(name: str) -> None:
    text = re.sub(r"/\*.*?\*/", "", asset(name).read_text("utf-8"), flags=re.DOTALL)
    assert {*re.findall(r"#[0-9a-f]{3,8}\b", text)} <= {"#000", "#111", "#222", "#444", "#777", "#888", "#fff", "#0006"}


def test_letters_on_a_phase_can_be_read() -> None:
    sheet = asset("tokens.css").read_text("utf-8")
    phases = re.findall(r"--phase: var\(--(phase-\w+)\); --on-phase: (#\w+)", sheet)
    assert [name for name, _ in phases] == [f"phase-{name}" for name in re.findall(r"\.phase-(\w+) {", sheet)] != []
    for name, letters in phases:
        ground = sum(a * part for a, part in zip((0.2126, 0.7152, 0.0722), linear(palette()[name]), strict=True))
        light, dark = sorted((ground, 1.0 if letters == "#fff" else 0.0), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def test_dashes_on_an_arrow_mean_that_it_holds_nothing_and_nothing_else() -> None:
    rules = re.findall(r"([^{}]*\.line)\s*{([^}]*)}", asset("graph.css").read_text("utf-8"))
    dashed = [selector.strip() for selector, rule in rules if "stroke-dasharray" in rule]
    assert dashed == [".vfiosim-graph .weak .line", ".vfiosim-graph .waits .line"]


@pytest.mark.parametrize("name", [*SHEETS, "sandbox.css"])
def test_paper_is_that_of_the_page_in_light_and_in_the_dark(name: str) -> None:
    assert re.findall(r"background[^:;]*:\s*(?:#fff\w*|white)\b", rules(name)) == []


def test_the_page_of_a_player_has_the_style_of_its_pictures_once_and_a_picture_of_its_own_has_it_in_itself() -> None:
    player = start.first_bind().trace_pane.player.player
    assert "<style" not in player.data()["svg"]
    assert style_sheet("graph.css") in styles()
    assert style_sheet("graph.css") in player.svg()
