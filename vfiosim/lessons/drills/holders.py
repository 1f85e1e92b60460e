"""Drills about who holds what: how many references there are, and who is alive."""

from __future__ import annotations

import random

from ...lab import Finding, Question, Session, Slip
from ...trace import Trace
from .. import misconceptions as M
from .told import code, told

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
COUNTED = ("file vfio0#1", "file iommu#1")
WATCHED = ("file vfio0#1", "vfio_device_file 1", "file iommu#1", "iommufd_ctx 1", "iommufd_device 1")


def _story(dice: random.Random, closes: int) -> Session:
    """A program that opens, perhaps binds and copies descriptors, and then closes some."""
    session = Session()
    session.open(NODE)
    session.open(IOMMU)
    if dice.random() < 0.3:
        vm = int(session.create_vm().result)
        session.file_add(int(session.create_kvm_vfio(vm).result), 3)
    if dice.random() < 0.8:
        session.bind(3, iommufd=4)
    for _ in range(dice.randint(0, 2)):
        session.dup(dice.choice((3, 4)))
    for _ in range(closes):
        numbers = [fd for fd, file in session.descriptors().items() if file.startswith(("vfio0", "iommu"))]
        if numbers:
            session.close(dice.choice(numbers))
    return session


def how_many(seed: int) -> Question:
    """How many references does a file have after these calls?"""
    dice = random.Random(f"refs {seed}")
    while True:
        session = _story(dice, dice.randint(0, 2))
        end = session.machine.trace.end
        living = [name for name in COUNTED if name in end.objects]
        if living:
            break
    name = dice.choice(living)
    ledger = end.objects[name].counts["f_ref"]
    numbers = sum(n for (holder, _), n in ledger.items() if holder.startswith("fds"))
    total = sum(ledger.values())
    held = tuple(f"{n} for {holder}: {reason}" for (holder, reason), n in ledger.items())
    wrong: dict[str, str | Slip] = {}
    if numbers != total:
        wrong[str(numbers)] = Slip(
            "You counted the descriptors. The kernel holds the file too.", M.ONE_NUMBER_ONE_HOLDER
        )
    return Question(
        f"{told(session, last_is_open=False)} How many references has {code(name)} now ({code('f_ref')})?",
        lambda: Finding(str(total), session.steps, _last_change(session.steps, f"{name}.f_ref"), held),
        "every unit of a counter belongs to a holder. These are the holders:",
        wrong=wrong,
        otherwise=Slip("Count holders, not calls: ask who would have to let go.", M.ONE_NUMBER_ONE_HOLDER),
        kind="number",
        view=(*WATCHED, "fds", "kvm_vfio"),
        hints=(
            "A dup is one more holder, a close one less.",
            "A binding holds the iommufd's file; the device object that it makes does too.",
        ),
        name="drill refs",
    )


def who_is_alive(seed: int) -> Question:
    """Which objects are alive after these closes?"""
    dice = random.Random(f"alive {seed}")
    session = _story(dice, dice.randint(1, 3))
    while not any(action.outcome.call.startswith("close") for action in session.actions):
        session.close(3)
    first = next(action for action in session.actions if action.outcome.call.startswith("close"))
    whole = session.machine.trace
    before = whole[first.before + 1 : first.before + 1]
    there = [name for name in WATCHED if name in before.end.objects]
    now = whole.end.objects
    wrong: dict[str, str | Slip] = {}
    for name in there:
        wrong[f"+{name}"] = Slip(f"Nobody holds {code(name)} any more.", M.LAST_IN_FIRST_OUT)
        wrong[f"-{name}"] = Slip(_kept(session, name), M.ONE_NUMBER_ONE_HOLDER)
    return Question(
        f"{told(session, last_is_open=False)} Which of these objects are alive now?",
        lambda: Finding(tuple(name for name in there if name in now), whole[first.before + 1 :], -1),
        "an object lives until its last holder lets go, and an object that goes lets go of all that it held.",
        {name: name for name in there},
        wrong,
        kind="set",
        view=(*there, "fds", "kvm_vfio", "vfio_device vfio0"),
        before=lambda: Finding("", before, 0),
        hints=("The picture shows how things stand before the first close.", "A binding ends with the device's file."),
        name="drill alive",
    )


def _kept(session: Session, name: str) -> str:
    end = session.machine.trace.end
    if name not in end.objects:
        return ""
    paths = session.machine.why(name).paths
    return f"Somebody keeps {code(name)}: {code(str(paths[0]))}." if paths else ""


def _last_change(trace: Trace, what: str) -> int:
    return max((step.index + 1 for step in trace if any(change.what == what for change in step.changes)), default=-1)
