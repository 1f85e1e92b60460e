"""Drills about calls that fail: which check refuses, and which of two mistakes wins."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from ...lab import Distractor, ExperimentResult, Misconception, Outcome, Question, Session
from ...uapi import Errno
from .. import misconceptions as M
from ..beginnings import (
    CTX,
    DEV,
    NODES,
    bind_already,
    bind_another_file,
    bind_sibling_elsewhere,
    open_group,
)
from .describe import code, decisive, describe

OTHER_OWNER = "somebody else owns the DMA of the group"


@dataclass(frozen=True)
class Mistake:
    """Something wrong with a BIND.

    * `says`: what the check that looks for it finds; `missed`: what is the case, for who has not seen it (HTML);
    * `instead`: what is the case where it was not made; {argsz} and the other fields stand for what the call has there;
    * `before`: what is done before the BIND; `fields`: what is written into its struct; `nodes`: the devices it can happen to;
    * `belief`: what those believe who think that it does no harm.
    """

    says: str
    missed: str
    instead: str
    before: Callable[[Session, str], object] | None = None
    fields: tuple[tuple[str, int], ...] = ()
    nodes: tuple[str, ...] = ("vfio0", "vfio1", "vfio2", "vfio4")
    belief: Misconception | None = None


MISTAKES: dict[str, Mistake] = {
    "short": Mistake(
        "argsz is less than the struct had at first",
        "argsz is 8, and the kernel wants 16 bytes at least.",
        "argsz is {argsz}, and 16 is enough.",
        fields=(("argsz", 8),),
    ),
    "long": Mistake(
        "argsz is more than the program has there",
        "argsz is 4096, and the program has only 24 bytes there.",
        "argsz is {argsz}, and the program has 24 bytes there.",
        fields=(("argsz", 4096),),
    ),
    "flags": Mistake(
        "a flag is set that nobody knows",
        "flags is 2, and the kernel knows no such flag.",
        "flags is {flags}: no flag is set.",
        fields=(("flags", 2),),
    ),
    "negative": Mistake(
        "the number in iommufd is negative",
        "iommufd is −1, and no descriptor is negative.",
        "iommufd is {iommufd}, which is not negative.",
        fields=(("iommufd", -1),),
    ),
    "closed": Mistake(
        "the number in iommufd is not open",
        "iommufd is 777, and nothing was opened under that number.",
        "iommufd is {iommufd}, and that descriptor is open.",
        fields=(("iommufd", 777),),
    ),
    "no iommufd": Mistake(
        "the file behind iommufd is of another kind",
        "iommufd is 3, and that is the device.",
        "iommufd is {iommufd}, and that is an iommufd.",
        fields=(("iommufd", DEV),),
    ),
    "group": Mistake(
        "the group's file is open",
        "The group's file is open, and it excludes the device's own file.",
        "Nobody has opened the group's file.",
        open_group,
        belief=M.BOTH_WAYS_AT_ONCE,
    ),
    "bound": Mistake(
        "this file is bound already",
        "Descriptor 3 is bound already, and a file is bound once.",
        "The file behind descriptor 3 was not bound before.",
        bind_already,
    ),
    "other file": Mistake(
        "another file of the device is bound already",
        "Descriptor 5 is another file of the same device, and it is bound already.",
        "The device has no second file that is bound.",
        bind_another_file,
        belief=M.SECOND_OPEN_IS_FINE,
    ),
    "sibling": Mistake(
        OTHER_OWNER,
        "Descriptor 5 is a device of the same group, and it is bound to another iommufd.",
        "Nobody else has bound a device of the group, and all its devices are on VFIO drivers.",
        bind_sibling_elsewhere,
        nodes=("vfio1", "vfio2"),
        belief=M.NO_GROUPS_ANY_MORE,
    ),
    "not viable": Mistake(
        OTHER_OWNER,
        "Another device of the group is on a driver of the host, which uses its DMA.",
        "",
        nodes=("vfio3",),
        belief=M.OWN_DRIVER_IS_ENOUGH,
    ),
}


def scenario(names: Sequence[str], node: str) -> tuple[Session, Outcome]:
    """A BIND of a device with these mistakes."""
    session = Session()
    session.open(NODES[node])
    session.open("/dev/iommu")
    for name in names:
        mistake = MISTAKES[name]
        if mistake.before:
            mistake.before(session, node)
    return session, session.bind(DEV, **_fields(names))


@cache
def alone(name: str, node: str) -> Outcome:
    """How a BIND ends that has this one mistake."""
    return scenario([name], node)[1]


def _fields(names: Sequence[str]) -> dict[str, int]:
    """The struct of a BIND with these mistakes."""
    return {"argsz": 24, "flags": 0, "iommufd": CTX} | dict(field for name in names for field in MISTAKES[name].fields)


def key_of(outcome: Outcome) -> str:
    """An outcome as an answer: the errno and the check."""
    return f"{outcome.result} {outcome.check}" if outcome.refused else outcome.result


def _choose(dice: random.Random, many: int) -> tuple[list[str], str]:
    """Some mistakes that can be made together, and a device that they can all happen to."""
    while True:
        names = dice.sample(list(MISTAKES), many)
        chosen = [MISTAKES[name] for name in names]
        nodes = [node for node in NODES if all(node in mistake.nodes for mistake in chosen)]
        written = [field for mistake in chosen for field, _ in mistake.fields]
        prepared = sum(mistake.before is not None for mistake in chosen)
        if nodes and len(set(written)) == len(written) and prepared <= 1:
            return names, dice.choice(nodes)


def which_errno(seed: int) -> Question:
    """A BIND, or another call, with one or two things wrong: which errno comes back, and from which check?"""
    dice = random.Random(f"errno {seed}")
    if dice.random() < 0.3:
        return _other_call(dice)
    names, node = _choose(dice, dice.choice((1, 2, 2)))
    written = {field for name in names for field, _ in MISTAKES[name].fields}
    others = [name for name in MISTAKES if name not in names and node in MISTAKES[name].nodes]
    others = [name for name in others if written.isdisjoint(field for field, _ in MISTAKES[name].fields)]
    session, last = scenario(names, node)
    (winner,) = (name for name in names if key_of(alone(name, node)) == key_of(last))
    choices = {key_of(last): f"{last.result}: {MISTAKES[winner].says}"}
    distractors: dict[str, str | Distractor] = {}
    for name in [*names, *dice.sample(others, min(3, len(others)))]:
        outcome = alone(name, node)
        key = key_of(outcome)
        if key not in choices:
            choices[key] = f"{outcome.result}: {MISTAKES[name].says}"
            distractors[key] = _late(outcome) if name in names else _absent(name, names)
    choices["0"] = "0: it succeeds"
    distractors["0"] = Distractor(MISTAKES[winner].missed, MISTAKES[winner].belief)
    return _question(
        "errno", dice, session, last, choices, distractors, "Which errno comes back, and which check refuses?"
    )


def which_wins(seed: int) -> Question:
    """A BIND with two things wrong that have different errnos: which one comes back?"""
    dice = random.Random(f"order {seed}")
    while True:
        names, node = _choose(dice, 2)
        first, second = (alone(name, node) for name in names)
        session, last = scenario(names, node)
        if first.result != second.result and last.result in (first.result, second.result):
            break
    choices = {alone(name, node).result: f"{alone(name, node).result}: {MISTAKES[name].says}" for name in names}
    loser = second if last.result == first.result else first
    distractors: dict[str, str | Distractor] = {loser.result: _late(loser)}
    return _question(
        "order", dice, session, last, choices, distractors, "Two things are wrong. Which errno comes back?"
    )


def _bound(session: Session) -> Session:
    session.bind(DEV, iommufd=CTX)
    return session


def _list_of_a_vm(session: Session) -> int:
    """The descriptor of the kvm-vfio device of a new VM."""
    vm = int(session.create_vm().result)
    return int(session.create_kvm_vfio(vm).result)


def _add_twice(session: Session) -> Outcome:
    kv = _list_of_a_vm(session)
    session.file_add(kv, DEV)
    return session.file_add(kv, DEV)


@dataclass(frozen=True)
class OtherCall:
    """A call other than BIND that is refused; `missed` and `belief` as in a `Mistake`."""

    make: Callable[[Session], Outcome]
    missed: str
    belief: Misconception | None = None


OTHER_CALLS = (
    OtherCall(
        lambda session: session.get_info(DEV),
        "The file is open, but not bound. Before BIND the gate is shut.",
        M.OPEN_IS_ENOUGH,
    ),
    OtherCall(
        lambda session: _bound(session).open("/dev/vfio/1"),
        "The device is bound through its own file, and that excludes the group's file.",
        M.BOTH_WAYS_AT_ONCE,
    ),
    OtherCall(
        lambda session: session.bind(CTX, iommufd=CTX), "BIND is a request to the device's file, and 4 is the iommufd."
    ),
    OtherCall(lambda session: session.bind(9, iommufd=CTX), "Nothing was opened under the number 9."),
    OtherCall(
        lambda session: session.file_add(_list_of_a_vm(session), CTX),
        "The list takes files of VFIO only, and 4 is the iommufd.",
    ),
    OtherCall(
        lambda session: session.file_del(_list_of_a_vm(session), DEV),
        "The file of the device was never put on the list.",
    ),
    OtherCall(_add_twice, "The file is on the list already, and a list has a file once."),
)


def _other_call(dice: random.Random) -> Question:
    """A call other than BIND of a device that is fine."""
    asked = dice.choice(OTHER_CALLS)
    session = Session()
    session.open(NODES["vfio0"])
    session.open("/dev/iommu")
    last = asked.make(session)
    choices = {last.result: _general(last.result)}
    for errno in dice.sample(["EBUSY", "EBADF", "EINVAL", "EPERM", "ENOTTY", "ENOENT", "EEXIST"], 4):
        choices.setdefault(errno, _general(errno))
    distractors: dict[str, str | Distractor] = {
        errno: f"{errno} stands for something else: {Errno[errno].sentence}. {asked.missed}"
        for errno in choices
        if errno != last.result
    }
    choices["0"], distractors["0"] = "0: it succeeds", Distractor(asked.missed, asked.belief)
    return _question("errno", dice, session, last, choices, distractors, "What does the last call return?", last.result)


def _general(errno: str) -> str:
    return f"{errno}: {Errno[errno].sentence}"


def _question(
    kind: str,
    dice: random.Random,
    session: Session,
    last: Outcome,
    choices: dict[str, str],
    distractors: dict[str, str | Distractor],
    asked: str,
    right: str = "",
) -> Question:
    keys = list(choices)
    dice.shuffle(keys)
    answer = right or (last.result if kind == "order" else key_of(last))
    where = (f"check {last.check} at {last.where}",) if last.check else ()
    return Question(
        f"{describe(session)} {asked}",
        lambda: ExperimentResult(answer, session.steps, decisive(session.steps), where),
        f"the first check that fails ends the call. Here that is: {last.sentence}.",
        {key: choices[key] for key in keys},
        distractors,
        name=f"drill {kind}",
    )


def _late(outcome: Outcome) -> Distractor:
    return Distractor(
        f"That is wrong here too ({code(outcome.check)}), but its check comes later: the call has ended before it.",
        M.ALL_CHECKS_AT_ONCE,
    )


def _absent(name: str, names: Sequence[str]) -> Distractor:
    """About a mistake that was not made, where others were."""
    if name == "bound" and "other file" in names:
        return Distractor(
            "You took another file for this one. Another file of the device is bound; the file that this BIND is "
            "called on is not.",
            M.SECOND_OPEN_IS_FINE,
        )
    return Distractor(f"That is not wrong here. {MISTAKES[name].instead.format(**_fields(names))}")
