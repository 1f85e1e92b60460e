"""The engine: it moves threads one effect at a time, and keeps the journal of every change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from operator import length_hint
from types import CoroutineType
from typing import Any

from ..uapi import KernelError
from .ablation import Ablation
from .checks import UserMemory
from .effects import KernelOops
from .faults import FaultPlan, chain
from .functions import PatchError, running
from .objects import Cell, KObject, Objects, Table, notice_reads
from .operations import PERFORM, WAIT, NotYet, Request
from .records import Change
from .student_code import blame, checked_all, give_back, is_of_students
from .sync import must_wait
from .thread import Code, Start, Thread


def _ask_again(asked: Request, _answer: object) -> Request:
    return asked


class Engine:
    """All state of one machine, and the only thing that changes it."""

    def __init__(self, trace: bool = True) -> None:
        self.journal: list[tuple[Any, ...]] | None = [] if trace else None
        self.micro: list[tuple[Any, ...]] = []
        self.objects = Objects()
        self.threads: list[Thread] = []
        self.ended: list[Thread] = []  # those that have ended since somebody looked last
        self.instead: Callable[[Thread, Request], Request] | None = None  # what is done in the place of an effect
        self.patches: dict[str, Callable[..., Code]] = {}
        self.version: Mapping[str, Callable[..., Code]] = {}  # kernel functions that another version of the kernel has
        self.options: Mapping[str, Any] = {}  # how the kernel was built, by name
        self.violations: list[str] = []
        self.wrong: dict[int, str] = {}  # the first violation of an effect, by its number in `micro`
        self.unmodelled: dict[tuple[str, str], None] = {}  # which threads asked what nobody can answer
        self.notices = False  # does it notice what threads read between two effects?
        self.calls_to_come = False  # somebody is about to make a call, though none may be under way
        self.clock = 0  # milliseconds; moves only by `sleep`
        self._without: Ablation | None = None
        self._fails = False  # has any thread a plan of what is to fail?
        self._numbers: dict[str, int] = {}

    def number(self, kind: str) -> int:
        """The next number for an object of this kind, from 1, never used again."""
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return self._numbers[kind]

    def unique(self, kind: str, label: str) -> str:
        """A label that no other object of this kind ever had: the one that is wished for, or "vfio0#2" for the second of them.

        With a thread's `prefix` "A" it is "A1", "vfio0#A1" ("T1.1" with "T1"): it depends on this thread alone.
        """
        prefix = running.thread.prefix if running.thread is not None else ""
        prefix += "." if prefix[-1:].isdigit() else ""  # thread A1's first is not thread A's eleventh
        if not label:
            return f"{prefix}{self.number(kind + prefix)}"
        again = self.number(f"{kind} {label}{prefix}")
        return label if again == 1 and not prefix else f"{label}#{prefix}{again}"

    def label_of_slot(self, slots: Table[Any]) -> str:
        """A label for what gets the lowest free slot of a table: its number; "", where threads with a `prefix` race for it."""
        return "" if running.thread is not None and running.thread.prefix else str(slots.lowest_free())

    def use_after_free(self, thread: Thread, target: Cell | KObject) -> None:
        """Note that freed memory was touched; the run goes on, as the kernel's would."""
        what = target.path if isinstance(target, Cell) else target.oid
        self.note_wrong(f"use after free: {thread.label} touches {what}")

    def touch(self, thread: Thread, target: Cell) -> None:
        """A thread touches a cell: wrong if its object is gone."""
        if target.owner.freed:
            self.use_after_free(thread, target)

    def note_wrong(self, what: str, after: int = 0) -> None:
        """Note what the effect that is being done does wrong, although the run goes on; with 1 the effect before it."""
        self.violations.append(what)
        if self.journal is not None:
            self.wrong.setdefault(len(self.micro) - after, what)

    # ---- attributes that are no cells

    def notice_all(self) -> None:
        """From now on notice what threads read between two effects, for good.

        A thread reads an attribute some time between two effects. It is too late for that if the object is gone by the second
        one, even if here, where the code between two effects runs at once, the read came first.
        """
        if not self.notices:
            self.notices = True
            for thing in self.objects.values():
                notice_reads(thing)

    def notice(self, thread: Thread, thing: KObject, name: str) -> None:
        """A thread reads an attribute that is no cell."""
        if self.notices:
            thread.reads.setdefault(thing, name)
        elif thing.freed:
            self.note_wrong(f"use after free: {thread.label} touches {thing.oid}.{name}", 1)

    def _resume(self, resume: Callable[[Any], Any], thread: Thread, answer: Any) -> Any:
        """The next request of a thread; before that, was all still there that it had read when it asked for the last one?"""
        if thread.reads:
            self._tell_late_reads(thread)
        try:
            return resume(answer)
        except BaseException:
            self._tell_late_reads(thread)
            raise

    def _tell_late_reads(self, thread: Thread) -> None:
        for thing, name in thread.reads.items():
            if thing.freed:
                self.note_wrong(f"use after free: {thread.label} touches {thing.oid}.{name}", 1)
        thread.reads.clear()

    # ---- threads

    def changes(self, start: int = 0, end: int | None = None) -> list[Change]:
        """Entries of the journal, in the order in which they happened."""
        return [Change(*entry) for entry in (self.journal or [])[start:end]]

    def spawn(
        self, code: Start, label: str = "", memory: UserMemory | None = None, process: KObject | None = None
    ) -> Thread:
        """A new thread that runs `code`; it stands before its first effect.

        `code` is a coroutine, or makes one when the thread begins: for threads that may never do so. Raises TypeError for others.
        """
        if not isinstance(code, CoroutineType) and not callable(code):
            raise TypeError(f"a thread runs a coroutine (call an `async def`), not {code!r}")
        thread = Thread(self, code, label, memory, process)
        self.threads.append(thread)
        return thread

    def step(self, thread: Thread) -> bool:
        """Perform the pending effect of a thread. False if it has ended or must wait."""
        return self._perform(thread, repeat(None, 1))

    def steps(self, thread: Thread, number: int) -> int:
        """Perform so many effects of a thread; the answer is how many are left because it has ended."""
        turns = iter(range(number))
        self._perform(thread, turns)
        return length_hint(turns)

    def run(self, thread: Thread) -> None:
        """Perform effects of this thread until it ends or must wait."""
        self._perform(thread, repeat(None))

    def _perform(self, thread: Thread, turns: Iterable[object]) -> bool:  # noqa: C901  (one loop, and the fastest one)
        """The loop under everything: as many effects as there are turns. True if the thread could go on."""
        request = thread.pending
        if request is None:
            return False
        before, running.thread = running.thread, thread
        code, journal, micro = thread.code or thread.begin(), self.journal, self.micro
        cursor = thread.cursor
        send, throw, instead, asked = code.send, code.throw, self.instead, request
        if self.notices:
            send, throw = partial(self._resume, send, thread), partial(self._resume, throw, thread)
        thread.state = "ready"
        end = len(journal or ())
        try:
            for _ in turns:
                resume: Callable[[Any], Any] = send
                if instead is not None:
                    asked = request
                    request = instead(thread, asked)
                try:
                    perform, size = PERFORM[request[0]], len(request)
                    # Unpacked by hand, for `*request[1:]` takes twice as long.
                    if size == 2:
                        answer = perform(self, thread, request[1])
                    elif size == 3:
                        answer = perform(self, thread, request[1], request[2])
                    elif size == 4:
                        answer = perform(self, thread, request[1], request[2], request[3])
                    elif size == 5:
                        answer = perform(self, thread, request[1], request[2], request[3], request[4])
                    else:
                        answer = perform(self, thread, *request[1:])
                except KernelError as error:
                    if error.where is None:
                        error.where, error.kernel = str(cursor.line()), cursor.kernel()
                    answer, resume = error, throw
                except KernelOops as oops:
                    answer, resume = oops, throw
                if type(answer) is NotYet:
                    if answer is WAIT:
                        thread.pending, thread.state = asked if instead else request, "blocked"
                        return False
                    answer, resume = None, partial(_ask_again, asked)  # something else came first: ask again
                if journal is not None:
                    frame = cursor.place()
                    saying, thread.saying = thread.saying, None
                    start, end, inside = end, len(journal), cursor.mirrored
                    micro.append((thread, request, answer, frame.f_code, frame.f_lasti, start, end, saying, inside))
                request = resume(answer)
                if type(request) is not tuple:
                    raise TypeError(f"kernel code may only await effects, not {request!r}")
            thread.pending = request
            return True
        except StopIteration as stop:
            self._end(thread, stop.value, None)
        except KernelError as error:
            self._end(thread, None, error)
        except KernelOops as oops:
            self._oops(thread, oops)
        except KeyboardInterrupt:
            self._bad_end(thread, PatchError(f"{thread.label} was interrupted"))
            raise
        except BaseException as error:
            if not self._bad_end(thread, error):
                raise
        finally:
            running.thread = before
        return False

    def upcoming(self, thread: Thread) -> Request | None:
        """What the thread will do next, if it can; None if it has ended."""
        if thread.pending is None or self.instead is None:
            return thread.pending
        return self.instead(thread, thread.pending)

    def take_out(self, *names: str) -> Ablation:
        """Take protections out (see `ablation.py` for their names), all others are back in. Only before the threads begin."""
        without = Ablation(names)
        self._without = without if names else None
        if names:
            self.notice_all()
        self.instead = chain(self._without, self._fails)
        return without

    def lacks(self, names: Iterable[str]) -> bool:
        """Has any of these protections been taken out, or any of these kernel functions been replaced?"""
        out = (
            {part for name in self._without.names for part in (name, name.rpartition(".")[2])} if self._without else ()
        )
        return any(name in out or name in self.patches for name in names)

    def plan_faults(self, thread: Thread, plan: FaultPlan | None) -> None:
        """Let things fail in a thread (see `faults.py`). What was taken out stays out; only before the thread begins."""
        thread.faults = plan
        self._fails = self._fails or plan is not None
        self.instead = chain(self._without, self._fails)

    def settle(self) -> None:
        """Let every thread run that can, oldest first, until all have ended or must wait."""
        moved = True
        while moved:
            moved = False
            for thread in [t for t in self.threads if not t.manual]:
                was = thread.pending
                self.run(thread)
                moved = moved or thread.pending is not was

    def notice_waiting(self) -> None:
        """Let every thread that must wait come to know it, so that it can say for what; nothing happens."""
        for thread in self.threads:
            request = self.upcoming(thread)
            if request is not None and must_wait(request):
                self.step(thread)

    def sleep(self, milliseconds: int) -> None:
        """Let simulated time pass, and those run whose time has come."""
        if milliseconds < 0:
            raise ValueError(f"time only moves forwards; {milliseconds} ms is negative")
        self.clock += milliseconds
        self.settle()

    def patch(self, **own: Callable[..., Code]) -> None:
        """As `patched`, from now on and for good. Raises what `student_code.checked` raises."""
        self.patches.update(checked_all(own))
        if own:
            self.notice_all()

    @contextmanager
    def patched(self, **own: Callable[..., Code]) -> Iterator[None]:
        """Within the block, call these functions in the place of the kernel functions of the same name."""
        before = dict(self.patches)
        self.patch(**own)
        try:
            yield
        finally:
            self.patches = before

    def _end(self, thread: Thread, result: Any, error: KernelError | None) -> None:
        thread.pending, thread.state = None, "done"
        thread.result, thread.error = result, error
        self.threads.remove(thread)
        self.ended.append(thread)

    def _bad_end(self, thread: Thread, error: BaseException) -> bool:
        """Code has raised what no kernel code does. If a student's function is at fault the call ends, see `student_code.py`."""
        what = null_pointer(error) if self.instead or self.patches else ""
        if what:
            self._oops(thread, KernelOops(f"{thread.label} {what}"))
            return True
        told = blame(self, thread, error)
        self._end(thread, None, None)
        if told is None:
            return False
        thread.state, thread.error = "oops", told
        locks = give_back(self, thread, told.place)
        self.violations.append(str(told) + (f"; given back: {', '.join(locks)}" if locks else ""))
        return True

    def _oops(self, thread: Thread, oops: KernelOops) -> None:
        """The thread stops where it is: nothing is unwound, its locks stay locked."""
        self._end(thread, None, None)
        thread.state, thread.error = "oops", oops
        self.violations.append(f"oops: {oops}")


def null_pointer(error: BaseException) -> str:
    """What a thread did that met None where the kernel's rules promise an object, in words; "" for any other mistake.

    Kernel code asserts such promises where Python's types want to know; without a protection they may not hold.
    """
    if isinstance(error, AttributeError):
        return f"reads {error.name} through a null pointer" if error.obj is None and error.name else ""
    where = error.__traceback__ if isinstance(error, AssertionError) else None
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    if where is None:
        return ""
    did = "finds false what it asserts" if is_of_students(where.tb_frame.f_globals) else "follows a null pointer"
    return f"{did} in {where.tb_frame.f_code.co_name}"
