"""What a scheduler looks at, as HTML: the code of each thread, and between them what they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from ...explore.missing import BROKEN, KEPT, Point
from ...explore.touches import Seen, Variable
from ...views.sources import how_known
from .standing import NEAR, CodeLine, Standing

MOST = 4  # shared variables that are told in any case
SIGNS = {KEPT: ("✓", "good"), BROKEN: ("✕", "refused")}


def next_html(where: Standing) -> str:
    """What a call does next or waits for, and where."""
    if where.waits:
        said = f'<span class="wrong">‖ {escape(where.waits)}</span>'
    else:
        said = f"next: <b>{escape(where.next)}</b>"
    place = where.place
    mirrored = f"<code>{escape(place.kernel_function)}</code> {escape(place.kernel_file)}, {escape(place.kernel_tag)}"
    told = f"{mirrored} · " if place.kernel_function else ""
    path = "".join(f"{escape(name)} › " for name in where.callers[-3:])
    title = f"{escape(place.where)}{f', called by {path}{place.function}' if path else ''}"
    line = f'<div class="vfiosim-where">{told}{escape(place.where)}: {how_known(place)}</div>'
    return f'<div class="says" title="{title}">{said}</div>{line}'


def code_html(where: Standing) -> str:
    """The code of a thread; the line that runs next is marked, and so is each that touches something shared."""
    cut = '<span class="line distant"><i></i><span>…</span></span>' if where.cut else ""
    at = where.place.line
    lines = "".join(_line(line, line.number - at in NEAR) for line in where.code)
    return f'<pre class="code" tabindex="0" aria-label="code of {escape(where.thread)}">{cut}{lines}</pre>'


def _line(line: CodeLine, near: bool) -> str:
    kind = "line" + (" here" if line.here else "") + ("" if near else " distant")
    sign = "▶" if line.here else "●" if line.shares else ""
    told = f"touches {', '.join(line.shares)}" if line.shares else ""
    told = f"taken out of the kernel: {line.text.strip()}" if line.out else told
    told = f' title="{escape(told)}"' if told else ""
    kind += (" shares" if line.shares else "") + (" out" if line.out else "")
    current = ' aria-current="true"' if line.here else ""
    code = _narrow(line.text)
    deep = f' style="--deep: {len(code) - len(code.lstrip())}"'  # for what comes after a break of the line
    return f'<span class="{kind}"{told}{current}><i>{sign}</i><span{deep}>{_called(code) or " "}</span></span>'


def _called(code: str) -> str:
    """The line, in which the kernel's name of what is done stands out, and not our `await` before it."""
    return re.sub(r"\bawait (\w+)", r"await <b>\1</b>", escape(code))


def _narrow(line: str) -> str:
    """The same, indented by half: columns beside each other are narrow."""
    text = line.lstrip(" ")
    return " " * ((len(line) - len(text)) // 2) + text


def shared_html(variables: Sequence[Variable], threads: Sequence[str]) -> str:
    """A table: each thing that is shared, and below it its value now, and what each thread has seen or done there.

    What contradicts is marked.

    What no contradiction is about is folded away where there is much of it.
    """
    if len(threads) < 2:
        return "<p>One call is under way; another one shares something with it once it has begun.</p>"
    if not variables:
        return "<p>These threads share nothing that one of them changes.</p>"
    first = [*variables[:MOST], *(one for one in variables[MOST:] if one.harmed or _stale(one))]
    rest = [one for one in variables if one not in first]
    more = f"<details><summary>{len(rest)} more</summary>{_table(rest, threads)}</details>" if rest else ""
    return _table(first, threads) + more


def _table(variables: Sequence[Variable], threads: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{escape(thread)}</th>' for thread in threads)
    rows = "".join(_row(one, threads) for one in variables)
    head = f'<thead><tr><th scope="col">now</th>{heads}</tr></thead>'
    return f'<table class="shared">{head}{rows}</table>'


def _stale(one: Variable) -> bool:
    return any(seen.stale for seen in one.seen.values())


def _row(one: Variable, threads: Sequence[str]) -> str:
    oid, cell = one.place
    name = f'<code title="{escape(one.name)}">{escape(cell or oid)}</code>'
    name += f" <small>{escape(oid)}</small>" if cell else ""
    kind = "harmed" if one.harmed else "stale" if _stale(one) else ""
    cells = "".join(
        f'<td data-thread="{escape(thread)}"{_kind(one.seen.get(thread))}>{_seen(one, thread)}</td>'
        for thread in threads
    )
    now = ("<em>contradiction:</em> <br>" if one.harmed else "") + f"<b>{escape(one.now)}</b>"
    head = f'<tr class="name"><th scope="rowgroup" colspan="{1 + len(threads)}">{name}</th></tr>'
    return f'<tbody>{head}<tr class="{kind}"><td class="now">{now}</td>{cells}</tr></tbody>'


def _kind(seen: Seen | None) -> str:
    return ' class="stale"' if seen is not None and seen.stale else ""


def _seen(one: Variable, thread: str) -> str:
    """What a thread has done last with a variable, and what it will do."""
    seen, ahead = one.seen.get(thread), [_short(verb) for verb in one.ahead.get(thread, ())]
    parts = []
    if seen is not None:
        told = " <em>≠ now</em>" if seen.stale else ""
        value = f" <b>{escape(seen.value)}</b>" if seen.value else ""
        parts.append(f"{escape(_short(seen.verb[1]))}{value}{told}")
    if ahead:
        parts.append(f"<i>{escape(', '.join(ahead[:1] if one.rank == 3 else ahead))} later</i>")
    return ", <br>".join(parts) or "–"


def _short(verb: str) -> str:
    return verb.removesuffix(" a reference at")


def ended_html(thread: str, calls: Sequence[str]) -> str:
    """The place of a thread that is in no call: how its calls have ended."""
    lines = "".join(f"<p>{call}</p>" for call in calls)
    return f"<p><b>{escape(thread)}</b> {'has ended' if calls else 'is in no call'}.</p>{lines}"


def points_html(points: Sequence[Point], between: str) -> str:
    """What has to be so for the harm to happen, and how much of it is."""
    items = ""
    for point in points:
        sign, kind = SIGNS.get(point.state, ("○", "open"))
        items += f'<li class="{kind}"><b>{sign}</b> {escape(point.sentence, quote=False)}</li>'
    head = f"<p><b>One way there.</b> {escape(between, quote=False)}</p>" if between else ""
    return f'{head}<ul class="vfiosim-points">{items}</ul>' if items else head
