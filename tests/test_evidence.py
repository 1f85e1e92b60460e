"""How a line of the kernel's mirror is known: recorded, or read in the source only."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable

import pytest

from tests.conftest import ROOT
from tests.traces import bind
from vfiosim import Machine
from vfiosim.conformance.evidence import FILE, ran_through
from vfiosim.conformance.recordings import load, recordings
from vfiosim.museum import ROOMS
from vfiosim.trace import MicroStep, Trace
from vfiosim.views.sources import Sources

RECORDS = ROOT / "assets" / "records"


def places_of(micros: Iterable[MicroStep]) -> list[tuple[int, ...]]:
    """Where in the code each of these is."""
    sources = Sources()
    numbers = [sources.number(micro) for micro in micros]
    return [sources.told()["places"][number] for number in numbers]


def calls_of(trace: Trace) -> list[int | None]:
    """What is told about each line of a trace; None where nothing is."""
    return [(*place, None)[2] for place in places_of(trace.micro)]


def test_every_line_of_a_bind_was_run_by_recorded_calls() -> None:
    told = calls_of(bind())
    assert all(calls is None or calls > 100 for calls in told)
    assert sum(calls is not None for calls in told) > 80


def test_no_line_is_said_to_be_recorded_more_often_than_its_calls_were_made() -> None:
    calls = sum(len(scenario["steps"]) for recording in recordings([RECORDS]) for scenario in recording.scenarios)
    kept = json.loads(gzip.decompress((ROOT / "assets" / FILE).read_bytes()))
    assert max(number for lines in kept.values() for number in lines.values()) <= calls


def test_what_no_recording_has_is_said_to_be_read_and_code_of_somebody_else_is_said_to_be_nothing() -> None:
    machine = Machine()
    program = machine.process("vmm")
    program.start("rmmod", "vfio_pci")
    assert 0 in calls_of(machine.trace)
    patched = ROOMS["return-without-unlock"].trace.trace
    changed = [step for step in patched.micro if step.function == "vfio_df_ioctl_bind_iommufd"]
    assert changed
    assert all(len(place) == 2 for place in places_of(changed))


def test_a_recording_counts_a_call_once_for_each_line_that_it_runs_through() -> None:
    recording = load(RECORDS / "hand-compat.json.gz")
    found = ran_through([recording])
    ioctls = sum(step["call"] == "ioctl" for scenario in recording.scenarios for step in scenario["steps"])
    assert 0 < max(calls for (function, _), calls in found.items() if function == "sys_ioctl") <= ioctls


@pytest.mark.nightly
def test_the_numbers_are_those_of_the_recordings() -> None:
    found = ran_through(recordings([RECORDS]))
    kept = json.loads(gzip.decompress((ROOT / "assets" / FILE).read_bytes()))
    assert {(function, line): calls for function, lines in kept.items() for line, calls in lines.items()} == dict(found)
