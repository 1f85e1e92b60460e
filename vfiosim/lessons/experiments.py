"""How questions of several lessons are answered: calls on a fresh machine, how the last one ended, and who holds what then."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller as call

from ..lab import ExperimentResult, Session
from ..trace import Trace
from .drills.describe import decisive

__all__ = ["call", "ended", "held", "last_change", "ran"]


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


def last_change(trace: Trace, what: str) -> int:
    """The last step (counted from 1) that changed this cell; -1, the last of all, if none did."""
    return max((step.index + 1 for step in trace if any(change.what == what for change in step.changes)), default=-1)


def held(trace: Trace, name: str) -> tuple[str, ...]:
    """Who holds a file at the end, a line for each reference."""
    ledger = trace.end.objects[name].counts["f_ref"] if name in trace.end.objects else {}
    return tuple(f"{n} for {holder}: {reason}" for (holder, reason), n in ledger.items())
