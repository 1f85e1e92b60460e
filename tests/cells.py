"""What is written in the notebooks."""

from __future__ import annotations

from pathlib import Path

import nbformat

from tests.conftest import ROOT


def cells(path: Path, kind: str) -> list[str]:
    """The cells of one kind, from top to bottom."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def code_of(stem: str) -> str:
    """All code of a notebook."""
    return "\n".join(cells(ROOT / "notebooks" / f"{stem}.ipynb", "code"))
