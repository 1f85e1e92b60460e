"""A trace as one animated SVG: a picture for a page that runs no scripts, in the colours that its reader prefers."""

from __future__ import annotations

from html import escape
from itertools import groupby

from ..assets import style_sheet
from ..trace import Trace
from .layout import MARGIN
from .plain import plain, text
from .player import Player

WORDS, LETTER = 52, 20.0  # the height that a sentence gets above the picture, and that of its letters
DARK = "svg { --vfiosim-paper: #0d1117; --vfiosim-ink: #e6edf3; }"
LIGHT = "svg { --vfiosim-paper: #fff; --vfiosim-ink: #1f2328; }"


def film(trace: Trace, seconds: float = 2.4, first: int = 1) -> str:
    """The steps of a trace from `first` on (counted from 1), each for so many seconds, the last one twice as long, then all again.

    A reader who wants no motion sees the last step; `first=len(trace)` shows nothing else. Raises RuntimeError for an empty trace.
    """
    player = Player(trace)
    layout = player.layout
    if layout is None:
        raise RuntimeError("nothing has happened, so there is nothing to film")
    steps = range(first, len(trace) + 1)
    seen: dict[str, set[int]] = {}  # by piece of the picture, the steps in which it is to be seen
    for step in steps:
        for piece in [*_pieces(player.svg(step, whole=False)), _sentence(trace, step, layout.width)]:
            seen.setdefault(piece, set()).add(step)
    last = len(trace)
    share = 100 / (len(steps) + 1)  # of the time, in percent
    patterns = {
        frozenset(shown): f"film{number}"
        for number, shown in enumerate({frozenset(one): None for one in seen.values()})
    }
    rules = [
        _rule(name, [step in shown for step in steps], share)
        for shown, name in patterns.items()
        if len(shown) < len(steps)
    ]
    pieces = [f'<g class="{patterns[frozenset(shown)]}">{piece}</g>' for piece, shown in seen.items()]
    width, height = round(layout.width + MARGIN), round(layout.height + MARGIN + WORDS)
    still = ", ".join(f".{name}" for shown, name in patterns.items() if last not in shown) or "none"
    box = f"{-MARGIN:.0f} {-MARGIN - WORDS:.0f} {width} {height}"
    paper = 'x="{}" y="{}" width="{}" height="{}"'.format(*box.split())
    sheets = style_sheet("palette.css") + style_sheet("graph.css")
    style = (
        f"{LIGHT} @media (prefers-color-scheme: dark) {{ {DARK} }} {sheets} {' '.join(rules)} "
        f"[class^=film] {{ animation: {seconds * (len(steps) + 1):.1f}s step-end infinite; }} "
        f"@media (prefers-reduced-motion: reduce) {{ [class^=film] {{ animation: none !important; }} "
        f"{still} {{ visibility: hidden; }} }}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vfiosim-graph" role="img" viewBox="{box}">'
        f"<title>{escape(trace[first - 1].sentence)}</title><style>{style}</style>"
        f'<rect class="paper" {paper}/>{"".join(pieces)}</svg>'
    )


def _pieces(svg: str) -> list[str]:
    """The boxes and arrows of a picture, without what only a script would look for."""
    return [text(part) for part in plain(svg) if part.tag == "g"]


def _sentence(trace: Trace, step: int, width: float) -> str:
    """What the step says, and how far the run is."""
    told = trace[step - 1]
    done = (width + MARGIN) * step / len(trace)
    return (
        f'<text x="0" y="{-WORDS + 14:.0f}" style="font: {LETTER:.0f}px system-ui, sans-serif; fill: var(--vfiosim-ink)">'
        f'<tspan font-weight="bold">{escape(told.phase)}</tspan> {escape(told.sentence)}</text>'
        f'<rect x="0" y="{-WORDS + 26:.0f}" width="{done:.0f}" height="4" rx="2" fill="var(--vfiosim-ink)"/>'
    )


def _rule(name: str, shown: list[bool], share: float) -> str:
    """In which steps a piece is to be seen, as the keyframes of an animation; each step has a `share` of the time."""
    turns = [next(group) for _, group in groupby(enumerate(shown), key=lambda one: one[1])]
    told = "".join(f"{at * share:.2f}% {{ visibility: {'visible' if seen else 'hidden'}; }}" for at, seen in turns)
    return f"@keyframes {name} {{ {told} }} .{name} {{ animation-name: {name} !important; }}"
