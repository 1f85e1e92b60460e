"""The picture of one moment, as small as what is drawn in it."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import replace

from .alone import Still
from .collapse import without_rows
from .layout import lay_out
from .player import Player

BOX = re.compile(r'<rect class="box" x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)"')
LINE = re.compile(r'class="line" d="([^"]+)"')
HEAD = re.compile(r'max-width: \d+px"(.*?) width="\d+" height="\d+" viewBox="[^"]+"', re.DOTALL)
MARGIN, LARGEST = 6, 1.1  # pixels; and how much larger than drawn it may become


def still(player: Player, step: int | None = None, largest: float = LARGEST) -> str:
    """What is to be seen after a step (by default that of the player), in a picture of its own; "" where nothing is.

    `largest`: how many times as large as drawn it may become.
    """
    number = player.step if step is None else step
    shown = player.frame(max(number - 1, 0)) | player.frame(number)
    there = player.graph
    hidden = {row.key for node in there.nodes for row in node.rows if row.key not in shown}
    small = without_rows(there, hidden)
    moment = copy(player)
    moment.graph = replace(
        small,
        nodes=tuple(node for node in small.nodes if node.key in shown),
        edges=tuple(edge for edge in small.edges if edge.key in shown),
    )
    moment.layout = lay_out(moment.graph, Still())
    return _cut(moment.svg(number, whole=False), largest) if moment.layout else ""


def _cut(picture: str, largest: float) -> str:
    """The part of the picture in which something is."""
    boxes = [tuple(map(float, box)) for box in BOX.findall(picture)]
    if not boxes:
        return ""
    ways = [[float(number) for number in re.findall(r"-?[\d.]+", line)] for line in LINE.findall(picture)]
    across = [*(at for x, _, width, _ in boxes for at in (x, x + width)), *(x for way in ways for x in way[::2])]
    down = [*(at for _, y, _, height in boxes for at in (y, y + height)), *(y for way in ways for y in way[1::2])]
    left, top = (round(min(numbers) - MARGIN) for numbers in (across, down))
    width, height = round(max(across) + MARGIN) - left, round(max(down) + MARGIN) - top
    size = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    return HEAD.sub(rf'max-width: {width * largest:.0f}px"\1 {size}', picture, count=1)
