"""The plots of the lessons read on a light page and on a dark one; the ladder of 03 has its test there."""

from __future__ import annotations

import pytest

from tests.figures import contrast, unreadable
from vfiosim.lessons import address_spaces, closing, unwinding, vms
from vfiosim.lessons.figures import BLUE, ON_COLOUR, ORANGE

PLOTS = {
    "04": lambda: unwinding.pyramid(8, unwinding.JO["lost VM"]),
    "05": lambda: closing.plot("fork", "mmap", "unbind"),
    "07": lambda: vms.strip("add 1", "bind", "add 2"),
    "09": lambda: address_spaces.plot("map", "map", "attach"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_all_that_is_drawn_has_a_colour_that_reads_on_light_and_on_dark_or_an_outline_that_does(name):
    assert unreadable(PLOTS[name]()) == []


def test_letters_on_a_colour_read():
    assert min(contrast(ON_COLOUR, colour) for colour in (BLUE, ORANGE)) >= 4.5
