"""How something ended, and how things stand, as pieces of HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from ..trace import Trace
from .outcome import UNDER_WAY, Outcome
from .run import Run
from .table import ProgramLine


def outcome_html(
    outcome: Outcome,
    steps: Trace,
    brief: bool = False,
    at: int = 1,
    watch: Collection[str] = (),
    begins: bool = False,
) -> str:
    """The line about the last press; unless `brief` also what the kernel wrote, and what a refused call had acquired.

    `at`: the step, counted from 1, at which the picture of a `brief` one stands; `watch`: names of cells that are asked about;
    `begins` as in `RunView`.
    """
    call = f"<code>{_text(outcome.call)}</code>"
    if outcome.unknown:
        return _status("unknown", f"? {call} → <b>not modelled</b>: {_text(outcome.unanswered)}")
    sign = "✕" if outcome.refused else "‖" if outcome.waits else "✓"
    said = outcome.evidence if brief else outcome.sentence
    line = f"{sign} {call} → <b>{_text(outcome.result)}</b>" + (f" – {_text(said)}" if said else "")
    if outcome.check and brief:
        line += f'. <span class="vfiosim-where">Check <b>{_text(outcome.check)}</b> at {_text(outcome.where)}</span>'
    line += _walk(steps, at or 1, watch, begins, outcome.waits) if brief else _in_full(outcome)
    going = outcome.waits or outcome.result == UNDER_WAY
    return _status("refused" if outcome.refused else "going" if going else "good", line)


def _walk(steps: Trace, at: int, watch: Collection[str], begins: bool, waits: bool) -> str:
    """Where the picture stands, and why there."""
    if len(steps) < 2:
        return ""
    last, step = len(steps), steps[at - 1]
    changed = (change.what.rpartition(".")[2] for change in step.changes)
    why = "which refuses the call" if step.refused else ""
    why = why or next((f"which changes <code>{cell}</code>" for cell in changed if cell in watch), "")
    if begins and at == 1 and not why:
        where = "<b>begins at step 1;</b> <b>End</b> shows the result"
    else:
        why = why or (
            ("where the call waits" if waits else "the result") if at == last else "the last change that stays"
        )
        end = "" if at == last else ", <b>End</b> the result"
        where = f"<b>opened at step {at} of {last}, {why};</b> <b>Home</b> shows the beginning{end}"
    return f'. <span class="vfiosim-walk">The picture {where}.</span>'


def _in_full(outcome: Outcome) -> str:
    line = ""
    if outcome.wrote:
        wrote = "</code>, <code>".join(map(_text, outcome.wrote))
        line += f'. <span class="vfiosim-walk">The kernel wrote: <code>{wrote}</code></span>'
    if outcome.result == "oops":
        return f'{line} <span class="vfiosim-walk">The thread stops where it is: its locks stay locked. Undo takes it back.</span>'
    if not outcome.refused:
        return line
    source = f": <code>{_text(outcome.source)}</code>" if outcome.source else ""
    where = f"<div>At <code>{_text(outcome.where)}</code>{source}</div>" if outcome.check else ""
    by = f"Refused by the check <b>{_text(outcome.check)}</b>" if outcome.check else "What it had acquired"
    return f'{line} <details class="vfiosim-walk"><summary>{by}</summary>{where}{_acquired(outcome)}</details>'


def _acquired(outcome: Outcome) -> str:
    if not outcome.had:
        return "It had acquired nothing at that point."
    gone = f"Already acquired at that point:{_list(outcome.had)}"
    if outcome.left:
        return f"{gone}Not given back:{_list(outcome.left)}"
    return f"{gone}All of it was given back on the way out."


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _status(sort: str, line: str) -> str:
    return f'<div role="status" class="{sort}">{line}</div>'


def say(sentence: str, sort: str = "") -> str:
    """A sentence as the line about the last press."""
    return _status(sort, _text(sentence))


def _text(text: str) -> str:
    """A text that stays text; a very long one is cut."""
    return escape(text if len(text) <= 400 else f"{text[:400]}…", quote=False)


def table_lines(run: Run) -> list[ProgramLine]:
    """The descriptor tables of all processes."""
    lines, alive = [], run.alive()
    says = "has open after the last step:" if run.calls_made else "has open:"
    for name in run.machine.processes:
        if name in alive:
            chips = tuple((fd, file.label) for fd, file in run.descriptors(name).items())
            lines.append(ProgramLine(name, name[:80], says, chips, "nothing yet"))
        else:
            lines.append(ProgramLine(name, name[:80], "has ended."))
    return lines or [ProgramLine("", "", "There is no process.")]


def hint(run: Run, process: str) -> tuple[str, str]:
    """What a newcomer may press next, the name of that button and a sentence; nothing any more once something follows a bind."""
    if process not in run.alive():
        return "", "Press <b>New process</b>: somebody has to make the calls."
    names = [file.f_op.name for file in run.descriptors(process).values()]
    binds = [
        number
        for number, done in enumerate(run.done)
        if any(line.startswith("out_devid") for line in done.outcome.wrote)
    ]
    if run.start is not None or run.given or (binds and binds[0] < len(run.done) - 1):
        return "", ""
    if binds:
        return (
            "",
            "Bound. <b>Home</b>, then <b>Next →</b> walk through it. Then <b>Call</b> again: what do you expect?",
        )
    if "vfio device" not in names:
        return (
            "open device",
            "Three presses bind a device. First <b>open device</b>: the one that is chosen.",
        )
    if "iommufd" not in names:
        return "open iommufd", "Now <b>open iommufd</b>: it says which memory the device may reach."
    first = "" if {*names} <= {"vfio device", "iommufd"} else "choose the device's file at <b>on</b>, then "
    return "Call", f"Now {first}<b>Call</b>: BIND puts the device into the hands of the iommufd."


def broken_html(broken: list[str]) -> str:
    """What must always be true and is not, in words."""
    if not broken:
        return ""
    return (
        f'<div role="alert" class="refused"><b>Something is broken now:</b> {"; ".join(map(_text, broken[:5]))}.</div>'
    )


def with_left_out(said: str, left_out: Sequence[str]) -> str:
    """A sentence, and what could not be done again."""
    if not left_out:
        return said
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return f"{said} Left out, because it cannot be done here: {'; '.join(left_out[:3])}{more}"
