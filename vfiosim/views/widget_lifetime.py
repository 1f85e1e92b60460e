"""Widgets that no output shows any more: a cell that runs again closes those of its last run.

ipywidgets keeps every widget for ever. After a few runs of a notebook the page asks for megabytes of forgotten ones when it is
opened, the server drops messages above its limit, and a press of a button that is in sight has no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import ipywidgets as widgets
from ipywidgets.widgets import widget as every

from .shared import Shared

SOON = 5.0  # seconds; a page that has just been opened is still making them, and complains if they are closed meanwhile

_shown: dict[str, list[widgets.Widget]] = {}  # by cell: what its last run has shown
_showing: dict[str, list[widgets.Widget]] = {}  # the same for a run that is under way


def note_displayed(widget: widgets.Widget) -> None:
    """Note that the running cell shows this widget. Without effect where cells have no names, as in a terminal."""
    shell = _shell()
    if shell is None or (cell := _running_cell(shell)) is None:
        return
    if _forget not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _forget)
    _showing.setdefault(cell, []).append(widget)


def _forget(result: Any) -> None:
    cell = result.info.cell_id
    before = _shown.pop(cell, [])
    if cell in _showing:
        _shown[cell] = _showing.pop(cell)
    if before:
        asyncio.get_running_loop().call_later(SOON, close, before)


def close(before: list[widgets.Widget]) -> None:
    """Close these and all their parts, and what has such a part, but for what is shown elsewhere or has a name."""
    kept = {*_with_parts([*(widget for shown in _shown.values() for widget in shown), *_named()])}
    for widget in _with_parts(before):
        if widget not in kept and not isinstance(widget, Shared):
            widget.close()
    for widget in [*every._instances.values()]:
        if not _whole(widget) and not isinstance(widget, Shared):
            widget.close()


def _whole(widget: widgets.Widget) -> bool:
    """Are all its children open? The kernel can tell a page that is opened again of no widget while one is not."""
    return all(child.comm is not None for child in getattr(widget, "children", ()) if isinstance(child, widgets.Widget))


def _named() -> list[widgets.Widget]:
    """Widgets that a variable of the notebook leads to; Out and its kin are no variables of anybody."""
    shell = _shell()
    values = [value for name, value in shell.user_ns.items() if not name.startswith("_")] if shell else []
    return [value for value in values if isinstance(value, widgets.Widget)]


def _with_parts(roots: Iterable[widgets.Widget]) -> Iterator[widgets.Widget]:
    """These widgets and all that they are made of: children, layouts, and what they keep aside."""
    seen: set[int] = set()
    waiting = [*roots]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, widgets.Widget) and id(value) not in seen:
            seen.add(id(value))
            waiting += [getattr(value, name) for name in value.keys if name != "comm"]
            waiting += [part for name, part in vars(value).items() if not name.startswith("_trait")]
            yield value


def _running_cell(shell: Any) -> str | None:
    kernel = getattr(shell, "kernel", None)
    parent = kernel.get_parent() if kernel is not None else {}
    cell = parent.get("metadata", {}).get("cellId")
    return cell if isinstance(cell, str) else None


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()
