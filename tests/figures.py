"""Which colours of a plot read on a light page and on a dark one."""

from __future__ import annotations

import re
from typing import Any

from vfiosim.lessons.figures import ON_COLOUR

PAGES = ("#ffffff", "#111111")  # of JupyterLab
FAINT = {"#808080", "#b0b0b0"}  # where nothing is, and the lines behind a plot


def luminance(colour: str) -> float:
    """How bright it is, as WCAG reckons."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, brighter = sorted((luminance(one), luminance(other)))
    return (brighter + 0.05) / (darker + 0.05)


def unreadable(plot: Any) -> list[set[str]]:
    """The colours of each shape and text that does not read on both pages, and has no outline that does."""
    svg = plot._repr_html_().partition("<svg")[2]
    painted = [{*re.findall(r"(?:fill|stroke): ([#\w]+)", style)} for style in re.findall(r'style="([^"]*)"', svg)]
    drawn = [one - {"none", ON_COLOUR} - FAINT for one in painted]
    assert any("#" in "".join(one) for one in drawn)
    return [
        one for one in drawn if "currentColor" not in one and any(contrast(c, page) < 3 for c in one for page in PAGES)
    ]
