"""Which Graphviz there is: in this process, as a program, or as WebAssembly where Python itself runs in a browser."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from ..assets import asset


def find_graphviz() -> Callable[[str], str] | None:
    """What makes a layout, in Graphviz's own JSON, of a text in the DOT language; None without a Graphviz."""
    if sys.platform == "emscripten":
        return _in_browser
    try:
        import pygraphviz  # noqa: F401
    except ImportError:
        return _by_program if shutil.which("dot") else None
    return _in_process


def _in_process(source: str) -> str:
    import pygraphviz

    return str(pygraphviz.AGraph(string=source).draw(format="json0", prog="dot"), "utf-8")


def _by_program(source: str) -> str:
    import graphviz

    return str(graphviz.Source(source).pipe(format="json0"), "utf-8")


def _in_browser(source: str) -> str:
    viz, format_ = _viz()
    return str(viz.renderString(source, format_))


@cache
def _viz() -> tuple[Any, Any]:
    """Viz.js in the worker of the kernel, and what it has to be told."""
    from pyodide.code import run_js

    script = asset("graphviz/viz.js").read_bytes().decode()
    return run_js(f"{_at_once(script)}\nnew Viz(Module())"), run_js("({format: 'json0'})")


def _at_once(script: str) -> str:
    """Viz.js as a script that is there when it has run: Python waits for no promise, and a worker may compile at once."""
    script = script.partition("export {")[0].replace("import.meta.url", "''")
    script = script.replace(
        "await WebAssembly.instantiate(binary,imports)",
        "{instance: new WebAssembly.Instance(new WebAssembly.Module(binary), imports)}",
    )
    return re.sub(r"\basync function\b", "function", script).replace("=async url=>", "=url=>").replace("await ", "")
