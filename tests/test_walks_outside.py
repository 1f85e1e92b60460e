"""CONTRIBUTING's walks outside of the kernel: a question, a topology and a view, each a toy added by the written steps only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import ROOT
from tests.players import open_page, press
from vfiosim import DeviceSpec, Machine, Topology, uapi
from vfiosim.lab import Distractor, ExperimentResult, Prediction, Question, Sandbox, progress
from vfiosim.lessons import misconceptions as M
from vfiosim.machine import decode, encode
from vfiosim.topology import TOPOLOGIES
from vfiosim.trace import Trace
from vfiosim.views import player as players
from vfiosim.views import script as scripts

NODE = "/dev/vfio/devices/vfio0"

# ---- a question


def _after_a_dup() -> ExperimentResult:
    machine = Machine("small")
    process = machine.process("vmm")
    process.open(NODE)
    before = len(machine.trace)
    process.dup(3)
    steps = machine.trace[before:]
    file = steps.end.objects["file vfio0#1"]
    return ExperimentResult(str(file.total("f_ref")), steps, -1, tuple(map(str, file.counts["f_ref"])))


TOY_QUESTION = Question(
    "How many references does the file have after a dup?",
    _after_a_dup,
    "a dup makes no file; it is one more descriptor of the same file, and each descriptor holds it.",
    kind="number",
    wrong={"1": Distractor("A second descriptor holds the file, too.", M.SECOND_OPEN_IS_FINE)},
    otherwise="Each descriptor is one reference.",
    hints=("How many descriptors are there?", "Each of them holds the file."),
    name="toy: dup",
)


def answered(text: str) -> Prediction:
    """The question with this answer, as a reader gives it."""
    asked = Prediction(TOY_QUESTION)
    asked.choice.value = text
    asked.commit.click()
    asked.reveal.click()
    return asked


def test_a_new_question_is_answered_by_its_experiment_and_its_answer_is_kept():
    assert answered("2").right
    assert progress.answers["toy: dup"].right == 1


def test_a_wrong_answer_to_a_new_question_is_told_what_it_takes_for_granted():
    asked = answered("1")
    assert asked.right is False
    assert "A second descriptor holds the file, too." in asked.message


# ---- a topology

TOY_TOPOLOGY = Topology(
    "toy",
    (
        DeviceSpec("nic", "0000:01:00.0", 1, model="alone in its group", can_reset=True),
        DeviceSpec("left", "0000:02:00.0", 2, model="one of two", dev_set="slot 02:00"),
        DeviceSpec("right", "0000:02:00.1", 2, model="the other one", dev_set="slot 02:00"),
    ),
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TOPOLOGIES, "toy", TOY_TOPOLOGY)
    return "toy"


def test_each_device_of_a_new_topology_can_be_bound_and_nothing_is_broken(toy):
    machine = Machine(toy)
    process = machine.process("vmm")
    for number in range(3):
        device, iommu = process.open(f"/dev/vfio/devices/vfio{number}"), process.open("/dev/iommu")
        if number < 2:  # the third shares its group with the second, which another iommufd owns
            process.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    assert machine.check() == []


def test_a_new_topology_is_known_by_its_name_in_shared_texts_and_in_the_sandbox(toy):
    machine = Machine(toy)
    machine.process("vmm").open(NODE)
    assert decode(encode(machine))[0].topology == TOY_TOPOLOGY
    assert toy in Sandbox().machine_pane.topology.options


# ---- a view


def phases_of(trace: Trace) -> list[str]:
    """What the toy shows: the phase of each step."""
    return [str(step.phase) for step in trace]


SCRIPT = """
import { element } from "./dom.js";

export class PhasesView {
  constructor() {
    this.root = element("section", { class: "phases", "aria-label": "Phases" });
  }

  load({ data: { phases } }) {
    this.phases = phases;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, open }) {
    this.root.hidden = !open.has("phases");
    this.root.textContent = step ? `phase: ${this.phases[step - 1]}` : "no phase as yet";
  }
}
"""
STEPS = {
    "actions.js": [
        ('  text: "As text",\n', '  text: "As text",\n  phases: "Phases",\n'),
        ('  ["graph", ', '  ["phases", "z", "z", "the phase of the step", VIEWS.phases],\n  ["graph", '),
    ],
    "player.js": [
        ("import { ", 'import { PhasesView } from "./phases.js";\nimport { '),
        (
            "    this.stands = {\n",
            "    const phases = new PhasesView();\n    this.stands = {\n      phases: phases.root,\n",
        ),
        ("    this.views = [", "    this.views = [phases, "),
        ("    const below = [", "    const below = [phases.root, "),
    ],
}


@pytest.fixture
def with_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[players.Player]:
    """A player to whose files the toy was added."""
    folder = tmp_path / "player"
    shutil.copytree(ROOT / "assets" / "player", folder)
    (folder / "phases.js").write_text(SCRIPT.lstrip())
    for name, changes in STEPS.items():
        text = (folder / name).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (folder / name).write_text(text)
    monkeypatch.setattr(scripts, "asset", lambda name: tmp_path / name)
    monkeypatch.setattr(players, "VIEWS", (*players.VIEWS, "phases"))
    monkeypatch.setattr(players, "script", scripts.script.__wrapped__)

    class Player(players.Player):
        def data(self, **options):
            return {**super().data(**options), "phases": phases_of(self.trace)}

    return Player


def test_a_new_view_has_its_button_and_follows_the_step(page: Page, tmp_path: Path, with_phases) -> None:
    trace = _after_a_dup().trace
    player = open_page(page, tmp_path, with_phases(trace, step=1))
    shown = player.get_by_role("region", name="Phases")
    expect(shown).to_be_hidden()
    press(player, "Phases")
    expect(shown).to_have_text(f"phase: {trace[0].phase}")
    player.press("End")
    expect(shown).to_have_text(f"phase: {trace[-1].phase}")
