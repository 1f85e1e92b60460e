"""What takes turns."""

import pytest

from tests.turns import DAY, away, turns


def by_day(params):
    return [each.values for each in params if pytest.mark.nightly not in each.marks]


def test_within_its_days_each_of_many_like_things_has_its_turn_once():
    for number in range(10):
        assert sorted(away(number, 3, day) for day in range(DAY, DAY + 3)) == [0, 1, 2]


def test_each_day_some_have_their_turn_and_the_others_are_for_the_night():
    for days in (1, 2, 3):
        params = turns([1, (2, 3), pytest.param(4, id="four")], days)
        assert [each.values for each in params] == [(1,), (2, 3), (4,)]
        assert 1 <= len(by_day(params)) <= 3 // days + (days == 2)
        assert params[2].id == "four"
