"""Widgets for notebooks: a bench to make calls on, questions to answer before the simulator does, tasks to solve."""

from .alive import Alive
from .bench import Bench
from .by_hand import ByHand, HandTask, scheduler
from .exercise import Exercise, Task
from .goal import Fact, Goal
from .parsons import Judged, Ordering, Parsons
from .predict import Prediction
from .presenter import Presenter, present, presenter
from .question import Answer, Finding, Misconception, Question, Slip, errnos
from .quiz import Quiz
from .races import Races
from .record import Progress, progress
from .room import RoomView, room
from .sandbox import Sandbox
from .session import Outcome, Session

__all__ = [
    "Alive",
    "Answer",
    "Bench",
    "ByHand",
    "Exercise",
    "Fact",
    "Finding",
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
    "Slip",
    "Task",
    "errnos",
    "present",
    "presenter",
    "progress",
    "room",
    "scheduler",
]
