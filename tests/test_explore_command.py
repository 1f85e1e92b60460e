"""`python -m vfiosim explore` and `python -m vfiosim puzzles`."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from vfiosim import replay
from vfiosim.cli import main
from vfiosim.explore import explore
from vfiosim.invariants import Invariant
from vfiosim.kernel.vfio.vfio import VfioGroup
from vfiosim.puzzles import PUZZLES


def process(*arguments):
    return subprocess.run([sys.executable, "-m", "vfiosim", *arguments], capture_output=True, text=True, check=False)


def command(*arguments):
    """As `process`, in this one."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as wrong:  # how argparse ends a process
            status = int(str(wrong.code))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("arguments", [["R1", "--without", "group_lock"], ["R1", "--seconds", "soon"]])
def test_a_process_ends_and_says_what_the_command_does(arguments):
    alone, here = process("explore", *arguments), command("explore", *arguments)
    assert alone.returncode == here.returncode != 0
    timeless = re.compile(r"[0-9.]+ s\)")
    assert timeless.sub("", alone.stdout) == timeless.sub("", here.stdout)
    assert alone.stderr.splitlines()[-1:] == here.stderr.splitlines()[-1:]


def test_the_puzzles_are_listed_one_a_line_by_name_and_each_number_between_them_is_accounted_for():
    done = command("puzzles")
    assert (done.returncode, done.stderr) == (0, "")
    puzzles, _, others = done.stdout.partition("Numbers of other hazards, which are no puzzles:\n")
    assert [line.split()[0] for line in puzzles.splitlines()] == list(PUZZLES)
    named = [*PUZZLES, *(line.split()[0] for line in others.splitlines())]
    assert sorted(int(name[1:]) for name in named) == list(range(1, len(named) + 1))
    assert "R1   the group or its device (--without 'group_lock')" in done.stdout.splitlines()


def test_a_safe_puzzle_ends_with_0_and_says_so():
    done = process("explore", "R1")
    assert (done.returncode, done.stderr) == (0, "")
    title, first, second, answer, *_ = done.stdout.splitlines()
    assert title == "R1: the group or its device"
    assert first == "  A: open('/dev/vfio/1')"
    assert second == "  B: ioctl(3, VFIO_DEVICE_BIND_IOMMUFD, iommufd=4)"
    assert answer.startswith("Safe: nothing goes wrong in any schedule")


def test_a_broken_one_ends_with_1_and_gives_a_line_to_replay():
    done = command("explore", "r1", "--without", "group_lock")
    assert done.returncode == 1
    found = re.search(r"replay\('(.*)'\)", done.stdout)
    assert found
    assert any("is open and counts 1 of its devices" in what for what in replay(found[1]).machine.check())


def test_for_programs_there_is_one_json_object_with_just_these_keys():
    done = command("explore", "R1", "--without", "group_lock", "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 1
    assert list(data) == [
        "verdict",
        "complete",
        "not_looked_at",
        "states",
        "transitions",
        "schedules",
        "seconds",
        "counterexample",
    ]
    assert list(data["counterexample"]) == ["what", "effects", "schedule", "replay"]
    assert (data["verdict"], data["complete"], data["states"]) == ("broken", True, None)
    assert data["counterexample"]["effects"] == sum(n for _, n in data["counterexample"]["schedule"])
    assert json.loads(command("explore", "R1", "--json").stdout)["counterexample"] is None


def test_what_is_not_finished_ends_with_3_and_says_so():
    done = command("explore", "R1", "--seconds", "0")
    assert done.returncode == 3
    assert "NOT FINISHED" in done.stdout
    data = json.loads(command("explore", "R1", "--seconds", "0", "--json").stdout)
    assert (data["verdict"], data["complete"]) == ("unfinished", False)


def test_time_can_run_out_where_that_is_asked_for():
    assert command("explore", "R14").returncode == 0
    told = command("explore", "R14", "--timeouts", "1")
    assert told.returncode == 1
    assert "is still in use, so it is left behind" in told.stdout or "has only 1 users" in told.stdout


def test_where_there_are_too_many_schedules_one_can_ask_for_all_of_them():
    alone = ("explore", "R2", "--without", "vfio_device_set.lock", "--seconds", "3")
    assert "only a shorter way" not in command(*alone, "--all").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["R99"], "there is no puzzle 'R99'"),
        (["R1", "--without", "group_luck"], "never use 'group_luck' (there is group_lock"),
        (["R25", "--without", "nix"], "never use 'nix'"),
        (["R1", "--as-fixed"], "R1 has no fix"),
        (["R1", "--faulty"], "R1 has no fault"),
        (["R25", "--faulty", "luck"], "R25 has no fault 'luck'; there is group, iommufd, pointer, vm, gate"),
        (["R8", "--faulty", "luck"], "R8 has no fault 'luck'; there is only one, which has no name"),
        (["R1", "--seconds", "soon"], "invalid float value"),
        (["R1", "--seconds", "nan"], "seconds are a number of 0 or more, not nan"),
        (["R1", "--seconds", "-1"], "seconds are a number of 0 or more, not -1"),
        ([], "required: NAME"),
    ],
)
def test_a_bad_command_ends_with_2_and_one_sentence(arguments, told):
    done = command("explore", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_all_faults_of_a_puzzle_are_explored_or_the_one_that_is_named():
    every = command("explore", "R25", "--faulty")
    assert every.returncode == 1
    assert every.stdout.count("The shortest: ") == 5
    for name in ("group", "iommufd", "pointer", "vm", "gate"):
        alone = command("explore", "R25", "--faulty", name, "--json")
        assert json.loads(alone.stdout)["counterexample"]["what"] in every.stdout
    assert json.loads(command("explore", "R25", "--faulty", "--json").stdout)["verdict"] == "broken"


def test_faulty_may_stand_before_the_name():
    assert command("explore", "--faulty", "R8", "--json").returncode == 1


def test_a_limit_in_seconds_is_obeyed_by_the_puzzle_of_the_unwinding_too():
    done = command("explore", "R25", "--seconds", "0")
    assert done.returncode == 3
    assert "NOT FINISHED, so nothing more is proved: 0 seconds are over" in done.stdout


def test_the_statuses_are_documented():
    assert "0 nothing goes wrong" in command("explore", "--help").stdout


def test_a_terminal_is_left_clean():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vfiosim", "explore", "R1"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    assert os.read(ours, 1000).endswith(b"\r\x1b[K")
    os.close(ours)


def test_what_was_found_before_it_was_stopped_is_told():
    puzzle = PUZZLES["R1"]
    looked_at = []

    def stops(engine, group):
        looked_at.append(group)
        if len(looked_at) == 16:
            raise KeyboardInterrupt
        yield from ()

    rule = Invariant("stops", VfioGroup, ("vfio_group.opened_file",), lambda _: None, "", False, stops)
    result = explore(puzzle.setup, puzzle.programs(), [puzzle.properties[0], rule], ["group_lock"])
    assert (result.complete, result.limit) == (False, "it was stopped")
    assert result.verdict in ("broken", "unfinished")
    assert result.schedules == 2
    assert len(result.outcomes) > 0
