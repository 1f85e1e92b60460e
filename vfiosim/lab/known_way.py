"""Where a reader stands on the way to the goal of a task: how much of a known way is left, or which call has left it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from .outcome import Done
from .session import LessonCall, Session

Key = tuple[str, str]


def _key(done: Done) -> Key:
    """What makes two calls the same: how it is written, and what its struct was given."""
    fields = done.event.fields if isinstance(done.event, LessonCall) else ()
    return done.outcome.call, str(fields)


class KnownWay:
    """Tells where a session stands, by trying: what is left of a known way is done on another machine, after the reader's calls.

    `start` prepares a machine, `solve` is the known way, `missing` tells what is still to be done, nothing at the goal.
    """

    def __init__(
        self,
        start: Callable[[Session], object],
        solve: Callable[[Session], object],
        missing: Callable[[Session], Sequence[str]],
    ) -> None:
        self._start, self._missing = start, missing
        session = Session(start=start)
        solve(session)
        self._way = session.done[session.given :]
        self._left: dict[tuple[Key, ...], int | None] = {(): len(self._way)}

    def left(self, made: Sequence[Done]) -> int | None:
        """How many calls of the known way are left after these; None if it does not lead on from there."""
        keys = (*map(_key, made),)
        if keys not in self._left:
            again, rest = [*keys], []
            for done in self._way:
                if _key(done) in again:
                    again.remove(_key(done))
                else:
                    rest.append(done)
            session = Session(start=self._start)
            left_out = session.again(made) + (session.again(rest) if self._missing(session) else rest[:0])
            self._left[keys] = None if left_out or self._missing(session) else len(rest)
        return self._left[keys]

    def html(self, session: Session) -> str:
        """The paragraph about it; "" before the first call, and at the goal."""
        made = session.done[session.given :]
        if not made or not self._missing(session):
            return ""
        presses = [n for n in range(len(made) + 1) if not n or not made[n - 1].more]
        stays = next(n for n in reversed(presses) if self.left(made[:n]) is not None)
        more = self.left(made[:stays])
        calls = f"{more} more {'call' if more == 1 else 'calls'}"
        if stays == presses[-1]:
            return f"<p><b>Where you stand.</b> A known way leads on from here, with {calls}.</p>"
        back = len([n for n in presses if n > stays])
        undo = "<b>Undo</b>" if back == 1 else f"<b>Undo</b>, {back} times,"
        away = made[next(n for n in presses if n > stays) - 1].outcome.call
        return (
            f"<p><b>Where you stand.</b> With <code>{escape(away)}</code> you have left the way that is known here. "
            f"{undo} leads back to it: from there it takes {calls}. (There may be other ways.)</p>"
        )
