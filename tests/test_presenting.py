"""What presenter mode changes in the lab itself; `test_lab_screen.py` looks at the screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vfiosim import Machine
from vfiosim.lab import Races, presenter
from vfiosim.lab.trace_pane import TracePane
from vfiosim.views.player import LARGE


@pytest.fixture
def room() -> Iterator[None]:
    presenter.on = True
    yield
    presenter.on = False


def test_in_a_room_the_race_lab_explores_without_a_prediction_and_judges_none(room: None) -> None:
    lab = Races("R1")
    lab.explore.click()
    assert "Safe" in lab.message
    assert "predicted" not in lab.message


def test_the_race_lab_asks_for_a_prediction_again_when_the_room_has_gone(room: None) -> None:
    lab = Races("R1")
    presenter.on = False
    assert lab.explore.disabled
    lab.explore.click()
    assert lab.result is None


def test_what_would_be_too_small_in_a_room_is_folded_while_it_is_presented(room: None) -> None:
    presenter.on = False
    machine = Machine()
    for name in ("one", "two", "three", "four", "five"):
        process = machine.process(name)
        process.open("/dev/vfio/devices/vfio0")
        process.open("/dev/iommu")
    pane = TracePane(machine.trace)
    assert pane.player.player.layout.scale < LARGE
    boxes = len(pane.player.player.graph.nodes)
    presenter.on = True
    assert pane.player.player.layout.scale >= LARGE
    assert TracePane(machine.trace).player.player.layout.scale >= LARGE
    presenter.on = False
    assert len(pane.player.player.graph.nodes) == boxes
