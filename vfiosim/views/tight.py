"""A picture cut to what is drawn in it."""

from __future__ import annotations

import re

BOX = re.compile(r'<rect class="box" x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)"')
LINE = re.compile(r'class="line" d="([^"]+)"')
HEAD = re.compile(r'max-width: \d+px"(.*?) width="\d+" height="\d+" viewBox="[^"]+"', re.DOTALL)
MARGIN, LARGEST = 6, 1.1  # pixels; and how much larger than drawn it may become


def tight(picture: str, largest: float = LARGEST) -> str:
    """The part of a graph (as SVG text, without what is not to be seen) in which something is; "" where nothing is.

    `largest`: how many times as large as drawn it may become.
    """
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
