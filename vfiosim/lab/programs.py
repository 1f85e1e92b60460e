"""Cell magics for programs of one's own: `%load_ext vfiosim.lab.programs`, then `%%vfio_c` or `%%vfio_python` above a program.

It is run on a machine, as `python -m vfiosim run` does; below the cell stand its output, its calls, and the player.
In the line of the magic: `--machine lab`, `--kernel v6.6`, `--fail "REQUEST: ERRNO"`, `--timeout 300` (seconds, 60 without it), and
then the arguments of the program. Interrupting the cell (■) stops the program alone: what it has done till then is shown.
`%%vfio_c --keep card.h` runs nothing: later cells may `#include "card.h"`. `--task NAME`: Check of this task looks at the run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Timer, current_thread, main_thread
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, Final

from ..run.filter import CannotRun, abi
from ..views import Player, show
from ..views.at_once import running_cell
from ..views.graph import OF_PROGRAMS

if TYPE_CHECKING:
    from ..run import ProgramRun

NO_COMPILER: Final = "There is no C compiler on this computer (cc): install one, such as gcc, or let CC name it."
LIMIT: Final = 60.0  # seconds; a program that runs for longer is stopped
PATIENCE: Final = 5.0  # seconds, after which a cell says that its program still runs
ENDLESS: Final = 5000  # calls; a program that makes more is stopped
DRAWN: Final = 250  # calls; of a program that makes more the picture would take minutes
TOO_MANY: Final = "These are too many calls for a picture: up to {} are drawn."
MOST: Final = 24  # calls that are all told; of more only the refused ones are
ended: dict[str, Ran] = {}  # by the name of a task its run that was last; "" is for those of none


@dataclass(frozen=True)
class Ran:
    """A program that was run, and what it printed; `unfailed`: once more, for a task where something was to fail and it noticed."""

    run: ProgramRun
    printed: str
    unfailed: ProgramRun | None = None


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
    return None


def vfio_python(line: str, cell: str) -> Player | None:
    """Run the cell on a machine, by an interpreter of its own; what is no Python is not run."""
    with _told(), tempfile.TemporaryDirectory() as folder:
        asked, words = _asked(line)
        source = Path(folder, "program.py")
        source.write_text(cell := "\n" + cell, encoding="utf-8")  # as above
        compile(cell, source.name, "exec")
        return _run([sys.executable, str(source), *words], asked)
    return None


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be is told in one sentence."""
    try:
        yield
    except SyntaxError as error:
        print(*format_exception_only(error), sep="", end="")
    except (CannotRun, ValueError, OSError, argparse.ArgumentError) as error:
        print(error)


def _asked(line: str) -> tuple[argparse.Namespace, list[str]]:
    """The options of a magic, and the arguments of the program. Raises CannotRun where programs do not run at all."""
    abi()
    parser = argparse.ArgumentParser(prog="%%vfio_c or %%vfio_python", exit_on_error=False, add_help=False)
    parser.add_argument("--machine", default="small")
    parser.add_argument("--kernel", default="v7.2")
    parser.add_argument("--fail", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=LIMIT)
    parser.add_argument("--keep", type=os.path.basename)
    parser.add_argument("--task", default="")
    others = {**ended}
    ended.clear()  # what was last is not what stands in the cell, whatever its line should have said
    asked, words = parser.parse_known_args(shlex.split(line))
    ended.update({task: ran for task, ran in others.items() if task != asked.task})
    return asked, words


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


def _run(command: Sequence[str], asked: argparse.Namespace) -> Player | None:
    end, printed, why = _once(command, asked, fail=asked.fail, warn=print)
    print(printed, end="")
    noticed = asked.task and asked.fail and end.returncode > 0
    ended[asked.task] = Ran(end, printed, _once(command, asked)[0] if noticed else None)
    if end.timed_out and not why:
        why = f"It was stopped after {asked.timeout:g} seconds; --timeout gives it more."
    few = len(end.calls) <= DRAWN
    log = [*_lines(end), *((line, 0) for line in (why, "" if few else TOO_MANY.format(DRAWN)) if line)]
    if not few or not running_cell():
        print(*(line for line, _ in log), sep="\n")
    return show(end.trace, step=end.telling_step, hide=OF_PROGRAMS, log=log) if few else None


def _once(command: Sequence[str], asked: argparse.Namespace, **options: Any) -> tuple[ProgramRun, str, str]:
    """Run it; the answer is what came of it, what it has printed, and why it was stopped, if it was."""
    from ..run import run  # not there in a browser

    options = {"machine": asked.machine, "kernel": asked.kernel, "timeout": asked.timeout, **options}
    with tempfile.TemporaryFile() as output, _Watch() as watch:
        end = run(command, **options, stdout=output, stderr=output, begun=watch.begun, tell=watch.tell)
        output.seek(0)
        return end, output.read().decode(errors="replace"), watch.why


class _Watch:
    """Says that a program still runs, and stops it when the cell is interrupted, or at too many calls; `why`, in a sentence."""

    def __init__(self) -> None:
        self.why, self._calls = "", 0
        self._end: Callable[..., None] = lambda: None
        self._timer = Timer(PATIENCE, print, ("The program still runs. ■ (interrupt the kernel) stops it.",))

    def __enter__(self) -> _Watch:
        self._before = signal.getsignal(signal.SIGINT)
        return self

    def begun(self, end: Callable[..., None]) -> None:
        """The program runs, and this ends it."""
        self._end = end
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, lambda *_: self._stop("It was interrupted."))
        self._timer.start()

    def tell(self, _: object) -> None:
        """It has made a call."""
        self._calls += 1
        if self._calls == ENDLESS:
            self._stop(f"It was stopped after {ENDLESS} calls.")

    def _stop(self, why: str) -> None:
        self.why = why
        self._end()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, self._before)


def _lines(end: ProgramRun) -> Iterator[tuple[str, int]]:
    """What is told of a run, and the step that shows it, 0 where none does."""
    all_of_them = len(end.calls) <= MOST
    steps = end.steps_told() if len(end.calls) <= DRAWN else [0] * len(end.calls)
    yield from ((str(call), step) for call, step in zip(end.calls, steps, strict=True) if all_of_them or call.errno)
    said = [] if all_of_them else [f"{len(end.calls)} calls; told are those that were refused."]
    said += [*end.not_failed, *([*end.left_behind, *end.check()] or ["Nothing is left behind."])]
    signalled = f"It ended by {signal.Signals(-end.returncode).name}." if end.returncode < 0 else ""
    yield from ((line, 0) for line in (*said, signalled or f"It ended with {end.returncode}."))
