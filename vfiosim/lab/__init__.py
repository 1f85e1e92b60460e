"""Widgets for notebooks: a bench to make calls on, questions to answer before the simulator does, a task to solve."""

from .alive import Alive
from .bench import Bench
from .exercise import Exercise, Task
from .predict import Finding, Prediction, Question
from .session import Outcome, Session

__all__ = ["Alive", "Bench", "Exercise", "Finding", "Outcome", "Prediction", "Question", "Session", "Task"]
