"""The picture of a call that was refused shows what the check looked at, and who holds that, whatever else is left out."""

from __future__ import annotations

import pytest

from vfiosim.lab import Session
from vfiosim.lessons.beginnings import bound, opened
from vfiosim.trace import Trace
from vfiosim.views import graph, show


def group_is_closed(session: Session) -> Trace:
    session.open("/dev/vfio/1")
    assert session.bind(3, iommufd=4).result == "EBUSY"
    return session.steps


def device_is_bound(session: Session) -> Trace:
    assert session.open("/dev/vfio/1").result == "EBUSY"
    return session.steps


FEW = ("fds", "file vfio0#*", "vfio_device vfio0")
REFUSALS = pytest.mark.parametrize("only", [(), FEW], ids=["all", "a few"])


@REFUSALS
def test_a_bind_that_an_open_group_keeps_away_shows_the_open_file_and_its_descriptor(only):
    made = graph(group_is_closed(Session(start=opened)), only=only)
    names = {node.key: node.oid for node in made.nodes}
    shown = made.frame(made.at_step[-1])
    arrows = {(names[edge.holder], names[edge.target]) for edge in made.edges if shown.get(edge.key)}
    assert {("vfio_group 1", "file group1#1"), ("fds vmm", "file group1#1")} <= arrows


@REFUSALS
def test_a_group_that_a_bound_device_keeps_shut_shows_the_number_that_was_looked_at(only):
    made = graph(device_is_bound(Session(start=bound)), only=only)
    (group,) = [node for node in made.nodes if node.oid == "vfio_group 1"]
    (row,) = [row for row in group.rows if row.cell == "cdev_device_open_cnt"]
    assert made.frame(made.at_step[-1])[row.key] == "1"
    told = show(device_is_bound(Session(start=bound)), only=only, step=-1).svg()
    assert told.count(" refused") == (not only), "where the call is drawn, what refused it is red"
    assert {"vfio_device vfio0", "file vfio0#1"} <= {node.oid for node in made.nodes}


def test_what_a_check_looked_at_is_put_together_with_nothing():
    session = Session(start=opened)
    for _ in range(12):
        session.open("/dev/vfio/devices/vfio0")
    player = show(group_is_closed(session), idle=True, collapse=["file"], presenter=True)
    names = {node.oid for node in player.graph.nodes}
    assert {"vfio_group 1", "file group1#1"} <= names
    assert any(name.startswith("+") for name in names)


def test_a_call_that_is_refused_for_its_numbers_alone_shows_no_more_than_before():
    session = Session(start=opened)
    assert session.bind(3, iommufd=4, flags=2).result == "EINVAL"
    assert "vfio_group 1" not in {node.oid for node in graph(session.steps, only=FEW).nodes}
