"""The notebooks of the course, each run once from top to bottom for all tests that ask what came of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COUNT = "from ipywidgets.widgets import widget\nprint(len(widget._instances))"

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
TOGETHER = pytest.mark.xdist_group("notebooks that have run")  # in one process, so that each runs once


@cache
def executed(path: Path) -> Any:
    """A notebook that has run on its own in an empty folder, without the state of its widgets; their number is in its metadata."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(COUNT))
    with TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=600, store_widget_state=False, resources={"metadata": {"path": folder}}
        ).execute()
    notebook.metadata["widgets_kept"] = int(notebook.cells.pop().outputs[0].text)
    return notebook
