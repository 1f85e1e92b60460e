"""Every count that changes in a trace: as numbers over the steps, and as a timeline drawn once by matplotlib."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from io import StringIO
from typing import Any, TypeAlias, cast

from ..trace import State, Trace
from .graph import fits

Values: TypeAlias = "list[tuple[int, int | None]]"  # a step, and the value after it; None while the object is not there

HOW_TO_GET_A_TIMELINE = "For a drawn timeline install matplotlib: `pip install matplotlib`."
INK = "#010203"  # stands for the colour of the text around the picture
WIDTH, ROW, FONT = 12.0, 0.52, 17  # inches of 72 points; height of the letters in points
COUNTS = ("count", "cnt", "users")  # how the names of plain numbers end that are counts
MANY = 40  # more changes than this, and their values are not written beside them


def counts_over(trace: Trace, hide: Collection[str] = ()) -> dict[str, Values]:
    """By its path, each count that changes in the trace, with the steps (0 is the start) where it does.

    A count of what is not there yet is none: an object that is born with one reference changes it.
    """
    found: dict[str, Values] = {}
    for number, state in enumerate(trace.states()):
        there = dict(_counts(state))
        for path in {**found, **there}:
            values = found.setdefault(path, [] if number == 0 else [(0, None)])
            if not values or values[-1][1] != there.get(path):
                values.append((number, there.get(path)))
    return {
        path: values
        for path, values in found.items()
        if len({value or 0 for _, value in values}) > 1 and not fits(path.rpartition(".")[0], hide)
    }


def _counts(state: State) -> Iterator[tuple[str, int]]:
    """All counts of a state by their paths; a plain number is one too where it is called so (`open_count`, `owner_cnt`)."""
    for thing in state.objects.values():
        yield from ((f"{thing.oid}.{counter}", thing.total(counter)) for counter in thing.counts)
        for name, value in thing.fields.items():
            if type(value) is int and name.endswith(COUNTS):
                yield f"{thing.oid}.{name}", value


def counters_data(trace: Trace, hide: Collection[str] = (), *, drawn: bool = True) -> dict[str, Any]:
    """The counts, and (`drawn`) their picture with the places of step 0 and of the last step in it."""
    counts = counts_over(trace, hide)
    data: dict[str, Any] = {"counts": counts, "hint": "", "svg": "", "from": 0, "to": 0}
    if drawn and counts:
        try:
            data["svg"], data["from"], data["to"] = timeline(counts, len(trace))
        except ImportError:
            data["hint"] = HOW_TO_GET_A_TIMELINE
    return data


def timeline(counts: dict[str, Values], steps: int) -> tuple[str, float, float]:
    """A row for each count, as SVG, and where in it step 0 and the last step are. Raises ImportError without matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "font.size": FONT,
        "font.family": "sans-serif",
        "text.color": INK,
    }
    more = {"svg.hashsalt": "vfiosim", "path.simplify": False, "text.parse_math": False}
    with matplotlib.rc_context(cast(Any, {**settings, **more})):
        high = ROW * len(counts) + 0.7
        names = min(0.55, 0.02 + max(map(len, counts)) * FONT * 0.55 / (72 * WIDTH))  # the part of the width for them
        figure = Figure(figsize=(WIDTH, high), dpi=72)
        axes = figure.add_axes((names, 0.5 / high, 0.98 - names, 1 - 0.6 / high))
        axes.set(xlim=(0, max(steps, 1)), ylim=(len(counts), 0))
        for row, (path, values) in enumerate(counts.items()):
            _draw(axes, row, path, values, steps)
        axes.set_axis_off()
        for step in _ticks(steps):
            axes.text(step, len(counts) + 0.1, str(step), ha="center", va="top", color=INK)
        sink = StringIO()
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
        start, end = (float(axes.transData.transform((step, 0))[0]) for step in (0, steps))
    return _tidy(sink.getvalue()), round(start, 1), round(end, 1)


def _ticks(steps: int) -> list[int]:
    every = next(size * 10**power for power in range(9) for size in (1, 2, 5) if steps / (size * 10**power) <= 14)
    return list(range(0, steps + 1, every))


def _draw(axes: Any, row: int, path: str, values: Values, steps: int) -> None:
    """One count: its name, and a line that steps up and down between the bottom and the top of its row."""
    most = max(value for _, value in values if value is not None) or 1
    xs: list[float] = []
    ys: list[float] = []
    for place, (step, value) in enumerate(values):
        end = values[place + 1][0] if place + 1 < len(values) else steps
        height = float("nan") if value is None else row + 0.92 - 0.42 * value / most
        xs += [step, end]
        ys += [height, height]
        if value is not None and len(values) <= MANY:
            axes.text(step, height - 0.04, f" {value}", va="bottom", color=INK, fontsize=FONT - 2, weight="bold")
    axes.plot(xs, ys, color=INK, linewidth=2.5, linestyle=("-", "--", "-.", ":")[row % 4], clip_on=False)
    axes.axhline(row + 0.97, color=INK, linewidth=0.4, alpha=0.5, clip_on=False)
    axes.annotate(path, (0, row + 0.92), (-10, 0), textcoords="offset points", ha="right", va="bottom", color=INK)


def _tidy(svg: str) -> str:
    """The drawing alone, in the colour of the text around it, without anything that would reach out of it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|<defs>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[^"]*"| xmlns:xlink="[^"]*"', "", svg)
    svg = re.sub(r"; font-family: [^;\"]*", "", svg)
    svg = re.sub(r"(\d+\.\d)\d+", r"\1", svg).replace(INK, "currentColor")
    return re.sub(r"\s*\n\s*", "\n", svg)
