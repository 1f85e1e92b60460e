"""How questions of several lessons are answered: calls on a fresh machine, what they answered, and who holds what then."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller as call

from ..lab import ExperimentResult, Outcome, Session
from ..lab.question import step_saying
from ..trace import Trace
from .drills.describe import decisive, held_by

__all__ = ["call", "ended", "found", "held", "last_change", "ran", "told"]


def ran(start: Callable[[Session], object] | None, *calls: Callable[[Session], object], config: str = "") -> Session:
    """A fresh machine after this beginning and these calls; `config`: how its kernel was built."""
    session = Session(start=start or (lambda session: None), config=config or None)
    for one in calls:
        one(session)
    return session


def ended(session: Session, answer: object = "", *evidence: str, at: str = "") -> ExperimentResult:
    """How the last call ended: with `answer` or its result, at the step that refused, or that last changed the cell `at`."""
    steps, outcome = session.steps, session.done[-1].outcome
    step = decisive(steps) if outcome.refused or not at else last_change(steps, at)
    return ExperimentResult(answer or outcome.result, steps, step, evidence)


def told(*outcomes: Outcome) -> tuple[str, ...]:
    """What calls answered, and why, a line for each."""
    return tuple(f"{one.call} → {one.result}: {one.evidence}".rstrip(": ") for one in outcomes)


def found(
    session: Session, answer: object, at: str | int, *evidence: str, since: int | None = None
) -> ExperimentResult:
    """An answer with the steps of the last call, or of all from the one with the number `since` on.

    `at`: a part of the sentence of the step that decides, or its number. `evidence`: what was counted; without any, what the last
    call answered.
    """
    trace = session.steps if since is None else session.machine.trace[session.done[since].steps_before :]
    step = step_saying(trace, at) if isinstance(at, str) else at
    return ExperimentResult(answer, trace, step, evidence or told(session.done[-1].outcome))


def last_change(trace: Trace, what: str) -> int:
    """The last step (counted from 1) that changed this cell; -1, the last of all, if none did."""
    return max((step.index + 1 for step in trace if any(change.what == what for change in step.changes)), default=-1)


def held(trace: Trace, name: str) -> tuple[str, ...]:
    """Who holds a file at the end, a line for each reference."""
    ledger = trace.end.objects[name].counts["f_ref"] if name in trace.end.objects else {}
    return tuple(held_by(holder, reason, n) for (holder, reason), n in ledger.items())
