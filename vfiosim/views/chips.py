"""The descriptors of programs as buttons of which one is pressed."""

from __future__ import annotations

import secrets
from typing import Any

import anywidget
import traitlets

from .one_queue import OneQueue
from .script import script


class Chips(OneQueue, anywidget.AnyWidget):
    """`rows` are the lines: dictionaries with `program`, `title`, `says`, `chips` (descriptor and file), and `none` for no chips.

    A press is told to the kernel as the message {"press": [program, descriptor]}; `pressed` is program and descriptor of the
    button that is pressed, or empty.
    """

    _esm = script("chips.js")
    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    pressed = traitlets.List(traitlets.Any()).tag(sync=True)
    itself = traitlets.Unicode().tag(sync=True)  # the name by which the page finds it

    def __init__(self, **options: Any) -> None:
        name = secrets.token_hex(16)
        super().__init__(model_id=name, itself=name, **options)
