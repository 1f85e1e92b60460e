"""What all lessons have: questions to predict, what is told once they are answered, a quiz, and an end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ..lab import Prediction, Question, Quiz
from ..lab.finish import End, Finish
from ..lab.once_answered import OnceAnswered
from ..naming import must_be_one_of
from .ends import ENDS


@dataclass(frozen=True)
class Lesson:
    """The questions of a lesson, those of its quiz, and its tasks.

    `tasks`: the name under which a task is kept → what it is called on the page, which tells the question and not the answer.
    `number` is that of its notebook ("03"): with the key of a question it is the question's name, where that has none;
    `view`: what the pictures of its questions show, where they say nothing else; `further`: which of these names
    the main way leaves out: they stand in the notebook's last part.
    """

    number: str
    questions: Mapping[str, Question]
    check: Sequence[Question]
    tasks: Mapping[str, str]
    view: Collection[str] = ()
    further: Collection[str] = ()

    def __post_init__(self) -> None:
        def whole(one: Question, key: str) -> Question:
            return replace(one, name=one.name or f"{self.number} {key}", view=one.view or self.view)

        object.__setattr__(self, "questions", {key: whole(one, key) for key, one in self.questions.items()})
        object.__setattr__(self, "check", tuple(whole(one, "") for one in self.check))

    @property
    def exercises(self) -> tuple[str, ...]:
        """The names under which the answers to all its questions and tasks are kept."""
        return (*(question.name for question in self.asked), *self.tasks)

    @property
    def main(self) -> list[str]:
        """Those of them that the main way of the notebook has."""
        return [name for name in self.exercises if name not in self.further]

    @property
    def asked(self) -> tuple[Question, ...]:
        """All questions, those of the quiz last."""
        return (*self.questions.values(), *self.check)

    def question(self, name: str) -> Question:
        """One of the questions. Raises ValueError for a name that the lesson does not have."""
        must_be_one_of(self.questions, name, "question")
        return self.questions[name]

    def predict(self, name: str) -> Prediction:
        """A question to answer before its run is shown. Raises ValueError for a name that the lesson does not have."""
        return Prediction(self.question(name))

    def once_answered(self, name: str, what: object, *more: str) -> OnceAnswered:
        """What a cell has found out, shown once the question (and those in `more`), or a task, has been answered.

        Raises ValueError where there is none of such a name.
        """
        known = {called: kept for kept, called in self.tasks.items()}
        kept = (known[one] if one in known else self.question(one).name for one in (name, *more))
        return OnceAnswered(dict(zip(kept, (name, *more), strict=True)), what)

    def quiz(self) -> Quiz:
        """The questions at the end."""
        return Quiz(self.check)

    def finish(self) -> Finish:
        """The end of the lesson: what its reader can do now, and which one is next."""
        can, then = ENDS[self.number]
        then = then if self.number != "00" else ("", "")  # that page ends with it
        quiz = [question.name for question in self.check]
        names = [question.name for question in self.questions.values()] + [*self.tasks] + quiz
        main, further = ([name for name in names if (name in self.further) is later] for later in (False, True))
        called = {question.name: key for key, question in self.questions.items()}
        called |= {**self.tasks, **{name: f"Check yourself {number}" for number, name in enumerate(quiz, 1)}}
        return Finish(End(self.number, main, can, then, called, further))


def lessons() -> list[Lesson]:
    """All lessons there are, by number."""
    modules = [import_module(f"{__package__}.{one.name}") for one in iter_modules([str(Path(__file__).parent)])]
    found = [module.LESSON for module in modules if hasattr(module, "LESSON")]
    return sorted(found, key=lambda lesson: lesson.number)
