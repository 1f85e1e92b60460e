"""One scale of letters and one set of colours for everything that is shown: both stand in one file."""

from __future__ import annotations

import re

import pytest

from vfiosim.assets import asset

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


def test_in_the_dark_no_colour_is_forgotten() -> None:
    """The system's dark and JupyterLab's dark change the same colours, but for those that JupyterLab gives itself."""
    text = asset("tokens.css").read_text("utf-8")
    lab, system = (
        {*re.findall(r"(--vfiosim-[\w-]+):", block)}
        for block in re.findall(r"body[^{]*\{([^}]*color-scheme: dark;)", text)
    )
    given = {f"--vfiosim-{name}" for name in ("ink", "paper", "soft", "line")}
    assert system == lab | given
