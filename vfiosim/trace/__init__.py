"""A run of the kernel as plain data, to be shown, compared and kept: see `Trace`."""

from .plain import Plain, Ref
from .recorder import Recorder, snapshot
from .state import Edit, ObjectState, Place, Reference, State, ThreadState, Waiting, Want
from .steps import Changed, MicroStep, Step
from .trace import Diff, ThreadRun, Trace, same_snapshot

__all__ = [
    "Changed",
    "Diff",
    "Edit",
    "MicroStep",
    "ObjectState",
    "Place",
    "Plain",
    "Recorder",
    "Ref",
    "Reference",
    "State",
    "Step",
    "ThreadRun",
    "ThreadState",
    "Trace",
    "Waiting",
    "Want",
    "same_snapshot",
    "snapshot",
]
