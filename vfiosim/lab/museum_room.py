"""A room of the museum to walk through: the symptom, the recording, the shortest way into the bug, and a place to mend it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

from ..engine import PatchError
from ..museum import ROOMS, Proof, Room, StudentFunction
from ..naming import UnknownNameError
from . import controls as widgets
from .background_job import BackgroundJob
from .counterexample import Counterexample
from .help import Help
from .listeners import listeners
from .question import Distractor
from .record import progress
from .static_fallback import ONLY_LIVE, StaticFallback, note
from .style import alert, anchor, button, row, style, text, words
from .verdict import misled

SOLUTION = "<p><b>Solution.</b></p>"
EXAMPLE = re.compile(r" +\(e\.g\. .*\)$")  # a schedule for `vfiosim.replay`: nobody types it here
WRONG = ("Broken", "NOT FINISHED", "Recorded scenarios that")
WELL = ("Safe", "The program of the report is safe", "What must still work does", "The hand-written recordings")


def room(name: str, **options: Any) -> RoomView:
    """The room of this name, see `vfiosim.museum.ROOMS`; `options` are those of `RoomView`. Raises ValueError for another."""
    if name not in ROOMS:
        raise UnknownNameError(f"the museum has no room {name!r}; it has {', '.join(ROOMS)}")
    return RoomView(ROOMS[name], **options)


class RoomView(StaticFallback):
    """Shows a room of the museum. The reader changes the text of the faulty functions and lets every schedule decide.

    * `hints`: instead of the room's own, each deeper than the one before; `explained`: why the repair works (HTML);
    * `distractors`: for a repair that is none: a part of what the proof says, and what misled; the first that fits is told;
    * `record`: the name under which it is kept in `progress`; `view`: which objects the pictures show, all that matter if empty;
    * `called`: its heading, where its title would tell what the reader is to find; `steps`: what to do in it (HTML).

    `texts` are the functions as the reader has them now; `proof` is what was found about them last, None before.
    """

    def __init__(
        self,
        room: Room,
        *,
        hints: Sequence[str] = (),
        explained: str = "",
        distractors: Mapping[str, str | Distractor] = MappingProxyType({}),
        record: str = "",
        view: Collection[str] = (),
        called: str = "",
        steps: Sequence[str] = (),
    ) -> None:
        self.room, self._called, self._steps = room, called, steps
        self._explained, self._distractors, self._record = explained, distractors, record
        self.proof: Proof | None = None
        self._job: BackgroundJob[Proof] | None = None
        self._walking = False  # is the shortest way shown?
        self.texts = {name: room.source(name) for name in room.to_mend}
        options: dict[str, Any] = {"only": view} if view else {}
        self._way_in = Counterexample(room.trace, **options)
        self.recording = button(
            "What the real kernel answered", "the calls that were made on a real kernel, and its answers"
        )
        self.way = button("The shortest way into it", "step through the shortest run in which it goes wrong")
        self.which = widgets.Dropdown(options=room.to_mend, description="function", tooltip="Which function to change")
        self.editor = widgets.Textarea(
            rows=min(max(len(text.splitlines()) for text in self.texts.values()) + 4, 18),
            layout={"width": "100%"},
            tooltip="Yours to change. Tab indents; after Escape it leads on",
            kind="code editor",
        )
        self.prove = button("Prove", "run every schedule, and compare with the recorded kernel", primary=True)
        self.help = Help(hints or escape(room.lesson, quote=False), self._solution)
        self.hint, self.solution = self.help.hint, self.help.solution
        self.solution.tooltip = "the repair of the museum, as a patch; after your first try"
        self.apply = button("Put it into the editor", "the mended functions in place of yours; once more: yours again")
        self.apply.on_click(lambda _: self._apply())
        self._mine: dict[str, str] | None = (
            None  # the reader's functions, while those of the solution stand in the editor
        )
        self.again = button("Reset", "the functions as they were")
        self.problem, self.verdict = text("problem"), text("verdict")
        self.shown = text("verdict")
        self._looks = row("", *([self.recording] if room.recorded() else []), self.way)
        self.which.observe(lambda change: self._turn_to(change["old"]), "value")
        self.recording.on_click(lambda _: self._show(_recording(room)))
        self.way.on_click(lambda _: self._walk())
        self.prove.on_click(lambda _: self._prove())
        self.again.on_click(lambda _: self._reset())
        self.buttons = row("", self.prove, self.hint, self.solution, self.again)
        self.help.slot.observe(lambda _: self._solved(), "value")
        self._frame: list[Any] = [
            style(),
            text("question", self._title()),
            self._looks,
            self.shown,
            row(
                "Mend it",
                *([self.which] if len(room.to_mend) > 1 else []),
                text("does", "Change it so that this cannot happen, then Prove."),
            ),
            text("does", self._must_still_work()),
            self.editor,
            *listeners("editor.js"),
            self.buttons,
            self.problem,
            self.verdict,
            self.help.slot,
        ]
        super().__init__(self._frame)
        self._reset()

    @property
    def message(self) -> str:
        """What was said last, in words."""
        return words(self.problem.value + self.verdict.value + self.help.slot.value)

    def static_html(self) -> str:
        """The room without its buttons: the symptom, the faulty functions, and the shortest way into the bug."""
        sources = "\n\n".join(self.room.source(name) for name in self.room.to_mend)
        said = note(self._title()) + note(self._must_still_work())
        return f"{said}<pre>{escape(sources)}</pre>{note(f'<i>{ONLY_LIVE}</i>')}{self._way_in.static_html()}"

    def in_words(self) -> str:
        """The room as text."""
        return f"{self.room}\n{self._way_in.trace_pane.in_words()}"

    def _title(self) -> str:
        room = self.room
        links = "" if self._called else _links(room)  # they name the repair
        steps = f"<ol>{''.join(f'<li>{step}</li>' for step in self._steps)}</ol>" if self._steps else ""
        said = f"<p>{escape(room.symptom, quote=False)}</p>{links}{steps}"
        return f'<p><b id="{anchor(self._record)}">{escape(self._called or room.title)}</b> ({room.when})</p>{said}'

    def _must_still_work(self) -> str:
        works = "".join(f"<li>{escape(one.says, quote=False)}</li>" for one in self.room.must_still_work)
        return f"When it is mended:<ul>{works}</ul>"

    # ---- what the buttons do

    def _show(self, what: str) -> None:
        self.shown.value = "" if self.shown.value == what else what

    def _walk(self) -> None:
        self._walking = not self._walking
        self.children = [*self._frame[:3], self._way_in, *self._frame[3:]] if self._walking else self._frame

    def _solution(self) -> str:
        why = f"<p>{self._explained}</p>" if self._explained else ""
        return f"{SOLUTION}<pre>{escape(self.room.patch())}</pre>{why}"

    def _solved(self) -> None:
        """The solution has come or gone, and with it the button that uses it."""
        shown = [self.apply] if SOLUTION in self.help.slot.value else []
        self.buttons.children = [self.prove, self.hint, self.solution, *shown, self.again]

    def _apply(self) -> None:
        """The mended functions stand in the editor, or what stood there before."""
        self.texts[self.which.value] = self.editor.value
        mine, self._mine = self._mine, self.texts if self._mine is None else None
        self.texts = mine or {name: self.room.mended(name) for name in self.room.to_mend}
        self.apply.description = "Put it into the editor" if self._mine is None else "Put mine back"
        self.editor.value = self.texts[self.which.value]

    def _turn_to(self, before: str) -> None:
        """Another function is chosen: what was written is kept."""
        self.texts[before] = self.editor.value
        self.editor.value = self.texts[self.which.value]

    def _reset(self) -> None:
        if self._job is not None:
            job, self._job = self._job, None  # what it has found is of no interest any more
            job.stop()
        self.proof = None
        self.prove.disabled, self._told = False, 0.0
        self._mine, self.apply.description = None, "Put it into the editor"
        self.texts = {name: self.room.source(name) for name in self.room.to_mend}
        self.editor.value = self.texts[self.which.value]
        self.help.clear()
        for place in (self.problem, self.verdict, self.shown):
            place.value = ""
        self._walking = False
        self._way_in.show(self.room.trace)
        self.children = self._frame

    def _prove(self) -> None:
        self.texts[self.which.value] = self.editor.value
        self.problem.value = self.verdict.value = ""
        try:
            mine = [self.room.mine(text) for name, text in self.texts.items() if text.strip() != self.room.source(name)]
        except (ValueError, PatchError) as problem:
            self.help.tried()
            self._put_away()
            self._complain(_sentence(problem))
            return
        if not mine:
            self._complain("Nothing is changed as yet: this is the function with the bug.")
            return
        self.help.tried()
        self.prove.disabled = True
        self._tell("")
        if self.proof is not None:  # its picture would look like the verdict
            self._walking, self.children = False, self._frame

        def work(pause: Callable[[], bool]) -> Proof:
            def tell(done: str) -> None:
                self._tell(done)
                if pause():
                    raise InterruptedError("nobody waits for this proof any more")

            return self.room.prove(*mine, stop=pause, tell=tell)

        job = self._job = BackgroundJob(work)
        job.begin(lambda: self._finish(job, mine) if self._job is job else None)

    def _tell(self, done: str) -> None:
        """What is being proved now, not oftener than can be read."""
        if not done or time.monotonic() > self._told + 0.2:
            self._told = time.monotonic()
            said = f" Now: {done}." if done else ""
            self.verdict.value = f'<p role="status">Proving: {escape(self.room.how_proved)}{said}</p>'

    def _finish(self, job: BackgroundJob[Proof], mine: list[StudentFunction]) -> None:
        self._job, self.prove.disabled, self.verdict.value = None, False, ""
        try:
            self.proof = job.result()
        except PatchError as problem:
            self._complain(_sentence(problem))
            return
        self._judge(self.proof, mine)

    def _complain(self, message: str) -> None:
        self.problem.value = _with_code(alert(message))

    def _put_away(self) -> None:
        """The picture of an earlier attempt: it would look like the verdict."""
        if self.children[-1] is self._way_in:
            self._walking = False
            self._way_in.show(self.room.trace)
            self.children = self._frame

    def _judge(self, proof: Proof, mine: list[StudentFunction]) -> None:
        sort, sign = ("good", "✓ Mended.") if proof.clean else ("refused", "✕ Not mended.")
        progress.record(self._record, proof.clean)
        told = (line for line in str(proof).splitlines()[1:] if "replay(" not in line)  # the pane has it
        lines = [_signed(proof, _plain(proof.room, line)) for line in told]
        self.verdict.value = (
            f'<div role="status"><p class="{sort}"><b>{sign}</b> With your {escape(", ".join(own.name for own in mine))}:</p>'
            f"{_with_code(_nested(lines))}{self._reason(proof)}{_places(proof)}</div>"
        )
        if proof.counterexample is not None:
            self._walking = True
            self._way_in.show(proof.counterexample)
            self.children = [*self._frame, self._way_in]
        else:
            self._put_away()

    def _reason(self, proof: Proof) -> str:
        """Why it works, or what misled."""
        if proof.clean:
            why = "<b>What to take from it.</b> " + escape(self.room.lesson, quote=False)
            why = f"<b>Why it works.</b> {self._explained}" if self._explained else why
            return f"<p>{why}</p>{_links(self.room) if self._called else ''}{self.help.solved()}"
        said = _everything_said(proof)
        distractor = next((distractor for part, distractor in self._distractors.items() if part in said), None)
        return misled(distractor) if distractor else ""


def _plain(room: Room, line: str) -> str:
    """A line of a proof without what is for `vfiosim.replay`; of a room with one program how its calls are answered."""
    line = EXAMPLE.sub("", line)
    if len(room.calls) > 1:
        return line
    return re.sub(r"^1 way to end:$", "The calls of the report are answered so:", re.sub(r"^  A: ", "  ", line))


def _signed(proof: Proof, line: str) -> str:
    """A line of a proof with a sign for what is well, and one for what is not; what is only said has none."""
    if line.startswith(WRONG) or line in map(str, proof.lost):
        return f"✕ {line}"
    return f"✓ {line}" if line.startswith(WELL) else line


def _with_code(html: str) -> str:
    """`code` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html)


def _nested(lines: Sequence[str]) -> str:
    """Lines as a list; those that are indented belong to the one before."""
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith(" ") and groups:
            groups[-1].append(line.strip())
        else:
            groups.append([line])
    below = [_nested(rest) if rest else "" for _, *rest in groups]
    return (
        f"<ul>{''.join(f'<li>{escape(head)}{more}</li>' for (head, *_), more in zip(groups, below, strict=True))}</ul>"
    )


def _places(proof: Proof) -> str:
    """The lines that a counterexample names, where its last step tells it in short."""
    way = proof.counterexample
    if way is None or not way.in_short:
        return ""
    return f"<details><summary>Where in the code</summary>{escape(way.what)}.</details>"


def _recording(room: Room) -> str:
    """What was asked and answered, line by line; the recording itself can be unfolded."""
    rows = "".join(
        f"<tr><td>{n}</td><td>{escape(asked)}</td><td><b>{escape(answer)}</b></td></tr>"
        for n, (asked, answer) in enumerate(room.recorded_in_words(), 1)
    )
    head = "<tr><th></th><th>The program asked</th><th>Linux 7.2 answered</th></tr>"
    raw = f"<details><summary>The recording itself</summary><pre>{escape(room.recorded())}</pre></details>"
    return f'<table class="vfiosim-recording"><thead>{head}</thead><tbody>{rows}</tbody></table>{raw}'


def _everything_said(proof: Proof) -> str:
    """Everything that the proof says, all that goes wrong included."""
    return "\n".join([str(proof), *(witness.what for witness in proof.result.violations)])


def _links(room: Room) -> str:
    """Where it was discussed or mended in public, a line for each; an address can be followed."""
    return "".join(f"<p><small>{_with_address(link)}</small></p>" for link in room.links)


def _with_address(link: str) -> str:
    return re.sub(r"https://\S+", r'<a href="\g<0>" target="_blank" rel="noreferrer">\g<0></a>', escape(link))


def _sentence(problem: Exception) -> str:
    return f"{str(problem)[0].upper()}{str(problem)[1:]}."
