"""Widgets for notebooks: a bench to make calls on, questions to answer before the simulator does, tasks to solve."""

import gc as _gc
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ..lazily import lazily as _lazily
from .alive import Alive as Alive
from .bench import Bench as Bench
from .exercise import Exercise as Exercise
from .exercise import Task as Task
from .goal import Fact as Fact
from .goal import Goal as Goal
from .outcome import Outcome as Outcome
from .parsons import Judged as Judged
from .parsons import Ordering as Ordering
from .parsons import Parsons as Parsons
from .predict import Prediction as Prediction
from .presenter import Presenter as Presenter
from .presenter import present as present
from .presenter import presenter as presenter
from .question import Answer as Answer
from .question import Distractor as Distractor
from .question import ExperimentResult as ExperimentResult
from .question import Misconception as Misconception
from .question import Question as Question
from .question import errnos as errnos
from .quiz import Quiz as Quiz
from .record import Progress as Progress
from .record import progress as progress
from .session import Session as Session

if _TYPE_CHECKING:
    from .by_hand import ByHand as ByHand
    from .by_hand import HandTask as HandTask
    from .by_hand import scheduler as scheduler
    from .museum_room import RoomView as RoomView
    from .museum_room import room as room
    from .races import Races as Races
    from .sandbox import Sandbox as Sandbox

# With them come the sandbox, all puzzles and the museum: half of what there is to import.
__getattr__ = _lazily(
    __name__,
    by_hand=("ByHand", "HandTask", "scheduler"),
    museum_room=("RoomView", "room"),
    races=("Races",),
    sandbox=("Sandbox",),
)

_gc.freeze()  # what was imported up to here stays: no search for garbage goes through it again
