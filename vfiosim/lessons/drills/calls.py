"""Drills about calls that fail: which check refuses, and which of two mistakes wins."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...lab import Finding, Misconception, Outcome, Question, Session, Slip
from ...uapi import Errno
from .. import misconceptions as M
from .told import code, decisive, told

NODES = {f"vfio{number}": f"/dev/vfio/devices/vfio{number}" for number in range(5)}
GROUPS = {"vfio0": 1, "vfio1": 2, "vfio2": 2, "vfio3": 3, "vfio4": 4}
DEV, CTX = 3, 4  # the descriptors of the device and of the iommufd


@dataclass(frozen=True)
class Mistake:
    """Something wrong with a BIND: what is done before it, which fields it has, which devices it can happen to."""

    belief: Misconception
    before: Callable[[Session, str], object] | None = None
    fields: tuple[tuple[str, int], ...] = ()
    nodes: tuple[str, ...] = ("vfio0", "vfio1", "vfio2", "vfio4")


def _open_group(session: Session, node: str) -> None:
    session.open(f"/dev/vfio/{GROUPS[node]}")


def _bind_already(session: Session, node: str) -> None:
    session.bind(DEV, iommufd=CTX)


def _bind_another_file(session: Session, node: str) -> None:
    other = int(session.open(NODES[node]).result)
    session.bind(other, iommufd=CTX)


def _sibling_elsewhere(session: Session, node: str) -> None:
    sibling = int(session.open(NODES["vfio2" if node == "vfio1" else "vfio1"]).result)
    elsewhere = int(session.open("/dev/iommu").result)
    session.bind(sibling, iommufd=elsewhere)


MISTAKES: dict[str, Mistake] = {
    "short": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("argsz", 8),)),
    "long": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("argsz", 4096),)),
    "flags": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("flags", 2),)),
    "negative": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("iommufd", -1),)),
    "closed": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("iommufd", 777),)),
    "no iommufd": Mistake(M.ALL_CHECKS_AT_ONCE, fields=(("iommufd", DEV),)),
    "group": Mistake(M.BUSY_IS_A_BUG, _open_group),
    "bound": Mistake(M.SECOND_OPEN_IS_FINE, _bind_already),
    "other file": Mistake(M.SECOND_OPEN_IS_FINE, _bind_another_file),
    "sibling": Mistake(M.NO_GROUPS_ANY_MORE, _sibling_elsewhere, nodes=("vfio1", "vfio2")),
    "not viable": Mistake(M.OWN_DRIVER_IS_ENOUGH, nodes=("vfio3",)),
}


def scenario(names: Sequence[str], node: str) -> tuple[Session, Outcome]:
    """A BIND of a device with these mistakes."""
    session = Session()
    session.open(NODES[node])
    session.open("/dev/iommu")
    fields: dict[str, Any] = {"argsz": 24, "iommufd": CTX}
    for name in names:
        mistake = MISTAKES[name]
        if mistake.before:
            mistake.before(session, node)
        fields.update(mistake.fields)
    return session, session.bind(DEV, **fields)


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
    outcomes = {name: scenario([name], node)[1] for name in names}
    others = [name for name in MISTAKES if name not in names and node in MISTAKES[name].nodes]
    wrong = dice.sample(others, min(3, len(others)))
    outcomes |= {name: scenario([name], node)[1] for name in wrong}
    session, last = scenario(names, node)
    choices = {key_of(last): _said(last)}
    slips: dict[str, str | Slip] = {}
    for name, outcome in outcomes.items():
        key = key_of(outcome)
        if key not in choices:
            choices[key] = _said(outcome)
            slips[key] = Slip(_late(outcome) if name in names else _absent(outcome), MISTAKES[name].belief)
    choices["0"] = "0: it succeeds"
    slips["0"] = Slip("Something is wrong here, and a check looks for it.", M.ALL_CHECKS_AT_ONCE)
    return _question("errno", dice, session, last, choices, slips, "Which errno comes back, and which check refuses?")


def which_wins(seed: int) -> Question:
    """A BIND with two things wrong that have different errnos: which one comes back?"""
    dice = random.Random(f"order {seed}")
    while True:
        names, node = _choose(dice, 2)
        first, second = (scenario([name], node)[1] for name in names)
        session, last = scenario(names, node)
        if first.result != second.result and last.result in (first.result, second.result):
            break
    choices = {one.result: f"{one.result}: {one.sentence}" for one in (first, second)}
    loser = second if last.result == first.result else first
    slips: dict[str, str | Slip] = {loser.result: Slip(_late(loser), M.ALL_CHECKS_AT_ONCE)}
    return _question("order", dice, session, last, choices, slips, "Two things are wrong. Which errno comes back?")


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


OTHER_CALLS: tuple[Callable[[Session], Outcome], ...] = (
    lambda session: session.get_info(DEV),
    lambda session: _bound(session).open("/dev/vfio/1"),
    lambda session: session.bind(CTX, iommufd=CTX),
    lambda session: session.bind(9, iommufd=CTX),
    lambda session: session.file_add(_list_of_a_vm(session), CTX),
    lambda session: session.file_del(_list_of_a_vm(session), DEV),
    _add_twice,
)


def _other_call(dice: random.Random) -> Question:
    """A call other than BIND of a device that is fine."""

    def run(call: Callable[[Session], Outcome]) -> tuple[Session, Outcome]:
        session = Session()
        session.open(NODES["vfio0"])
        session.open("/dev/iommu")
        return session, call(session)

    session, last = run(dice.choice(OTHER_CALLS))
    choices = {last.result: _said(last)}
    for errno in dice.sample(["EBUSY", "EBADF", "EINVAL", "EPERM", "ENOTTY", "ENOENT", "EEXIST"], 4):
        choices.setdefault(errno, _general(errno))
    choices.setdefault("0", "0: it succeeds")
    belief = M.OPEN_IS_ENOUGH if last.check == "access_granted" else M.BUSY_IS_A_BUG
    slips: dict[str, str | Slip] = {"0": Slip(f"It is refused: {last.sentence}.", belief)}
    slips |= {
        errno: Slip(f"No check that fails here has it. The one that refuses says: {last.sentence}.", belief)
        for errno in choices
        if errno not in (last.result, "0")
    }
    return _question("errno", dice, session, last, choices, slips, "What does the last call return?", last.result)


def _general(errno: str) -> str:
    return f"{errno}: {Errno[errno].sentence}"


def _question(
    kind: str,
    dice: random.Random,
    session: Session,
    last: Outcome,
    choices: dict[str, str],
    slips: dict[str, str | Slip],
    asked: str,
    right: str = "",
) -> Question:
    keys = list(choices)
    dice.shuffle(keys)
    answer = right or (last.result if kind == "order" else key_of(last))
    where = (f"check {last.check} at {last.where}",) if last.check else ()
    return Question(
        f"{told(session)} {asked}",
        lambda: Finding(answer, session.steps, decisive(session.steps), where),
        f"the first check that fails ends the call. Here that is: {last.sentence}.",
        {key: choices[key] for key in keys},
        slips,
        name=f"drill {kind}",
    )


def _said(outcome: Outcome) -> str:
    return f"{outcome.result}: {outcome.sentence}"


def _late(outcome: Outcome) -> str:
    return f"That is wrong here too ({code(outcome.check)}), but its check comes later: the call has ended before it."


def _absent(outcome: Outcome) -> str:
    return f"This is not wrong here: {code(outcome.check)} has nothing to refuse."
