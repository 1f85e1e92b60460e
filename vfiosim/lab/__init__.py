"""Widgets for notebooks: a bench to make calls on, questions to answer before the simulator does, tasks to solve."""

from .alive import Alive
from .bench import Bench
from .by_hand import ByHand, HandTask, scheduler
from .exercise import Exercise, Task
from .goal import Fact, Goal
from .outcome import Outcome
from .parsons import Judged, Ordering, Parsons
from .predict import Prediction
from .presenter import Presenter, present, presenter
from .question import Answer, Distractor, ExperimentResult, Misconception, Question, errnos
from .quiz import Quiz
from .races import Races
from .record import Progress, progress
from .room import RoomView, room
from .sandbox import Sandbox
from .session import Session

__all__ = [
    "Alive",
    "Answer",
    "Bench",
    "ByHand",
    "Distractor",
    "Exercise",
    "ExperimentResult",
    "Fact",
    "Goal",
    "HandTask",
    "Judged",
    "Misconception",
    "Ordering",
    "Outcome",
    "Parsons",
    "Prediction",
    "Presenter",
    "Progress",
    "Question",
    "Quiz",
    "Races",
    "RoomView",
    "Sandbox",
    "Session",
    "Task",
    "errnos",
    "present",
    "presenter",
    "progress",
    "room",
    "scheduler",
]
