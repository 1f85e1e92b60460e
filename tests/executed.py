"""The notebooks of the course, each run once from top to bottom for all tests that ask what came of it.

One kernel runs them one after the other: to start one costs as much as most of them do. Each begins without variables, widgets and
files. That none needs what another one has imported is for the night: there each runs in JupyterLab, with a kernel of its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient

from tests.conftest import ROOT
from tests.turns import on_one_python

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BEGIN = """
import os
from ipywidgets import Widget
Widget.close_all()
os.chdir({folder!r})
get_ipython().run_line_magic("reset", "-f")
"""
COUNT = "from ipywidgets.widgets import widget\nprint(len(widget._instances))"

# Beside the Python that all tests run under, each of the others runs a quarter of the notebooks, which tomorrow is another one.
EACH = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name, marks=on_one_python(at, 4)) for at, path in enumerate(NOTEBOOKS)]
)
TOGETHER = pytest.mark.xdist_group("notebooks that have run")  # in one process, so that each runs once


@cache
def _kernel() -> KernelManager:
    """It ends with this process."""
    manager, client = start_new_kernel()
    client.stop_channels()
    return manager


@cache
def executed(path: Path) -> Any:
    """A notebook that has run on its own in an empty folder, without the state of its widgets; their number is in its metadata."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(BEGIN.format(folder=folder)))
        notebook.cells.append(nbformat.v4.new_code_cell(COUNT))
        NotebookClient(notebook, km=_kernel(), timeout=600, store_widget_state=False).execute()
    del notebook.cells[0]
    notebook.metadata["widgets_kept"] = int(notebook.cells.pop().outputs[0].text)
    return notebook
