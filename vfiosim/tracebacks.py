"""How IPython shows an error of this package: the sentence, the check, the lines; in a notebook the rest is behind a click.

IPython asks an exception for its `_render_traceback_`, if it has one. Every other Python prints a traceback as always.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from .engine import KernelOops, OutsideError, PatchError
from .machine import Blocked
from .naming import ImpossibleError
from .uapi import KernelError

OWN: tuple[Any, ...] = (Blocked, KernelError, KernelOops, OutsideError, PatchError, ImpossibleError)
_PACKAGE = Path(__file__).parent
_DETAILS = """<details class="vfiosim-details"><summary style="cursor: pointer">details</summary>
<pre style="max-height: 30em; overflow: auto">{}</pre></details>"""
_folded: list[BaseException] = []  # whose tracebacks are shown when the cell has ended
_ELSEWHERE = "The whole traceback: import traceback; traceback.print_last()"


def show_own_errors() -> None:
    """From now on IPython shows the errors of this package as this module does."""
    for kind in OWN:
        kind._render_traceback_ = _render


def _render(error: BaseException) -> list[str]:
    """What is to be seen in the place of the traceback, line by line."""
    from IPython import get_ipython

    shell = get_ipython()
    if _in_notebook_cell(shell, error):
        _fold(shell, error)
    return [*_told(error), *(f"  asked: {line}" for line in _asked(shell, error))]


def _told(error: BaseException) -> Iterator[str]:
    kind = type(error).__name__
    if not isinstance(error, KernelError):
        yield f"{kind}: {error}"
        return
    yield f"{kind}: [{error.name}] {error.sentence}"
    if error.check:
        yield f"  check: {error.check}"
    if error.where:
        yield f"  where: {error.where}" + (f", {error.kernel}" if error.kernel else "")


def _asked(shell: Any, error: BaseException) -> Iterator[str]:
    """The line of the reader's own that led to the error."""
    own = None
    for frame in traceback.extract_tb(error.__traceback__):
        if _PACKAGE in Path(frame.filename).parents:
            break
        own = frame
    if own is not None:
        cell = shell.compile.format_code_name(own.filename)
        yield f"{' '.join(cell) if cell else own.filename}, line {own.lineno}: {own.line}"


def _in_notebook_cell(shell: Any, error: BaseException) -> bool:
    """Has a cell failed, in a place that shows HTML? An error in the callback of a widget has no cell to be shown in."""
    outermost = error.__traceback__
    cell = outermost is not None and outermost.tb_frame.f_code.co_name == "run_code"
    return cell and "text/html" in shell.display_formatter.active_types


def _fold(shell: Any, error: BaseException) -> None:
    """The traceback is to be shown below the error itself; IPython asks for an error more than once."""
    if _show_folded not in shell.events.callbacks["post_execute"]:
        shell.events.register("post_execute", _show_folded)
    if not any(other is error for other in _folded):
        _folded.append(error)


def _show_folded() -> None:
    from IPython.display import display

    while _folded:
        details = _DETAILS.format(escape("".join(traceback.format_exception(_folded.pop(0)))))
        display({"text/html": details, "text/plain": _ELSEWHERE}, raw=True)  # type: ignore[no-untyped-call]
