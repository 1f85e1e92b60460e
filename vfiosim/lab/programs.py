"""Cell magics for programs of one's own: `%load_ext vfiosim.lab.programs`, then `%%vfio_c` or `%%vfio_python` above a program.

It is run on a machine, as `python -m vfiosim run` does; below the cell stand its output, its calls, and the player.
In the line of the magic: `--machine lab`, `--kernel v6.6`, `--fail "REQUEST: ERRNO"`, and then the arguments of the program.
`%%vfio_c --keep card.h` runs nothing: later cells may `#include "card.h"`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, Final

from ..run.filter import CannotRun, abi
from ..views import Player, show
from ..views.graph import OF_PROGRAMS

if TYPE_CHECKING:
    from ..run import ProgramRun

NO_COMPILER: Final = "There is no C compiler on this computer (cc): install one, such as gcc, or let CC name it."
MOST: Final = 24  # calls that are all told; of more only the refused ones are
ended: list[ProgramRun] = []  # what came of the last program that was run


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext` calls this."""
    for magic in (vfio_c, vfio_python):
        shell.register_magic_function(magic, "cell")


def vfio_c(line: str, cell: str) -> Player | None:
    """Compile the cell as C and run it on a machine; what is wrong with it the compiler says."""
    with _told(), tempfile.TemporaryDirectory() as folder:
        asked, words = _asked(line)
        source = _kept() / asked.keep if asked.keep else Path(folder, "vmm.c")
        source.write_text("\n" + cell, encoding="utf-8")  # a line is the one of the cell, whose first is the magic
        program = Path(folder, "vmm")
        if _compiled(source, program, bool(asked.keep)):
            return None if asked.keep else _run([str(program), *words], asked)
        ended.clear()  # what was last is not what stands in the cell
    return None


def vfio_python(line: str, cell: str) -> Player | None:
    """Run the cell on a machine, by an interpreter of its own."""
    with _told(), tempfile.TemporaryDirectory() as folder:
        asked, words = _asked(line)
        source = Path(folder, "program.py")
        source.write_text(cell, encoding="utf-8")
        return _run([sys.executable, str(source), *words], asked)
    return None


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be is told in one sentence."""
    try:
        yield
    except (CannotRun, ValueError, OSError, argparse.ArgumentError) as error:
        print(error)


def _asked(line: str) -> tuple[argparse.Namespace, list[str]]:
    """The options of a magic, and the arguments of the program. Raises CannotRun where programs do not run at all."""
    abi()
    parser = argparse.ArgumentParser(prog="%%vfio_c or %%vfio_python", exit_on_error=False, add_help=False)
    parser.add_argument("--machine", default="small")
    parser.add_argument("--kernel", default="v7.2")
    parser.add_argument("--fail", action="append", default=[])
    parser.add_argument("--keep", type=os.path.basename)
    return parser.parse_known_args(shlex.split(line))


@cache
def _kept() -> Path:
    """The folder of what is kept, as long as this kernel runs."""
    folder = tempfile.TemporaryDirectory()
    _folders.append(folder)
    return Path(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _compiled(source: Path, program: Path, keep: bool) -> bool:
    """Is it a program, or a part of one? If not, the compiler has told why."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print(NO_COMPILER)
        return False
    how = ["-fsyntax-only", "-x", "c"] if keep else ["-g", "-pthread", "-o", str(program)]
    words = [compiler, "-Wall", "-Wno-unused-function", f"-I{_kept()}", *how, source.name]
    built = subprocess.run(words, cwd=source.parent, capture_output=True, text=True, check=False)
    print(built.stderr, end="")
    if keep and not built.returncode:
        print(f"{source.name} is kept.")
    return built.returncode == 0


def _run(command: Sequence[str], asked: argparse.Namespace) -> Player:
    from ..run import run  # not there in a browser

    options = {"machine": asked.machine, "kernel": asked.kernel, "fail": asked.fail}
    with tempfile.TemporaryFile() as output:
        end = run(command, **options, warn=print, stdout=output, stderr=output)
        output.seek(0)
        print(output.read().decode(errors="replace"), end="")
    ended[:] = [end]
    print(*_lines(end), sep="\n")
    return show(end.trace, step=end.telling_step, hide=OF_PROGRAMS)


def _lines(end: ProgramRun) -> Iterator[str]:
    """What is told of a run."""
    all_of_them = len(end.calls) <= MOST
    yield from (str(call) for call in end.calls if all_of_them or call.errno)
    if not all_of_them:
        yield f"{len(end.calls)} calls; told are those that were refused."
    yield from (*end.not_failed, *end.left_behind, *end.check())
    yield f"It ended with {end.returncode}." if end.returncode >= 0 else f"It ended by {Signals(-end.returncode).name}."
