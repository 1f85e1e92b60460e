"""From an engine that ran to plain data: a snapshot of its state, and its effects as micro-steps."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any, Final

from ..engine import (
    PROMISES,
    Cell,
    Completion,
    Count,
    Engine,
    Field,
    KernelFunction,
    KernelOops,
    KObject,
    Line,
    Lock,
    Micro,
    PatchError,
    Phase,
    Request,
    Table,
    Thread,
)
from ..engine.operations import GAVE, TOOK, declared, name_of
from ..uapi import KernelError
from .plain import Ref, plain, shown
from .state import Edit, ObjectState, Place, State, ThreadState, Want
from .steps import Grouper, MicroStep, Step
from .words import describe

Name = Callable[[KObject], str]
Olds = dict[Any, dict[Any, Any]]  # by cell and key, the value before the first change

_HEAD: Final[Any] = re.compile("[^:,.]*")  # of a sentence about a lock: which one it is
COPIED = 64  # bytes that are kept of what is copied from or to a program's memory
_KEPT_EVERY = 256  # micro-steps


def snapshot(engine: Engine) -> State:
    """The state of an engine at this moment, as plain data."""
    things = {oid: object_state(thing) for oid, thing in engine.objects.items()}
    places = _Places()
    threads = {}
    for thread in engine.threads:
        waits = thread.pending and declared(thread.pending).waits
        want = _want(thread.pending, thread.saying, shown_name, places.pending(thread)) if waits else None
        threads[thread.label] = ThreadState(thread.label, -1, thread.process.oid if thread.process else "", want)
    return State(things, threads)


def object_state(thing: KObject, olds: Olds | None = None) -> ObjectState:
    """An object as plain data: as it is now, or as it was before the changes that `olds` tells of."""
    state = ObjectState(thing.oid, thing.kind, thing.label, thing.root, _home(thing))
    for cell in thing.shown_cells():
        _add_cell(state, cell, (olds or {}).get(cell, {}))
    state.attributes = {name: Ref(value.oid) for name, value in vars(thing).items() if isinstance(value, KObject)}
    state.order = tuple(cell.name for cell in thing.shown_cells())
    return state


def _add_cell(state: ObjectState, cell: Cell, olds: dict[Any, Any]) -> None:
    name = cell.name
    if isinstance(cell, Field):
        state.fields[name] = plain(olds.get(None, cell.value))
        if cell.link:
            state.links[name] = cell.link
    elif isinstance(cell, Count):
        ledger = {**cell.held, **olds}
        state.counts[name] = {(holder.oid, reason): n for (holder, reason), n in ledger.items() if n}
    elif isinstance(cell, Table):
        slots = {**cell.slots, **olds}
        state.tables[name] = {slot: plain(value) for slot, value in slots.items() if value is not None}
        if cell.link:
            state.links[name] = cell.link
    elif isinstance(cell, Lock):
        holder = olds.get(None, cell.holder)
        state.locks[name] = holder.label if holder else None
    elif isinstance(cell, Completion):
        state.signals[name] = olds.get(None, cell.value)


def _home(thing: KObject) -> str:
    """The subsystem that an object belongs to: the folder of its class below `kernel`, of a file that of its operations."""
    makers = [type(thing), *(vars(thing.f_op).values() if thing.kind == "file" else ())]  # type: ignore[attr-defined]
    modules = [getattr(maker, "__module__", None) or "" for maker in makers]
    homes = [name.partition(".kernel.")[2].split(".")[0] for name in modules if ".kernel." in name]
    return next((home for home in homes if home != "fs"), homes[0] if homes else "")


def shown_name(thing: KObject) -> str:
    """How a sentence names an object: its kind and its label."""
    return thing.oid


def _want(request: Any, saying: Any, name: Name, place: dict[str, Any]) -> Want:
    target = request[1]
    phase, sentence = _said(saying, request, name)
    named = {"operation": name_of(request), "oid": target.owner.oid, "cell": target.name}
    return Want(**named, sentence=sentence, phase=phase, **place)


def _said(saying: Any, request: Request, name: Name) -> tuple[str, str]:
    """The phase and the sentence that the kernel code said before it asked for this, with the names filled in.

    A lock that has been taken out begins no phase: "" as where nothing was said.
    """
    if saying is None:
        return "", ""
    phase, sentence, names = saying
    if phase is Phase.LOCK and declared(request).does not in (TOOK, GAVE):
        phase, promise = "", PROMISES.get(sentence)
        sentence = (
            promise.without
            if promise
            else f"{_HEAD.match(sentence)[0]}: no lock is taken here, others may come in between."
        )
    for thing in names:
        sentence = sentence.replace("{}", name(thing) if isinstance(thing, KObject) else shown(plain(thing)), 1)
    return str(phase), sentence


def place_of(thread: Thread) -> Place:
    """The line that waits for what a thread asks for, and the kernel's function that it is in."""
    return Place(**_Places().pending(thread))


class _Places:
    """Lines of code as the named fields of a `Place`, each looked up once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, KernelFunction | None], tuple[dict[str, Any], CodeType]] = {}

    def pending(self, thread: Thread) -> dict[str, Any]:
        """The line that waits for what the thread asks for."""
        if thread.pending is None or thread.code is None:
            return {}
        return self.at(*thread.cursor.line(), thread.cursor.mirrored)

    def at(self, code: CodeType, offset: int, kernel: KernelFunction | None) -> dict[str, Any]:
        """The fields for a line that ran as part of this kernel function."""
        key = id(code), offset, kernel  # the hash of code is that of all that is in it
        if key not in self._known:
            line = Line(code, offset)
            fields = {
                "file": "notebook cell" if "ipykernel_" in line.file else line.file,
                "line": line.number,
                "source": linecache.getline(code.co_filename, line.number).strip(),
                "function": line.function,
                "kernel_function": kernel.name if kernel else "",
                "kernel_file": kernel.file if kernel else "",
                "kernel_tag": kernel.tag if kernel else "",
            }
            self._known[key] = fields, code  # while it is here no other code can have its id
        return self._known[key][0]


class Recorder:
    """Follows an engine. `steps()` and `micro()` catch up with what it did since they were last asked."""

    def __init__(self, engine: Engine, name: Name = shown_name, past: bool = False, start: State | None = None) -> None:
        """Follow `engine` from now on, or (`past`) from its birth; `name` is how sentences call an object.

        `start` is its state, for who has it: it is looked at, never changed.

        Raises ValueError if the engine keeps no journal.
        """
        if engine.journal is None:
            raise ValueError("this engine keeps no journal; make it with trace=True")
        self.engine = engine
        self._name = name
        self._next_micro, self._next_entry = (0, 0) if past else (len(engine.micro), len(engine.journal))
        self._first = self._next_micro
        self.start = start or (self._before_all() if past else snapshot(engine))
        self._known = set(self.start.objects)
        self._calls: dict[Thread, int] = {}
        self._phases: dict[Thread, str] = {}
        self._places = _Places()
        self._micro: list[MicroStep] = []
        self._grouper = Grouper(self.start)
        self._kept: list[tuple[int, Grouper]] = []  # how far it was after so many micro-steps

    def catch_up(self) -> None:
        """Convert what happened since the last time."""
        fresh = [Micro(*entry) for entry in self.engine.micro[self._next_micro :]]
        olds = self._olds()
        nexts: list[Micro | None] = []
        later: dict[Thread, Micro] = {}
        for micro in reversed(fresh):
            nexts.append(later.get(micro.thread))
            later[micro.thread] = micro
        for micro, following in zip(fresh, reversed(nexts), strict=True):
            self._add(self._convert(micro, following, olds))
        self._next_micro += len(fresh)

    def _add(self, step: MicroStep) -> None:
        self._micro.append(step)
        self._grouper.add(step)
        if len(self._micro) % _KEPT_EVERY == 0:
            self._kept.append((len(self._micro), self._grouper.copy()))

    def kept(self) -> dict[int, State]:
        """The state after every so many micro-steps."""
        return {done: grouper.state for done, grouper in self._kept}

    def adopt(self, other: Recorder) -> None:
        """Take over what another recorder has converted, which follows an engine that did all that this one did, and maybe more.

        Nothing happens if it did something else, or if this one has begun to convert by itself.
        """
        mine, theirs = self.engine.micro[self._next_micro :], other.engine.micro[other._first :]
        known = other._micro[: len(mine)]
        if self._micro or not known or not all(map(_alike, mine, theirs)):
            return
        for entry, step in zip(mine, known, strict=False):
            self._calls[entry[0]], self._phases[entry[0]] = step.call, step.phase
            self._known.update(edit.oid for edit in step.edits if edit.sort == "born")
        self._kept = [kept for kept in other._kept if kept[0] <= len(known)]
        done, grouper = self._kept[-1] if self._kept else (0, Grouper(self.start))
        self._micro, self._grouper = known[:done], grouper.copy()
        for step in known[done:]:
            self._add(step)
        self._next_micro, self._next_entry = self._next_micro + len(known), Micro(*mine[len(known) - 1]).end

    def micro(self) -> list[MicroStep]:
        """All micro-steps since the recorder was made."""
        self.catch_up()
        return self._micro[:]

    def steps(self) -> list[Step]:
        """All steps since the recorder was made; the last ones may still grow."""
        self.catch_up()
        return self._grouper.steps()

    def _before_all(self) -> State:
        """The state before the first entry of the journal: its objects are those whose birth is not in it."""
        olds = self._olds()
        things = self.engine.objects
        return State({oid: object_state(thing, olds) for oid, thing in things.items() if thing not in olds})

    def _olds(self) -> Olds:
        olds: Olds = {}
        for target, key, old, _new in (self.engine.journal or [])[self._next_entry :]:
            olds.setdefault(target, {}).setdefault(key, old)
        return olds

    def _convert(self, micro: Micro, following: Micro | None, olds: Olds) -> MicroStep:
        thread, answer, operation = micro.thread, micro.answer, name_of(micro.request)
        phase, sentence = _said(micro.saying, micro.request, self._name)
        self._phases[thread] = phase = phase or self._phases.get(thread, "validate")
        pending = following.request if following else thread.pending
        refusal = answer if isinstance(answer, KernelError) else None
        return MicroStep(
            index=len(self._micro),
            thread=thread.label,
            call=self._calls.setdefault(thread, len(self._calls)),
            operation=operation,
            text=describe(micro.request, answer),
            phase=phase,
            sentence=sentence,
            refused=refusal.name if refusal else "",
            why=refusal.sentence if refusal else "",
            wrong=self.engine.wrong.get(self._first + len(self._micro), ""),
            **self._places.at(micro.code, micro.offset, micro.mirrored),
            process=thread.process.oid if thread.process else "",
            edits=tuple(self._edits(micro.end, olds)),
            copied=_copied(operation, micro.request, answer),
            want=self._want(thread, following) if pending and declared(pending).waits else None,
            ended=_outcome(thread) if pending is None else "",
        )

    def _want(self, thread: Thread, following: Micro | None) -> Want:
        """What a thread asks for next; `following` is when it got it, None where it has not yet."""
        if following is None:
            return _want(thread.pending, thread.saying, self._name, self._places.pending(thread))
        place = self._places.at(following.code, following.offset, following.mirrored)
        return _want(following.request, following.saying, self._name, place)

    def _edits(self, end: int, olds: Olds) -> Iterator[Edit]:
        """The entries of the journal up to `end`, and the births of objects that nobody has told of before."""
        entries = (self.engine.journal or [])[self._next_entry : end]
        self._next_entry = max(end, self._next_entry)
        for target, key, old, new in entries:
            for thing in _mentioned(target, key, new):
                if thing.oid not in self._known and not isinstance(thing, Thread):
                    self._known.add(thing.oid)
                    yield Edit("born", thing.oid, new=object_state(thing, olds))
            if getattr(target, "link", "") != "note" and not (isinstance(target, KObject) and new == "alive"):
                yield _edit(target, key, old, new)


def _mentioned(target: Cell | KObject, key: Any, new: Any) -> Iterable[KObject]:
    yield target.owner if isinstance(target, Cell) else target
    if isinstance(target, Count):
        yield key[0]
    for item in new if isinstance(new, tuple) else (new,):
        if isinstance(item, KObject):
            yield item


def _edit(target: Cell | KObject, key: Any, old: Any, new: Any) -> Edit:
    if isinstance(target, Thread):
        return Edit("memory", target.oid, key=key, new=len(new))
    if isinstance(target, KObject):
        return Edit("died", target.oid, old="alive")
    place = (target.owner.oid, target.name)
    if isinstance(target, Count):
        holder, reason = key
        return Edit("reference", *place, (holder.oid, reason), old, new)
    if isinstance(target, Table):
        return Edit("slot", *place, key, plain(old), plain(new))
    if isinstance(target, Lock):
        return Edit("lock", *place, None, old.label if old else None, new.label if new else None)
    return Edit("signal" if isinstance(target, Completion) else "field", *place, None, plain(old), plain(new))


def _copied(operation: str, request: Any, answer: Any) -> tuple[int, str]:
    """What went over the border to user space: its address, and its first bytes as hexadecimal digits."""
    if operation == "copy_from_user" and isinstance(answer, bytes):
        return request[1], answer[:COPIED].hex()
    told = operation == "copy_to_user" and not isinstance(answer, BaseException)
    return (request[1], bytes(request[2])[:COPIED].hex()) if told else (0, "")


def _alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Are two effects of two engines the same: thread, what is asked, where, and how much had changed after it?"""
    first, second = Micro(*one), Micro(*other)
    same = (first.request[0], *first[3:7]) == (second.request[0], *second[3:7])
    return same and first.thread.label == second.thread.label


def _outcome(thread: Thread) -> str:
    """How a call ended."""
    if isinstance(thread.error, KernelOops):
        return f"oops: {thread.error}"
    if isinstance(thread.error, PatchError):
        return f"fails: {thread.error}"
    if isinstance(thread.error, KernelError):
        return f"fails with {thread.error.name}"
    return "returns" if thread.result is None else f"returns {shown(plain(thread.result))}"
