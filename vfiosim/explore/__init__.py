"""Every schedule of a few calls: what can happen, what can go wrong, and the shortest way to it.

`search` is the search, `threads` the threads that it moves, `accesses` says which effects may change places, `model` is a machine
as the search sees it, `beginning` sets it back for the next schedule, `monitor` what is looked at on the way, `explorer` the door.
`touches` says where threads meet and what each has seen there, `missing` what has to happen on a way into harm, `turns` tells such
a way in turns. `faults` lets everything in a call fail in turn and sees what is left behind.
"""

from .explorer import explore
from .faults import FailurePoint, Leak, Sweep, Tried, faultable, sweep
from .result import Outcome, Result, Witness, words

__all__ = [
    "FailurePoint",
    "Leak",
    "Outcome",
    "Result",
    "Sweep",
    "Tried",
    "Witness",
    "explore",
    "faultable",
    "sweep",
    "words",
]
