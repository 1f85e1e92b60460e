"""The byte fuzzer finds nothing, and would find what it looks for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.fuzz import FuzzFailure, FuzzTotals, fuzz, main
from tests.fuzz.command import parts, what_is_wrong
from tests.fuzz.corpus import corpus
from tests.fuzz.memory import OutsideError, WatchedArguments
from tests.fuzz.run import Run
from vfiosim import Machine

SHARED = pytest.mark.xdist_group("four thousand ioctls")


@pytest.fixture(scope="module")
def part() -> FuzzTotals:
    """What four thousand ioctls came to; `.ci/run` makes many more, with another seed each day."""
    return fuzz("tests", 4_000)


@SHARED
def test_four_thousand_ioctls_find_nothing(part: FuzzTotals) -> None:
    assert [str(failure) for failure in part.failures] == []
    assert part.ioctls == 4_000


@SHARED
def test_most_of_them_are_requests_of_the_abi(part: FuzzTotals) -> None:
    assert 0.75 < part.from_abi / part.ioctls < 0.9


@SHARED
def test_there_are_refusals_of_many_kinds(part: FuzzTotals) -> None:
    kinds = {answer for _, answer in part.answers}
    assert {"EINVAL", "EFAULT", "ENOTTY", "EBADF", "EBUSY", "ENOENT", "E2BIG", "EOPNOTSUPP", "ENODEV"} <= kinds


@SHARED
def test_a_long_run_in_which_what_is_often_recorded_as_a_success_never_succeeds_fails_and_says_so(
    part: FuzzTotals,
) -> None:
    often = [name for name, times in corpus().succeeds.items() if times > 20]
    assert len(often) > 20
    blind = replace(part, answers=Counter({key: n for key, n in part.answers.items() if key[1] != "ok"}))
    assert what_is_wrong(blind) == []  # it was too short to tell
    assert what_is_wrong(replace(blind, ioctls=100_000)) == [
        f"that ought to have succeeded: {', '.join(sorted(often))}"
    ]


def test_the_same_seed_makes_the_same_calls() -> None:
    runs = [fuzz("again", 500) for _ in range(2)]
    assert runs[0].answers == runs[1].answers
    assert runs[0].answers != fuzz("other", 500).answers


def test_an_error_of_the_simulator_is_found_with_the_program_that_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(machine: Machine) -> list[str]:
        raise ZeroDivisionError("as an example")

    monkeypatch.setattr(Machine, "check", broken)
    totals = FuzzTotals()
    run = Run("broken", totals, 300)
    run.play()
    (failure,) = totals.failures
    assert failure.what == "ZeroDivisionError: as an example"
    assert failure.steps == run.log
    assert json.loads(str(failure).splitlines()[-1]) == run.log[-1]


def test_a_broken_invariant_that_is_no_known_surprise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "check", lambda machine: ["vfio0 is upside down"])
    totals = FuzzTotals()
    Run("broken", totals, 300).play()
    assert [failure.what for failure in totals.failures] == ["check(): vfio0 is upside down"]


def test_a_command_that_finds_something_tells_it_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "check", lambda machine: ["vfio0 is upside down"])
    assert main(["--ioctls", "300", "--workers", "1"]) == 1
    assert "\ncheck(): vfio0 is upside down\n" in capsys.readouterr().out


@pytest.mark.parametrize(("at", "found"), [(-1, True), (0, False), (15, False), (16, True), (200, True)])
@pytest.mark.parametrize("fill", [0, 0xC5])
def test_a_byte_that_changes_outside_the_argument_is_found(at: int, found: bool, fill: int) -> None:
    memory = Machine(trace=False).process("p").memory
    arguments = WatchedArguments(memory, 0, fill)
    arguments.place(bytes(8))
    address = arguments.place(bytes(16))
    memory.write(address + at, b"\x77")
    if found:
        with pytest.raises(OutsideError):
            arguments.clear()
    else:
        arguments.clear()


def test_as_many_bytes_as_the_caller_says_may_change() -> None:
    memory = Machine(trace=False).process("p").memory
    arguments = WatchedArguments(memory, 0, 0xC5)
    address = arguments.place(bytes(16))
    arguments.says = 64
    memory.write(address, b"\x77" * 64)
    arguments.clear()
    assert memory.read(address, 64) == b"\xc5" * 64


def test_the_command_counts_answers_by_request_and_tells_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ioctls", "600", "--seed", "2026-11-29", "--workers", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["seed"] == "2026-11-29"
    assert data["ioctls"] == 600 == sum(sum(answers.values()) for answers in data["answers"].values())
    assert main(["--ioctls", "600", "--seed", "2026-11-29", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "600 ioctls by 1 workers, seed 2026-11-29"
    bind = data["answers"]["VFIO_DEVICE_BIND_IOMMUFD"]
    (told,) = [line for line in lines if line.startswith("VFIO_DEVICE_BIND_IOMMUFD ")]
    assert {*told.split(maxsplit=1)[1].split(", ")} == {f"{answer} {times}" for answer, times in bind.items()}
    assert any(line.startswith("600 ioctls (") for line in lines)


def test_the_calls_depend_on_the_seed_and_not_on_the_number_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for seed, workers in (("7", "1"), ("7", "2"), ("8", "2")):
        assert main(["--ioctls", "500", "--part", "200", "--seed", seed, "--workers", workers, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["answers"] != told[2]["answers"]


@pytest.mark.parametrize("ioctls", [1, 4_999, 5_001, 300_000, 1_000_000])
def test_the_work_is_split_evenly(ioctls: int) -> None:
    made = parts(ioctls, "s")
    sizes = [size for _, size in made]
    assert sum(sizes) == ioctls
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 5_000
    assert [seed for seed, _ in made] == [f"s.{number}" for number in range(len(made))]


def test_counts_of_two_workers_add_up() -> None:
    one, two = (
        FuzzTotals(ioctls=2, answers=Counter({("a", "ok"): 1})),
        FuzzTotals(ioctls=3, answers=Counter({("a", "ok"): 2})),
    )
    two.failures.append(FuzzFailure("1", "what", "lab", []))
    one.add(two)
    assert (one.ioctls, one.answers["a", "ok"], len(one.failures)) == (5, 3, 1)


@pytest.mark.parametrize(
    "wrong", [("--ioctls", "many"), ("--ioctls", "0"), ("--ioctls", "-5"), ("--workers", "0"), ("--part", "0")]
)
def test_a_command_that_makes_no_sense_ends_with_two(
    wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*wrong]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"argument {wrong[0]}: '{wrong[1]}' is no positive number" in said.err
