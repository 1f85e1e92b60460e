"""Every schedule that can make a difference: dynamic partial-order reduction with source sets and sleep sets.

A schedule is the order in which the threads of user space do their effects. Two schedules that differ only in the order
of effects that do not conflict end alike, so one of them is enough. The search runs one schedule to its end, looks at each pair
of conflicting effects of two threads that could have come the other way round, and notes where another thread has to go first
(Abdulla, Aronis, Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014: source sets). What was explored already
sleeps until a conflicting effect wakes it. Nothing is kept but the current schedule; each one is run anew from the beginning,
because what a thread knows is the answers that it got, and these cannot be had in any other way.

Where there are too many schedules, and something wrong was found in so many effects, the search goes on for a shorter way only:
an effect that has as many before it (itself counted) is part of none, and is not done. How many come before an effect does not
depend on those that it does not conflict with, so this is one more reason for a thread not to go on, like a lock that is held.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from ..engine import Lock, PatchError, Request
from ..engine.operations import Accesses
from ..engine.sync import condition, need
from .accesses import accesses, can_go, conflict
from .history import Clock, History
from .statistics import FIRST, SHORTEST, STOPPED, Limit, Statistics
from .threads import Model, UserThread, go_again


class Search:
    """One exploration. `run` does it all; `statistics` is what was found, even if it was stopped half-way."""

    def __init__(
        self,
        begin: Callable[[], Model],
        statistics: Statistics | None = None,
        *,
        schedules: int | None = None,
        enough: int | None = None,
        first: bool = False,
        depth: int = 20_000,
        seconds: float | None = None,
        progress: Callable[[Statistics], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._begin = begin
        self._schedules, self._enough, self._first, self._depth = schedules, enough, first, depth
        self._seconds, self._progress, self._stop = seconds, progress, stop
        self.statistics = Statistics() if statistics is None else statistics
        # one entry for each effect of the current schedule
        self._thread: list[int] = []
        self._clock: list[Clock] = []  # how many effects of each thread come before it or are it
        self._local: list[int] = []  # how many effects its own thread has done with it
        self._accesses: list[Accesses] = []
        self._last: list[bool] = []  # is it the last one of a call?
        # and for the state before it, as bits of threads
        self._backtrack: list[int] = []  # who must go there
        self._done: list[int] = []  # who went there
        self._sleep: list[int] = []  # who need not
        self._since: list[
            int
        ] = []  # since which effect its thread would have a lock that was taken out; 0: it would not
        self._history = History(self._thread, self._local, self._clock)
        self._mine: list[list[int]] = []  # by thread: its effects
        self._most: int | None = None  # a way to something wrong has to be shorter than this to be of interest
        self._beyond = 0  # the threads whose next effect is in no such way
        self._model: Model
        self._again: tuple[int, int, int, int] | None = (
            None  # where to go on: the thread, and what is known of the state
        )
        self._sleeping = 0
        self._asleep: dict[int, Accesses] = {}  # of those who sleep, what they are about to touch

    def limit(self) -> str:
        """Explore. The answer is why there is more to be explored; "" where all has been seen."""
        try:
            self.run()
        except Limit as reason:
            return str(reason)
        except KeyboardInterrupt:
            return STOPPED
        return ""

    def run(self) -> None:
        """Explore. Raises Limit at a limit and KeyboardInterrupt if it is stopped; `statistics` keeps what was found until then."""
        started = time.monotonic()
        told = started
        while True:
            self._execute()
            if self._first and self.statistics.violations:
                raise Limit(FIRST)
            now = time.monotonic()
            if self._progress is not None and now - told > 0.2:
                told = now
                self._progress(self.statistics)
            if self._enough is not None and self.statistics.schedules >= self._enough and self.statistics.violations:
                self._most = min(map(len, self.statistics.violations.values()))
            if not self._next():
                if self._most is not None:
                    raise Limit(SHORTEST.format(self._enough))
                return
            if self._stop is not None and self._stop():
                raise Limit(STOPPED)
            if self._schedules is not None and self.statistics.schedules >= self._schedules:
                raise Limit(f"{self._schedules} schedules are done, and there are more")
            if self._seconds is not None and now - started > self._seconds:
                raise Limit(f"{self._seconds:g} seconds are over, and there are more schedules")

    # ---- one schedule

    def _execute(self) -> None:
        """Run the schedule as far as it is decided, then on to its end."""
        model = self._model = self._begin()
        self._mine = self._mine or [[] for _ in model.threads]
        self._sleeping, self._asleep, self._beyond = 0, {}, 0
        go_again(model, self._thread)
        chosen = self._elsewhere()
        while chosen is not None:
            self._extend(chosen)
            if len(self._thread) > self._depth:
                raise Limit(f"a schedule has more than {self._depth} effects")
            if len(model.engine.threads) > len(model.threads):
                raise Limit("the kernel has started a thread of its own, which a search does not follow")
            chosen = self._choose(chosen)

    def _elsewhere(self) -> int | None:
        """The first effect that is new in this schedule: another thread goes first where one has to."""
        if self._again is None:
            return self._choose(0)
        chosen, backtrack, done, sleep = self._again
        self._sleeping = sleep | done
        for number, user in enumerate(self._model.threads):
            request = user.upcoming
            if self._sleeping >> number & 1 and request is not None:
                self._asleep[number] = self._touched(user, request, False)
        upcoming = self._model.threads[chosen].upcoming
        if upcoming is None or not can_go(upcoming):
            raise RuntimeError(f"the search wants to go where it cannot: thread {chosen} waits")
        self._extend(chosen, anyway=True)
        self._backtrack[-1] |= backtrack
        self._done[-1] |= done
        self._again = None
        return self._choose(chosen)

    def _choose(self, current: int) -> int | None:
        """Who goes next: who went last, if possible. None at the end of a schedule, or where all has been seen."""
        threads = self._model.threads
        sleeping = False
        for number in (current, *range(len(threads))):
            request = threads[number].upcoming
            if request is not None and can_go(request) and not self._beyond >> number & 1:
                if not self._sleeping >> number & 1:
                    return int(number)
                sleeping = True
        if sleeping:
            self.statistics.cut += 1
        else:
            self._end()
        return None

    def _extend(self, number: int, anyway: bool = False) -> None:
        """One more effect: note what conflicts with it, do it if it is not beyond what is looked for, see what became of it."""
        model = self._model
        user = model.threads[number]
        thread, request = user.running, user.upcoming
        assert request is not None
        touched = self._touched(user, request, True)
        clock = self._conflicts(number, request, touched)
        if self._most is not None and sum(clock) >= self._most and not anyway:
            self._beyond |= 1 << number
            return
        now = condition(request)
        index = len(self._thread)
        self._history.add(index, touched, now)
        self._thread.append(number)
        self._clock.append(clock)
        self._local.append(clock[number])
        self._accesses.append(touched)
        self._last.append(False)
        self._backtrack.append(1 << number)
        self._done.append(1 << number)
        self._sleep.append(self._sleeping)
        since = self._since[self._mine[number][-1]] if self._mine[number] else 0
        self._mine[number].append(index)
        violations = len(model.engine.violations)
        user.step()
        self._since.append((since or clock[number]) if thread is not None and thread.inside else 0)
        self._last[-1] = user.running is None
        if self._sleeping:
            self._wake(touched)
        self.statistics.transitions += 1
        for what in model.engine.violations[violations:]:
            self._keep(self.statistics.violations, what, clock)
        for what, inside in model.wrong(thread, request):
            if not inside or self._interrupted(number):
                self._keep(self.statistics.violations, what, clock)
        if thread is not None:
            for order in model.took(thread, request):
                self._keep(self.statistics.orders, order, clock)
            if isinstance(thread.error, PatchError) and thread.error.endless:
                raise Limit("a function of yours does not come to an end")

    def _interrupted(self, number: int) -> bool:
        """Has another thread come between what this one did since it came in where a lock was taken out?"""
        since, clock = self._since[-1], self._clock[-1]
        others = (
            self._clock[self._mine[thread][nth - 1]] for thread, nth in enumerate(clock) if nth and thread != number
        )
        return any(its[number] >= since for its in others)

    def _touched(self, user: UserThread, request: Request, sure: bool) -> Accesses:
        also = self._model.also(request, sure)
        return also if user.running is None else accesses(user.running, request) + also

    def _wake(self, touched: Accesses) -> None:
        for number in [number for number, its in self._asleep.items() if conflict(its, touched)]:
            del self._asleep[number]
            self._sleeping &= ~(1 << number)

    def _end(self) -> None:
        """No thread can go on: what is wrong now, and how did the calls end? Those that wait might have gone earlier."""
        model = self._model
        for number, user in enumerate(model.threads):
            request = user.upcoming
            if request is not None:
                self._conflicts(number, request, self._touched(user, request, False))
        self.statistics.schedules += 1
        self.statistics.deepest = max(self.statistics.deepest, len(self._thread))
        everything = tuple(map(len, self._mine))
        if not self._beyond:
            self._keep(self.statistics.outcomes, model.outcome(), everything)
        for what, who in model.at_the_end():
            past = [clock for number in who for clock in self._stuck(number)] or [everything]
            self._keep(self.statistics.violations, what, tuple(map(max, *past)) if len(past) > 1 else past[0])

    def _stuck(self, number: int) -> Iterator[Clock]:
        """What comes before a thread waits for ever: what it did itself, and what those did who have the lock.

        Who has returned, or died, without giving it back: only then it is clear that nobody will.
        """
        yield self._before(number)
        user = self._model.threads[number]
        thread, request = user.running, user.upcoming
        if thread is None or request is None:
            return
        lock = request[1]
        if isinstance(lock, Lock) and lock.holder is not None:
            place = accesses(thread, request)[0][0]
            for index, _way, _now, _other in reversed(self._history.of(place)):
                mine = self._mine[self._thread[index]]
                if self._model.threads[self._thread[index]].label == lock.holder.prefix:
                    later = mine[bisect_right(mine, index) - 1 :] if lock.holder.ended else [index]
                    yield self._clock[next((one for one in later if self._last[one]), index)]
                    return

    def _keep(self, found: dict[Any, list[int]], what: Any, past: Clock) -> None:
        """Remember the shortest schedule to something: the last effect of it, and `past`, how many of each thread that takes."""
        if what not in found or sum(past) < len(found[what]):
            found[what] = [thread for thread, nth in zip(self._thread, self._local, strict=True) if nth <= past[thread]]

    # ---- what conflicts

    def _conflicts(self, number: int, request: Request, touched: Accesses) -> Clock:
        """Where other threads have to go first, because of an effect that is about to be done; and its clock."""
        before = self._before(number)
        clock = list(before)
        rivals: list[int] = []
        needs = need(request)
        for nth, access in enumerate(touched):
            waits = needs is not None and nth == 0
            for index in self._history.dependent(access):
                thread = self._thread[index]
                if before[thread] < self._local[index]:
                    for other, count in enumerate(self._clock[index]):
                        if count > clock[other]:
                            clock[other] = count
                    if not waits:
                        rivals.append(index)
        if needs is not None:
            place = touched[0][0]
            now = condition(request) or 0
            rivals = [index for index in rivals if self._history.could_go(place, index, needs, now)]
            rivals += self._history.in_the_way(place, before, needs)
        clock[number] += 1
        final = tuple(clock)
        for index in rivals:
            thread, local = self._thread[index], self._local[index]
            if not any(other != index and self._clock[other][thread] >= local for other in rivals):
                self._reverse(index, number, final)
        return final

    def _before(self, number: int) -> Clock:
        """What comes before the next effect of a thread."""
        mine = self._mine[number]
        return self._clock[mine[-1]] if mine else (0,) * len(self._mine)

    def _reverse(self, index: int, number: int, clock: Clock) -> None:
        """The thread `number` conflicts with an effect of another thread: see that somebody goes first who leads there."""
        rival, local = self._thread[index], self._local[index]
        firsts = []  # the first effect of each thread that does not depend on the rival's
        for thread, mine in enumerate(self._mine):
            nth = bisect_right(mine, index)
            if thread == rival:
                continue
            if nth < len(mine):
                if self._clock[mine[nth]][rival] < local:
                    firsts.append((thread, nth + 1, self._clock[mine[nth]]))
            elif thread == number:
                firsts.append((thread, nth + 1, clock))
        able = 0
        for thread, _nth, its in firsts:
            if all(its[other] < nth for other, nth, _ in firsts if other != thread):
                able |= 1 << thread
        if not able & (self._backtrack[index] | self._sleep[index]):
            self._backtrack[index] |= 1 << number if able >> number & 1 else able & -able

    # ---- the next schedule

    def _next(self) -> bool:
        """Go back to the last state where somebody else has to go; False if there is none."""
        while self._thread:
            index = len(self._thread) - 1
            todo = self._backtrack[index] & ~self._done[index] & ~self._sleep[index]
            if todo:
                chosen = (todo & -todo).bit_length() - 1
                self._again = (chosen, self._backtrack[index], self._done[index], self._sleep[index])
                self._drop()
                return True
            self._drop()
        return False

    def _drop(self) -> None:
        index = len(self._thread) - 1
        self._history.drop(self._accesses[index])
        self._mine[self._thread[index]].pop()
        for entries in (self._thread, self._clock, self._local, self._accesses, self._last, self._since):
            entries.pop()
        for bits in (self._backtrack, self._done, self._sleep):
            bits.pop()
