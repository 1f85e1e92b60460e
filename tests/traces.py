"""Short traces that many tests of pictures look at."""

from __future__ import annotations

from functools import cache

from tests.toys import House, lose_key, make_key
from vfiosim import gallery
from vfiosim.trace import Trace


@cache
def keys() -> Trace:
    """A key is made, and lost."""
    house = House()
    house.run(make_key(house.person, house.door))
    house.run(lose_key(house.person, house.door, 1))
    return house.trace


@cache
def bind() -> Trace:
    """A bind on the default machine."""
    return gallery.bind()
