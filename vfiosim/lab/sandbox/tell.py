"""How something ended, as a piece of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ..table import Line
from .run import Run
from .told import Told


def told_html(told: Told, steps: int) -> str:
    """The line about the last press; for a refused call with the check, its line, and what the call had in its hands."""
    call = f"<code>{_text(told.call)}</code>"
    if told.unknown:
        return _status("unknown", f"? {call} → <b>not modelled</b>: {_text(told.unanswered)}")
    sign = "✕" if told.refused else "‖" if told.waits else "✓"
    line = f"{sign} {call} → <b>{_text(told.result)}</b> {_text(told.sentence)}"
    if told.wrote:
        wrote = "</code>, <code>".join(map(_text, told.wrote))
        line += f' <span class="vfiosim-walk">The kernel wrote: <code>{wrote}</code>.</span>'
    if told.check:
        line += f' <span class="vfiosim-walk">Refused by the check <b>{_text(told.check)}</b> at <code>{_text(told.where)}</code>'
        line += f": <code>{_text(told.source)}</code></span>" if told.source else "</span>"
    if told.refused and told.result != "oops":
        line += _hands(told)
    if told.result == "oops":
        line += ' <span class="vfiosim-walk">The thread stops where it is: its locks stay locked. Undo takes it back.</span>'
    if steps > 1 and not told.refused:
        line += f' <span class="vfiosim-walk">{steps} steps in the picture.</span>'
    return _status("refused" if told.refused else "good", line)


def _hands(told: Told) -> str:
    if not told.had:
        return ' <span class="vfiosim-walk">It had acquired nothing at that point.</span>'
    gone = f"Already acquired at that point:{_list(told.had)}"
    if told.kept:
        return f'<div class="vfiosim-walk">{gone}Not given back:{_list(told.kept)}</div>'
    return f'<div class="vfiosim-walk">{gone}All of it was given back on the way out.</div>'


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


def table_lines(run: Run) -> list[Line]:
    """The descriptor tables of all processes."""
    lines, alive = [], run.alive()
    for name in run.machine.processes:
        if name in alive:
            chips = tuple((fd, file.label) for fd, file in run.descriptors(name).items())
            lines.append(Line(name, name[:80], "has open:", chips, "nothing yet"))
        else:
            lines.append(Line(name, name[:80], "has ended."))
    return lines or [Line("", "", "There is no process.")]


def hint(run: Run, process: str) -> tuple[str, str]:
    """What a newcomer may press next, the name of that button and a sentence; nothing any more once something follows a bind."""
    if process not in run.alive():
        return "", "Press <b>New process</b>: somebody has to make the calls."
    names = [file.f_op.name for file in run.descriptors(process).values()]
    binds = [
        number for number, done in enumerate(run.done) if any(line.startswith("out_devid") for line in done.told.wrote)
    ]
    if run.setup.says:
        return "", f"<b>Try:</b> {_text(run.setup.says)}"
    if run.start is not None or (binds and binds[0] < len(run.done) - 1):
        return "", ""
    if binds:
        return (
            "",
            "Bound. Walk through it with <b>Next →</b>. Then <b>Call</b> again: why is it refused?",
        )
    if "vfio device" not in names:
        return (
            "open device",
            "Three presses bind a device. First <b>open device</b>: the node of the network card.",
        )
    if "iommufd" not in names:
        return "open iommufd", "Now <b>open iommufd</b>: somebody has to keep the device's memory map."
    first = "" if {*names} <= {"vfio device", "iommufd"} else "choose the device's file at <b>on</b>, then "
    return "Call", f"Now {first}<b>Call</b>: BIND puts the device into the hands of the iommufd."


def broken_html(broken: list[str]) -> str:
    """What must always be true and is not, in words."""
    if not broken:
        return ""
    return f'<div role="alert" class="refused"><b>Something is broken now:</b>{_list(broken[:5])}</div>'


def with_left_out(said: str, left_out: Sequence[str]) -> str:
    """A sentence, and what could not be done again."""
    if not left_out:
        return said
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return f"{said} Left out, because it cannot be done here: {'; '.join(left_out[:3])}{more}"
