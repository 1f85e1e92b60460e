"""Two grains of a run: micro-steps (one effect each) and steps (one sentence each)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import NamedTuple

from ..engine import Phase
from .found import NOTHING, found
from .plain import Plain, record, shown
from .state import Edit, Place, State, ThreadState, Want


@record(kw_only=True)
class MicroStep(Place):
    """One effect as it happened.

    `sentence` is what the kernel code said before it; `refused` is the errno that it failed with, and `why` the reason;
    `wrong` is what it does wrong although the run goes on: a use after free, a warning of the kernel;
    `copied` is what it copied from or to the memory of a program, an address and at most 64 bytes as hexadecimal digits;
    `want` is what the thread asks for next, if it may have to wait for it; `ended` tells how the call ended, if this
    was its last effect.
    """

    index: int
    thread: str
    call: int
    operation: str
    text: str
    phase: str
    sentence: str = ""
    refused: str = ""
    why: str = ""
    wrong: str = ""
    process: str = ""
    edits: tuple[Edit, ...] = ()
    copied: tuple[int, str] = (0, "")
    want: Want | None = None
    ended: str = ""

    def __str__(self) -> str:
        return f"{self.index:4} {self.thread}: {self.text}"


TAKES = frozenset(("alloc", "get", "get_unless_zero", "copy_to_user"))  # operations that undo nothing
GETS = frozenset(("get", "get_unless_zero"))  # those that count a reference
GIVEN_BACK = "What was taken is given back, the last first."  # where the way out after a refusal says nothing itself
GIVES_BACK = "The call gives its reference to "  # what a call that goes well does last: it returns in the same step
RETURNS = "The call returns"
LETS_GO = "The call holds the file no more."  # the same where no more was taken
_PLACE = tuple(one.name for one in fields(Place))
_place = attrgetter(*_PLACE)


class Changed(NamedTuple):
    """What a step did to one cell or object: `what` is its path, `old` and `new` are what a reader sees there."""

    what: str
    old: Plain
    new: Plain

    def __str__(self) -> str:
        if "alive" in (self.old, self.new):
            return f"{self.what} {'is born' if self.old is None else 'is freed'}"
        return f"{self.what}: {shown(self.old)} → {shown(self.new)}"


@record(kw_only=True)
class Step(Place):
    """What happened, in one sentence. It covers the micro-steps from `first` to `last`.

    A step may cover none, then its `first` is behind its `last`: a thread only waits (`waits`), dies of an oops, or
    says what it is about to check and is refused at once, or tells what is broken after the step before it. `refused` is
    an errno, or "oops", "use after free", "warning", "broken"; `harmed` are the paths of the cells that contradict each other then.
    `file`, `line` and `source` are where it begins.
    """

    index: int
    first: int
    last: int
    phase: str
    sentence: str
    thread: str
    call: int
    refused: str = ""
    waits: bool = False
    changes: tuple[Changed, ...] = ()
    harmed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.index + 1:3} {self.phase:8} {self.thread}: {self.sentence}"


def breakage(after: Step, sentence: str, harmed: tuple[str, ...] = ()) -> Step:
    """A step without effects that tells what is broken after another step, and what that step has changed."""
    first, index = after.last + 1, after.index + 1
    return replace(after, index=index, first=first, sentence=sentence, refused="broken", waits=False, harmed=harmed)


def take(state: State, micro: MicroStep) -> None:
    """Bring a state from before this micro-step to after it."""
    for edit in micro.edits:
        state.apply(edit)
    state.running = micro.thread
    if micro.ended:
        state.threads.pop(micro.thread, None)
    else:
        state.threads[micro.thread] = ThreadState(micro.thread, micro.call, micro.process, micro.want)


@dataclass(slots=True)
class _Draft:
    """A step that may still grow: what it is called, where it begins, and its micro-steps up to now."""

    sentence: str
    phase: str
    telling: MicroStep  # its thread and call are those of the step
    place: Place
    first: int
    refused: str = ""
    waits: bool = False
    micros: list[MicroStep] = field(default_factory=list)
    changed: dict[str, tuple[Edit, Plain]] = field(default_factory=dict)  # what: its last edit, what was there before


class Grouper:
    """Puts micro-steps together to steps; more can be added at any time."""

    def __init__(self, start: State) -> None:
        self.state = start.copy()
        self._done: list[Step] = []
        self._draft: _Draft | None = None
        self._failed: set[int] = set()  # calls of which something was refused
        self._refused: set[int] = set()  # those that have said nothing since
        self._said: dict[int, tuple[str, str]] = {}  # by call, the last sentence about it, and its phase

    def copy(self) -> Grouper:
        """An independent twin."""
        twin = Grouper(self.state)
        draft = self._draft
        if draft is not None:
            twin._draft = replace(draft, micros=draft.micros[:], changed=dict(draft.changed))
        twin._done, twin._said = self._done[:], dict(self._said)
        twin._failed, twin._refused = set(self._failed), set(self._refused)
        return twin

    def add(self, micro: MicroStep) -> None:
        """The next micro-step of the run."""
        draft = self._draft
        sentence, phase = micro.sentence, micro.phase
        if phase == Phase.RELEASE and micro.call in self._failed:
            phase = Phase.UNWIND.value
        if not sentence and micro.call in self._refused and micro.edits and micro.operation not in TAKES:
            own = all(edit.cell == "f_ref" and edit.key and edit.key[-1] == "running call" for edit in micro.edits)
            sentence, phase = LETS_GO if own else GIVEN_BACK, Phase.UNWIND.value
        if sentence:
            draft = self._says(micro, sentence, phase)
        if micro.refused:
            why = f"Refused with {micro.refused}: {micro.why.rstrip('.')}."
            draft = self._begin(micro, why, Phase.VALIDATE.value, micro.refused)
            self._failed.add(micro.call)
            self._refused.add(micro.call)
        elif micro.wrong:
            kind, _, what = micro.wrong.partition(": ")
            draft = self._begin(micro, f"{kind.capitalize()}: {what}.", micro.phase, kind)
        elif draft is None or draft.telling.call != micro.call or draft.telling.wrong:
            draft = self._begin(micro, *self._goes_on(micro))
        for edit in micro.edits:
            what = edit.what
            known = draft.changed.get(what)
            draft.changed[what] = edit, known[1] if known else _value(self.state, edit)
        draft.micros.append(micro)
        take(self.state, micro)

    def steps(self) -> list[Step]:
        """The steps up to now; the last ones may still grow."""
        return [*self._done, *self._finished()]

    def _says(self, micro: MicroStep, sentence: str, phase: str) -> _Draft:
        """The step of what the call has said: a new one, or that before where this belongs to it."""
        draft = self._draft
        if draft is None or draft.telling.call != micro.call:
            draft = self._begin(micro, sentence, phase)
        elif sentence.startswith(RETURNS) and draft.sentence.startswith(GIVES_BACK):
            phase, sentence = (
                draft.phase,
                f"{draft.sentence.removesuffix('.')} and {sentence.removeprefix('The call ')}",
            )
            draft.sentence = sentence
        elif _only_entered(draft):
            draft.sentence, draft.phase, draft.telling, draft.place = sentence, phase, micro, micro
        else:
            draft = self._begin(micro, sentence, phase)
        self._said[micro.call] = sentence, phase
        self._refused.discard(micro.call)
        return draft

    def _begin(self, micro: MicroStep, sentence: str, phase: str, refused: str = "") -> _Draft:
        draft = self._draft
        if draft is not None and draft.telling.call == micro.call:
            passed = not (micro.refused or micro.wrong)
            draft.sentence = found(draft.sentence, (one.text for one in draft.micros), passed)
            if draft.sentence in NOTHING:
                draft.phase = Phase.VALIDATE.value
        self._done.extend(self._finished())
        self._draft = _Draft(sentence, phase, micro, micro, micro.index, refused)
        return self._draft

    def _goes_on(self, micro: MicroStep) -> tuple[str, str]:
        said, phase = self._said.get(micro.call, ("", micro.phase))
        return f"{micro.thread} goes on: {said}" if said else f"{micro.thread} enters the kernel.", phase

    def _finished(self) -> Iterator[Step]:
        """The open step as it is now, and a step without effects where its thread can do none: it waits, or it died."""
        draft = self._draft
        if draft is None:
            return
        number = len(self._done)
        yield self._step(draft, number)
        last = draft.micros[-1] if draft.micros else draft.telling
        after = draft.first + len(draft.micros)
        if last.ended.startswith("oops"):
            yield self._step(_Draft(f"Oops{last.ended[4:]}", draft.phase, last, last, after, "oops"), number + 1)
        for waiting in self.state.waiting():
            if draft.micros and waiting.thread == last.thread and last.want is not None:
                said = f"{last.want.sentence.rstrip('.')}. " if last.want.sentence else ""
                phase = last.want.phase or Phase.LOCK.value
                yield self._step(_Draft(f"{said}{waiting}.", phase, last, last.want, after, waits=True), number + 1)

    def _step(self, draft: _Draft, index: int) -> Step:
        telling, phase, changes = draft.telling, draft.phase, tuple(self._changes(draft))
        if phase == Phase.VALIDATE and not draft.refused:  # who looks something up may take it, too
            taken = {edit.what for micro in draft.micros if micro.operation in GETS for edit in micro.edits}
            phase = Phase.ACQUIRE.value if any(change.what in taken for change in changes) else phase
        return Step(
            index=index,
            first=draft.first,
            last=draft.first + len(draft.micros) - 1,
            phase=phase,
            sentence=draft.sentence,
            thread=telling.thread,
            call=telling.call,
            refused=draft.refused,
            waits=draft.waits,
            **dict(zip(_PLACE, _place(draft.place), strict=True)),
            changes=changes,
        )

    def _changes(self, draft: _Draft) -> Iterator[Changed]:
        for what, (edit, old) in draft.changed.items():
            new = _value(self.state, edit)
            if old != new:
                yield Changed(what, old, new)


def _only_entered(draft: _Draft) -> bool:
    return [micro.operation for micro in draft.micros] == ["begin"]


def _value(state: State, edit: Edit) -> Plain:
    """What a reader sees in the place that an edit is about."""
    thing = state.objects.get(edit.oid)
    if edit.sort in ("born", "died"):
        return "alive" if thing else None
    if thing is None or edit.sort == "memory":
        return None
    return thing.tables[edit.cell].get(edit.key) if edit.sort == "slot" else thing.value(edit.cell)
