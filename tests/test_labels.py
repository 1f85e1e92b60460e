"""In the pictures of the lessons every label can be told from what is around it."""

from __future__ import annotations

import pytest

from tests.pictures import covering, of_benches, of_questions, of_session, of_tasks
from vfiosim.lessons import start
from vfiosim.views.layout import LEGIBLE

pytestmark = [pytest.mark.xdist_group("pictures"), pytest.mark.one_python]  # they are made once for all tests


def test_in_the_pictures_of_questions_and_tasks_no_label_covers_another_arrow_a_box_or_a_label():
    many, found = covering([*of_questions(), *of_tasks()])
    assert many > 30
    assert found == {}


def test_on_the_benches_of_the_lessons_labels_cover_next_to_nothing_although_things_stay_where_they_are():
    many, found = covering(of_benches())
    assert many > 10
    assert len(found) <= 3, found


def test_in_the_first_picture_of_all_no_label_covers_anything():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    assert covering([("first", bench.stage.player.player)]) == (1, {})
    assert bench.stage.player.player.layout.scale >= LEGIBLE


# Of so many sessions: pictures, and labels that cover something (14 in all sessions before labels could stand farther off).
@pytest.mark.parametrize(
    ("seeds", "pictures", "most"),
    [(range(0, 24, 5), 20, 2), pytest.param(range(24), 150, 8, marks=pytest.mark.nightly)],
    ids=["some", "all"],
)
def test_on_a_free_bench_labels_cover_next_to_nothing(seeds: range, pictures: int, most: int):
    many, found = covering(picture for seed in seeds for picture in of_session(seed))
    assert many >= pictures
    assert len(found) <= most, found
