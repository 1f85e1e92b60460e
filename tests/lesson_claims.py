"""What tests of lessons do as a student does: answer a question, put lines in order, press and check."""

from __future__ import annotations

from vfiosim.lab import Ordering, Prediction, Question
from vfiosim.lab.parsons import BORDER


def answered(question: Question, value: object) -> Prediction:
    """The question with this answer committed and its run shown."""
    prediction = Prediction(question)
    prediction.choice.value = value
    prediction.commit.click()
    prediction.reveal.click()
    return prediction


def ordered(puzzle: Ordering, *keys: str) -> str:
    """Put these lines in this order, all others aside, and Check: what it says."""
    rest = [key for key in puzzle.order.value if key not in (*keys, BORDER)]
    puzzle.order.value = (*keys, BORDER, *rest)
    puzzle.check.click()
    return puzzle.message
