"""The simulator against a real kernel, and the comparison itself against recordings that were falsified on purpose."""

from __future__ import annotations

import copy
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.turns import on_one_python
from vfiosim import uapi
from vfiosim.conformance import Recording, check, load, main
from vfiosim.conformance.arguments import Arguments
from vfiosim.conformance.check import check_scenario
from vfiosim.conformance.compare import same
from vfiosim.conformance.expressions import evaluate
from vfiosim.conformance.layouts import layout
from vfiosim.conformance.scope import Scope
from vfiosim.kernel import Unsupported
from vfiosim.machine import Machine

FILE = ROOT / "assets" / "records" / "hand-default.json.gz"
RECORDING = load(FILE)
RECORDS = sorted(path.name.removesuffix(".json.gz") for path in FILE.parent.glob("*.json.gz"))


def scenario(name: str) -> dict[str, Any]:
    """A copy of a recorded scenario, to change as a test likes."""
    return copy.deepcopy(next(found for found in RECORDING.scenarios if found["name"] == name))


def write(path: Path, *scenarios: dict[str, Any]) -> Path:
    """A recording of the same machine with only these scenarios."""
    path.write_text(json.dumps({**vars(RECORDING), "scenarios": scenarios}))
    return path


def differing_steps(changed: dict[str, Any]) -> list[int | None]:
    return [difference.step for difference in check_scenario(RECORDING, changed).differences]


# ---- The real kernel

# What the model cannot answer yet: where a scenario stops, and on what.
NOT_MODELLED: dict[str, str] = {}

# What is written by hand the other Pythons do in turns, one half today and the other half tomorrow; what is random, this one alone.
BY_HAND = [name for name in RECORDS if not name.startswith("random-")]
EACH = [
    *(pytest.param(name, id=name, marks=on_one_python(at, 2)) for at, name in enumerate(BY_HAND)),
    *(pytest.param(name, marks=pytest.mark.one_python) for name in RECORDS if name not in BY_HAND),
]


@pytest.mark.parametrize("name", EACH)
def test_the_simulator_answers_like_the_recorded_kernel(name: str) -> None:
    recording = load(FILE.parent / f"{name}.json.gz")
    report = check(recording)
    assert [found.name for found in report.scenarios] == [asked["name"] for asked in recording.scenarios]
    assert [str(difference) for found in report.scenarios for difference in found.differences] == []
    stops = {found.name: found.unsupported for found in report.scenarios if found.unsupported}
    listed = {asked["name"]: NOT_MODELLED.get(asked["name"]) for asked in recording.scenarios}
    assert stops == {scenario: f"{what} is not modelled" for scenario, what in listed.items() if what}
    assert report.tally.steps == sum(len(asked["steps"]) for asked in recording.scenarios) > 0


def test_all_recordings_are_there() -> None:
    random = [f"random-{emphasis}" for emphasis in ("default", "fault", "group", "kvm", "noiommu", "proc")]
    second = ["hand2-default", "hand2-noiommu", "hand2-sriov", "hand3-default", "hand3-noiommu", "hand4-default"]
    later = ["hand7-default", "hand7-noiommu", "hand8-default", "hand9-default"]
    tenth = ["hand10-default", "hand11-default", "hand12-default", "hand12-sriov", "hand13-compat", "hand13-default"]
    tenth += ["hand14-default"]
    fifth = ["hand5-default", "hand5-noiommu", "hand5-sriov", "hand6-default"]
    mutated = ["rand13-default", "rand13-sriov", "rand14-default", "rand14-sriov"]
    built = [
        *("config-nogroup", "config-nogroup-noiommu", "config-nointremap", "config-nonoiommu"),
        *("config-nonoiommu-noiommu", "config-p2pdma", "config-p2pdma-sriov"),
    ]
    expected = [
        *built,
        "hand-compat",
        "hand-default",
        "hand-noiommu",
        "hand-sriov",
        *tenth,
        *second,
        *fifth,
        *later,
        *mutated,
        *random,
    ]
    assert expected == RECORDS


def test_every_file_that_leaves_something_out_is_in_the_table_of_what_is_not_modelled() -> None:
    package = ROOT / "vfiosim"
    section = (package / "README.md").read_text().partition("## What is not modelled")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([\w/]+\.py)`", section))
    kernel = package / "kernel"
    raising = {
        str(file.relative_to(kernel)) for file in kernel.rglob("*.py") if "raise Unsupported(" in file.read_text()
    }
    assert listed == raising


# ---- What a recording writes


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (7, 7),
        (True, 1),
        ("$dev", 3),
        ("$never_set", -1),
        ("$dev + 0x1000", 4099),
        ("(1<<64)-1", 2**64 - 1),
        ("7 << 40", 7 << 40),
        ("-2*3 & ~1", -6),
        ("O_RDWR", 2),
        ("VFIO_DEVICE_FEATURE_PROBE | 9", uapi.VFIO_DEVICE_FEATURE_PROBE | 9),
        ("KVM_CREATE_VM", 0xAE01),
        (["O_RDWR", "O_PATH", "$dev"], 2 | 0o10000000 | 3),
        ([], 0),
    ],
)
def test_a_value_is_a_number_an_expression_or_a_list_that_is_ored(written: object, number: int) -> None:
    assert evaluate(written, {"dev": 3}) == number


@pytest.mark.parametrize(
    "written", ["f(1)", "__import__('os')", "1 +", "'a'", "1.5", "2 ** 9", "a.b", {"s32": 1}, None]
)
def test_what_is_no_value_is_refused(written: object) -> None:
    with pytest.raises((ValueError, Unsupported)):
        evaluate(written, {})


def test_a_constant_that_nobody_knows_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="VFIO_NEVER_HEARD_OF is not modelled"):
        evaluate("VFIO_NEVER_HEARD_OF", {})


def test_names_of_devices_stand_for_what_they_were_at_boot() -> None:
    text = Scope(RECORDING.topology).text
    assert text("/dev/vfio/devices/@pci0") == "/dev/vfio/devices/vfio0"
    assert text("/dev/vfio/@pairB.group and @pairB.bdf") == "/dev/vfio/3 and 0000:00:06.1"
    assert text("@mixB") == "none"
    assert text("@nobody.bdf/x") == "@nobody.bdf/x"


def test_a_number_is_cut_to_its_field_and_read_back_with_its_sign() -> None:
    bind = layout("vfio_device_bind_iommufd")
    data = bind.pack({"argsz": 1 << 32 | 24, "iommufd": -1, "out_devid": -1})
    assert data.hex() == "1800000000000000ffffffffffffffff0000000000000000"
    assert bind.unpack(data)["iommufd"] == -1
    assert bind.unpack(data)["out_devid"] == 2**32 - 1


def test_only_changed_fields_are_shown_and_both_names_of_a_union() -> None:
    info = layout("iommu_hw_info")
    before, after = info.pack({"size": 40}), info.pack({"size": 40, "out_data_type": 1, "__reserved": "0203"})
    assert info.changes(before, after) == {"in_data_type": 1, "out_data_type": 1, "__reserved": "020300"}


def test_a_truncated_argument_ends_at_a_page_that_is_not_mapped() -> None:
    memory = Machine(trace=False).process("p").memory
    arguments = Arguments(memory, 0)
    address = arguments.place(b"abcdefgh", "truncated", 3)
    assert memory.read(address, 3) == b"abc"
    with pytest.raises(OSError, match="EFAULT"):
        memory.read(address, 4)
    readonly = arguments.place(b"abcdefgh", "readonly")
    assert memory.read(readonly, 8) == b"abcdefgh"
    with pytest.raises(OSError, match="EFAULT"):
        memory.write(readonly, b"x")
    arguments.clear()
    with pytest.raises(OSError, match="EFAULT"):
        memory.read(readonly, 1)


def test_behind_an_ordinary_argument_there_are_mapped_zeros_at_every_call() -> None:
    memory = Machine(trace=False).process("p").memory
    arguments = Arguments(memory, 0)
    for _ in range(2):
        address = arguments.place(b"\xff" * 24)
        assert memory.read(address + 24, 200) == bytes(200)
        memory.write(address + 24, b"\xee" * 100)
        arguments.clear()


# ---- A recording that was falsified

BIND = 2  # this step of a-happy binds the device


def falsify(result: dict[str, Any], part: str, value: object) -> None:
    result[part] = value


@pytest.mark.parametrize(
    ("step", "part", "value"),
    [
        (0, "num", 4),
        (0, "ret", "$other"),
        (1, "errno", "EPERM"),
        (BIND, "ret", 1),
        (BIND, "out", {"out_devid": 2}),
        (BIND, "out", {}),
        (BIND, "out", {"out_devid": 1, "flags": 1}),
        (4, "state", "pending"),
    ],
)
def test_a_falsified_answer_differs_at_exactly_that_step(step: int, part: str, value: object) -> None:
    changed = scenario("a-happy")
    falsify(changed["result"]["steps"][step], part, value)
    assert differing_steps(changed) == [step]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("kvm_leaked", 1),
        ("probe", {"pci0": {"group": "EBUSY", "open": None, "bind": 1}}),
        ("stuck_procs", ["main"]),
    ],
)
def test_a_falsified_ending_differs_after_the_last_step(part: str, value: object) -> None:
    changed = scenario("j-add-kv-open")
    changed["result"][part] = value
    assert differing_steps(changed) == [None]


def test_a_leaked_vm_of_the_recording_is_found() -> None:
    changed = scenario("j-failed-bind-two-vms")
    assert changed["result"].pop("kvm_leaked") == 1
    assert differing_steps(changed) == [None]


def test_every_answer_of_an_unstable_step_is_accepted() -> None:
    wrong, right = {"ret": -1, "errno": "EBADF"}, {"ret": 0, "errno": None}
    assert same(wrong | {"unstable": [right]}, right)
    assert not same(wrong | {"unstable": [wrong]}, right)


@pytest.mark.parametrize("at", [0, 3])
def test_from_an_unknown_call_on_everything_is_unsupported(at: int) -> None:
    changed = scenario("a-happy")
    changed["steps"][at]["call"] = "teleport"
    report = check_scenario(RECORDING, changed)
    assert report.unsupported == "the call teleport is not modelled"
    assert report.tally.unsupported == len(changed["steps"]) - at + 1  # and the ending
    assert report.tally.differ == 0


def test_after_a_step_that_breaks_the_program_nothing_counts_as_the_same(tmp_path: Path) -> None:
    broken, whole = scenario("a-happy"), scenario("a-devcookie")
    del broken["steps"][1]["path"]
    report = check(load(write(tmp_path / "two.json", broken, whole)))
    steps = len(broken["steps"])
    assert [found.tally.differ for found in report.scenarios] == [steps - 1 + 1, 0]
    assert report.scenarios[0].differences[0].got == "KeyError: 'path'"


def test_no_field_that_was_recorded_is_left_out_of_the_comparison() -> None:
    wrote = [one for found in RECORDING.scenarios for one in found["result"]["steps"] if one.get("out")]
    assert len(wrote) > 100
    assert not any(same(one, {**one, "out": {**one["out"], name: "other"}}) for one in wrote for name in one["out"])


# ---- The command


def good_scenario() -> dict[str, Any]:
    """A scenario that the simulator answers to its end."""
    return next(
        found
        for found in RECORDING.scenarios
        if found["name"].startswith("j-") and not check_scenario(RECORDING, found).unsupported
    )


def test_the_command_succeeds_only_if_everything_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = copy.deepcopy(good_scenario())
    count = len(good["steps"])
    assert main([str(write(tmp_path / "good.json", good))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"good: 1 scenarios, {count} steps, 0 differ, 0 unsupported",
        f"TOTAL: 1 scenarios, {count} steps, 0 differ, 0 unsupported",
    ]
    good["result"]["steps"][0]["num"] = 99
    assert main([str(write(tmp_path / "bad.json", good))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"bad: 1 scenarios, {count} steps, 1 differ, 0 unsupported"
    assert lines[1].startswith(f"  {good['name']} step 0: open(")
    assert "'num': 99" in lines[2]
    assert lines[2].startswith("      expected ")
    assert lines[3].startswith("      got ")


def test_the_kernel_was_asked_each_number_of_each_request_at_0_1_and_its_largest() -> None:
    asked = {
        (step.get("request"), field, value)
        for scenario in load(FILE.parent / "hand11-default.json.gz").scenarios
        for step in scenario["steps"]
        if isinstance(step.get("arg"), dict)
        for field, value in step["arg"].items()
        if isinstance(value, int)
    }
    missing = [
        (name, field.name, value)
        for name, request in uapi.REQUESTS.items()
        if request.struct is not None and name != "IOMMU_TEST_CMD"
        for field in request.struct.fields()
        if field.size in (1, 2, 4, 8) and not field.name.startswith("out_") and field.name not in ("fd", "iommufd")
        for value in (0, 1, (1 << 8 * field.size) - 1)
        if (name, field.name, value) not in asked
    ]
    assert missing == []


def test_an_unsupported_step_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = copy.deepcopy(good_scenario())
    good["steps"][-1]["call"] = "teleport"
    assert main([str(write(tmp_path / "r.json", good))]) == 1
    assert "0 differ, 2 unsupported" in capsys.readouterr().out.splitlines()[-1]


def test_json_has_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = copy.deepcopy(good_scenario())
    good["result"]["kvm_leaked"] = 5
    assert main([str(write(tmp_path / "r.json", good)), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert {key: answer[key] for key in ("scenarios", "steps", "differ", "unsupported")} == {
        "scenarios": 1, "steps": len(good["steps"]), "differ": 1, "unsupported": 0
    }  # fmt: skip
    assert answer["topics"].keys() == {"j"}
    assert answer["files"].keys() == {"r"}
    assert answer["differences"][0]["expected"]["kvm_leaked"] == 5


def test_only_and_topics_narrow_and_sort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "r.json", scenario("a-devcookie"), scenario("k-file"), scenario("j-add-after-bind"))
    main([str(path), "--only", "a-, j-add", "--topics"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("r: 2 scenarios")
    assert [line.split()[0] for line in lines[-3:]] == ["a", "j", "TOTAL:"]


def test_a_folder_stands_for_all_recordings_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "b.json", scenario("a-devcookie"))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress((tmp_path / "b.json").read_bytes()))
    (tmp_path / "notes.txt").write_text("not one of them")
    main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == ["a", "b", "TOTAL"]


def not_gzip(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b" + b"garbage")


def cut_short(path: Path) -> None:
    path.write_bytes(FILE.read_bytes()[:1000])


def not_json(path: Path) -> None:
    path.write_text("{")


def something_else(path: Path) -> None:
    path.write_text('{"scenarios": 3}')


def too_few_results(path: Path) -> None:
    changed = scenario("a-happy")
    changed["result"]["steps"].pop()
    write(path, changed)


def nested_without_end(path: Path) -> None:
    path.write_text("[" * 100_000)


def a_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b" " * (1 << 26) + b"{}"))


def empty_folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    """Leave nothing there."""


@pytest.mark.parametrize(
    "make",
    [
        not_gzip,
        cut_short,
        not_json,
        something_else,
        too_few_results,
        nested_without_end,
        a_bomb,
        empty_folder,
        missing,
    ],
)
def test_what_is_no_recording_is_told_in_one_sentence(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    make(path)
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("python -m vfiosim conformance: ")
    assert str(path) in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense", str(FILE)], [str(FILE), "--only"], [str(FILE), "--only", "zzz"]]
)
def test_a_command_that_makes_no_sense_is_told_in_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


def test_the_command_is_reached_from_the_command_line() -> None:
    command = [sys.executable, "-m", "vfiosim", "conformance", str(FILE), "--only", "a-devcookie"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout.splitlines()[-1].startswith("TOTAL: 1 scenarios, ")


def test_recordings_carry_the_machine_and_the_answers() -> None:
    assert isinstance(RECORDING, Recording)
    assert (RECORDING.name, RECORDING.profile) == ("hand-default", "default")
    assert len(RECORDING.scenarios) == 259
