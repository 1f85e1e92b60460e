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
from vfiosim.lessons import no_dma
from vfiosim.museum import ROOMS
from vfiosim.trace import MicroStep
from vfiosim.views.sources import Sources

RECORDS = ROOT / "assets" / "records"
READ = "read in the source, not recorded"


def known_of(micros: Iterable[MicroStep]) -> list[str]:
    """How each of these lines is known, as it stands beside the code."""
    sources = Sources()
    numbers = [sources.number(micro) for micro in micros]
    told = sources.told()
    return [told["known"][told["places"][number][2]] for number in numbers]


def test_every_line_of_a_bind_was_run_by_recorded_calls() -> None:
    told = known_of(bind().micro)
    counted = [int(one.split()[0]) for one in told if one.endswith("recorded calls ran through this line")]
    assert min(counted) > 100
    assert len(counted) > 80
    assert told.count("a line of the simulator, not of the kernel") == len(told) - len(counted)


def test_no_line_is_said_to_be_recorded_more_often_than_its_calls_were_made() -> None:
    calls = sum(len(scenario["steps"]) for recording in recordings([RECORDS]) for scenario in recording.scenarios)
    kept = json.loads(gzip.decompress((ROOT / "assets" / FILE).read_bytes()))
    assert max(number for lines in kept.values() for number in lines.values()) <= calls


def test_what_no_recording_has_is_said_to_be_read_and_a_function_that_was_put_in_is_said_to_be_that() -> None:
    machine = Machine()
    program = machine.process("vmm")
    program.start("rmmod", "vfio_pci")
    assert READ in known_of(machine.trace.micro)
    patched = ROOMS["return-without-unlock"].trace.trace.micro
    own = [step.function == "vfio_df_ioctl_bind_iommufd" for step in patched]
    assert any(own)
    told = known_of(patched)
    assert [one.startswith("not Linux 7.2") for one in told] == own
    assert READ not in told  # what its helpers do was recorded, if not for this function


def test_what_was_posted_and_never_recorded_says_which_version_was_read() -> None:
    (told,) = {*known_of(step for step in no_dma.bind("v5", "led").steps.micro if step.kernel_tag == "v5")}
    assert told == "read in v5, not recorded"


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
