"""Replays what a real kernel was asked, and compares the simulator's answers with those that were recorded.

`python -m vfiosim conformance PATH…` prints the differences. `recordings.py` reads the files, `replay.py` makes the calls
of one scenario on a simulated machine, `ending.py` looks at what is left of it, `compare.py` says what counts as the same.
"""

from .check import check, check_scenario
from .command import main
from .recordings import Recording, UnreadableError, load, recordings

__all__ = ["Recording", "UnreadableError", "check", "check_scenario", "load", "main", "recordings"]
