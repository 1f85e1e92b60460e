"""Drills about who holds what: how many references there are, and who is alive."""

from __future__ import annotations

import random
from collections.abc import Collection

from ...lab import Distractor, ExperimentResult, Question, Session
from ...trace import Trace
from .. import misconceptions as M
from .describe import code, describe, held_by

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
WATCHED = DEVICE, DEVICE_FILE, IOMMUFD, CONTEXT, BINDING = (
    "file vfio0#1",
    "vfio_device_file 1",
    "file iommu#1",
    "iommufd_ctx 1",
    "iommufd_device 1",
)
COUNTED = (DEVICE, IOMMUFD)
GONE = {
    DEVICE: Distractor(f"Nobody holds {code(DEVICE)} any more, so it goes.", at=f"Nobody holds {DEVICE}"),
    DEVICE_FILE: Distractor(
        f"{code(DEVICE_FILE)} goes with {code(DEVICE)}, and nobody holds that any more.", at=f"Nobody holds {DEVICE}"
    ),
    IOMMUFD: Distractor(f"Nobody holds {code(IOMMUFD)} any more, so it goes.", at=f"Nobody holds {IOMMUFD}"),
    CONTEXT: Distractor(
        f"{code(CONTEXT)} goes with {code(IOMMUFD)}, and nobody holds that any more.", at=f"{CONTEXT} is freed"
    ),
    BINDING: Distractor(
        f"{code(BINDING)} goes with the binding, and that ends with {code(DEVICE)}.", at=f"{BINDING} is freed"
    ),
}


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
        numbers = [fd for fd, file in session.descriptors().items() if file.label.startswith(("vfio0", "iommu"))]
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
    others = [code(holder) for holder, _ in ledger if not holder.startswith("fds")]
    held = tuple(held_by(holder, reason, n) for (holder, reason), n in ledger.items())
    wrong: dict[str, str | Distractor] = {}
    if numbers != total:
        wrong[str(numbers)] = Distractor(
            f"You counted the descriptors. The file is held by {' and '.join(others)}, too.",
            M.ONE_NUMBER_ONE_HOLDER,
            lambda: ExperimentResult(str(total), *_counted(session, name, {"BIND", "FILE_ADD"}), held),
            "is listed" if name == DEVICE else "gets an object in",
        )
    return Question(
        f"{describe(session, last_is_open=False)} How many references has {code(name)} now ({code('f_ref')})?",
        lambda: ExperimentResult(str(total), *_counted(session, name), held),
        "every unit of a counter belongs to a holder. These are the holders:",
        wrong=wrong,
        otherwise="Each unit of the count belongs to a holder: a descriptor, a list, a binding, or the device object "
        "that BIND makes.",
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
    while not any(done.outcome.call.startswith("close") for done in session.done):
        session.close(3)
    first = next(done for done in session.done if done.outcome.call.startswith("close"))
    whole = session.machine.trace
    before = whole[first.steps_before : first.steps_before]
    there = [name for name in WATCHED if name in before.end.objects]
    steps, now = whole[first.steps_before :], whole.end.objects
    wrong: dict[str, str | Distractor] = {}
    for name in there:
        wrong[f"{'-' if name in now else '+'}{name}"] = _kept(session, steps, name) if name in now else GONE[name]
    return Question(
        f"{describe(session, last_is_open=False)} Which of these objects are alive now?",
        lambda: ExperimentResult(tuple(name for name in there if name in now), steps, -1),
        "an object lives until its last holder lets go, and an object that goes lets go of all that it held.",
        {name: name for name in there},
        wrong,
        kind="set",
        view=(*there, "fds", "kvm_vfio", "vfio_device vfio0"),
        before=lambda: ExperimentResult("", before, 0),
        hints=("The picture shows how things stand before the first close.", "A binding ends with the device's file."),
        name="drill alive",
    )


def _kept(session: Session, steps: Trace, name: str) -> Distractor:
    """About an object that lives, and the reader takes it to be gone: who keeps it, and which close did not end it."""
    paths = session.machine.why(name).paths
    through = DEVICE if name == BINDING else ""  # an ID does not keep it
    path = next((path for path in paths if str(path).startswith("fds") and through in str(path)), paths[0])
    closed = {file: _closing(steps, file) for file in COUNTED}
    if name == BINDING and closed[IOMMUFD]:
        belief, at = M.CLOSING_IS_RELEASING, closed[IOMMUFD]
    else:
        belief, at = M.ONE_NUMBER_ONE_HOLDER, closed[IOMMUFD if name in (IOMMUFD, CONTEXT) else DEVICE]
    if not at:
        return Distractor(f"No close has touched what keeps {code(name)} alive: {path.words}.", at="close")
    return Distractor(
        f"{code(name)} is still alive after this close. It is kept: {path.words}.",
        belief,
        lambda: ExperimentResult("", steps, at),
    )


def _closing(steps: Trace, file: str) -> int:
    """The last step (counted from 1) in which a descriptor of this file was closed; 0 if none was."""
    return max(
        (
            step.index + 1
            for step in steps
            if any(
                change.what.startswith("fds") and (change.old, change.new) == (file, None) for change in step.changes
            )
        ),
        default=0,
    )


def _counted(session: Session, file: str, calls: Collection[str] = ("",)) -> tuple[Trace, int]:
    """The last of these calls that changed the count of a file, as its steps, and in which of them (counted from 1)."""
    whole, end = session.machine.trace, len(session.machine.trace)
    for done in reversed(session.done):
        steps = whole[done.steps_before : end]
        there = whole.diff(done.steps_before - 1, end - 1)
        different = any((link.target, link.via) == (file, "f_ref") for link in (*there.gained, *there.lost))
        if different and any(call in done.outcome.call for call in calls):
            changed = [step.index for step in steps if any(change.what == f"{file}.f_ref" for change in step.changes)]
            return steps, changed[-1] + 1
        end = done.steps_before
    raise ValueError(f"nothing has changed the count of {file}")
