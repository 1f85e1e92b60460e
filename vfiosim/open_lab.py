"""The notebooks in a folder of the student's own, and JupyterLab on the first of them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from .assets import notebooks

FIRST = "00_start.ipynb"
HOW_TO_GET_JUPYTERLAB = 'pip install "vfiosim[lab]"'


def copy_notebooks(folder: Path) -> tuple[list[str], list[str]]:
    """Put the notebooks into the folder, never over a file that is there. The answer: what came, and what is another text there.

    Raises OSError where nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    came, differ = [], []
    for name, text in notebooks().items():
        try:
            with (folder / name).open("xb") as file:
                file.write(text)
            came.append(name)
        except FileExistsError:
            if (folder / name).read_bytes() != text:
                differ.append(name)
    return came, differ


def main(arguments: Sequence[str]) -> int:
    """The command `lab`: what JupyterLab answers; 1 if it is not installed, 2 if the folder cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m vfiosim lab",
        description="Copy the notebooks into a folder, over nothing that is there, and open the first one in JupyterLab.",
        epilog="Whatever else is said goes to JupyterLab, e.g. --no-browser --port=8899.",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("vfiosim-notebooks"), help="made if it is not there"
    )
    options, others = parser.parse_known_args(arguments)
    folder = options.folder
    try:
        came, differ = copy_notebooks(folder)
    except OSError as error:
        print(f"python -m vfiosim lab: {folder} cannot be used ({error.strerror}).", file=sys.stderr)
        return 2
    print(
        f"{folder.resolve()}: {len(came)} files are new, {len(notebooks()) - len(came)} were there and are as they were."
    )
    if differ:
        print(f"Worked on, or of another edition: {', '.join(differ)}. For a fresh copy rename yours, and come again.")
    if find_spec("jupyterlab") is None:
        print(f"JupyterLab is not installed: {HOW_TO_GET_JUPYTERLAB}, then again.", file=sys.stderr)
        return 1
    flags = [
        "--LabApp.news_url=",
        f"--ServerApp.root_dir={folder.resolve()}",
        f"--LabApp.default_url=/doc/tree/{FIRST}",
    ]
    return subprocess.call([sys.executable, "-m", "jupyterlab", *flags, *others])
