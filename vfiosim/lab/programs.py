"""Cell magics for programs of one's own: `%load_ext vfiosim.lab.programs`, then `%%vfio_c` or `%%vfio_python` above a program.

It is run on a machine, as `python -m vfiosim run` does; below the cell stand its output, what the kernel refused, and the player.
In the line of the magic: `--machine lab`, `--kernel v6.6`, `--fail "REQUEST: ERRNO"`, and then the arguments of the program.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..run import CannotRun, run
from ..views import Player, show

NO_COMPILER = "There is no C compiler on this computer (cc): install one, such as gcc, or let CC name it."


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext` calls this."""
    for magic in (vfio_c, vfio_python):
        shell.register_magic_function(magic, "cell")


def vfio_c(line: str, cell: str) -> Player | None:
    """Compile the cell as C and run it on a machine; what is wrong with it the compiler says."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print(NO_COMPILER)
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "program.c"), Path(folder, "program")
        source.write_text(cell, encoding="utf-8")
        words = [compiler, "-Wall", "-g", source.name, "-o", target.name, "-pthread"]
        built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        print(built.stderr, end="")
        return None if built.returncode else _run([str(target)], line)


def vfio_python(line: str, cell: str) -> Player | None:
    """Run the cell on a machine, by an interpreter of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "program.py")
        source.write_text(cell, encoding="utf-8")
        return _run([sys.executable, str(source)], line)


def _run(command: Sequence[str], line: str) -> Player | None:
    parser = argparse.ArgumentParser(prog="%%vfio_c or %%vfio_python", exit_on_error=False, add_help=False)
    parser.add_argument("--machine", default="small")
    parser.add_argument("--kernel", default="v7.2")
    parser.add_argument("--fail", action="append", default=[])
    with tempfile.TemporaryFile() as output:
        try:
            asked, words = parser.parse_known_args(shlex.split(line))
            end = run([*command, *words], **vars(asked), warn=print, stdout=output, stderr=output)
        except (CannotRun, ValueError, OSError, argparse.ArgumentError) as error:
            print(error)
            return None
        output.seek(0)
        print(output.read().decode(errors="replace"), end="")
    for call in end.calls:
        if call.errno:
            print(call)
    for sentence in [*end.not_failed, *end.left_behind, *end.check()]:
        print(sentence)
    if end.returncode:
        print(f"It ended with {end.returncode}.")
    return show(end.trace)
