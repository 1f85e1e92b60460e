"""The page of all notebooks: a picture from a run for each, what it is for, how long it takes, and how much of it is done."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from vfiosim.lab.record import progress
from vfiosim.lessons.course import index, notebooks
from vfiosim.lessons.lesson import lessons


@pytest.fixture(scope="module")
def shown():
    return index()


def test_each_notebook_has_a_picture_that_is_like_no_other_and_a_link_to_a_file_that_is_there(shown):
    figures = re.findall(r"<figure>(.*?)</figure>", shown.shown.value, re.DOTALL)
    pictures = [re.sub(r"v[0-9a-f]{8}", "", one.partition("<figcaption>")[0].partition("<svg")[2]) for one in figures]
    assert len({*pictures}) == len(notebooks()) == len(figures)
    links = re.findall(r'<figcaption><a href="(.*?)"', shown.shown.value)
    assert links == [f"{stem}.ipynb" for stem in notebooks()]
    assert all((ROOT / "notebooks" / link).is_file() for link in links)


def test_the_letters_of_each_picture_can_be_read_in_a_card_of_545_by_200_pixels(shown):
    sizes = re.findall(r'<svg[^>]* width="(\d+)" height="(\d+)"', shown.shown.value)
    assert len(sizes) == len(notebooks())
    assert min(16 * min(545 / int(width), 200 / int(height)) for width, height in sizes) >= 8


def test_what_is_done_is_brought_up_to_date_with_every_answer(shown, tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    first, *others = lessons()[0].exercises
    progress.record(first, True)
    assert f"00 start · 10 minutes · 1 of {len(others) + 1} done" in shown.message
    for name in others:
        progress.record(name, True)
    assert f"✓ all {len(others) + 1} done" in shown.message
    assert "90 sandbox · as long as you like Then you can ask" in shown.message


def test_the_page_without_a_kernel_has_the_same_cards(shown):
    assert shown.static_html().count("<figure>") == len(notebooks())
    assert (
        '<div class="vfiosim-lab">' in shown.static_html()
    )  # which has the colours, so that a dark page has no white boxes
    assert shown.in_words().count("Then you can") == len(notebooks())
