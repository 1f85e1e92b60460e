"""`python -m vfiosim run [options] -- PROGRAM …`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .run.filter import AUTO, WAYS, CannotRun, abi
from .topology import TOPOLOGIES

if TYPE_CHECKING:
    from .run import ProgramRun

LATE = 124  # the exit status of timeout(1)
LEFT = 70  # the exit status where something is left behind or broken, with --check
NOT_FOUND, NOT_EXECUTABLE, CANNOT = 127, 126, 3


def main(arguments: Sequence[str]) -> int:
    """The program's own exit status, 128 and the signal where one killed it; 3 where programs cannot be run here."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.program[:1] == ["--"]:
        del asked.program[0]
    if not asked.program:
        parser.error("there is no program to run")
    for written in filter(None, (asked.page, asked.save)):
        try:
            Path(written).touch()  # told before the program runs, not when its run would be lost
        except OSError as error:
            parser.error(f"{written} cannot be written: {error.strerror}")
    try:
        result = _ran(asked)
    except CannotRun as error:
        print(f"vfiosim: {error}", file=sys.stderr)
        return CANNOT
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"vfiosim: {asked.program[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return _ending(result, asked)


def _ran(asked: argparse.Namespace) -> ProgramRun:
    """Run the program. SIGINT is its own, which has it, too; SIGTERM is passed on, so that it may tidy up. Raises as `run` does."""
    abi()
    from .run import run  # not there on every system

    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)

    def begun(end: Callable[..., None]) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: end(number))

    try:
        return run(
            asked.program,
            machine=asked.machine,
            kernel=asked.kernel,
            fail=asked.fail,
            seed=asked.seed,
            save=asked.save,
            trace=asked.page is not None or asked.save is not None,
            way=asked.way,
            timeout=asked.timeout,
            begun=begun,
            tell=None if asked.quiet else lambda told: print(told, file=sys.stderr, flush=True),
            preexec_fn=lambda: signal.signal(signal.SIGINT, before[0]),
        )
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def _ending(result: ProgramRun, asked: argparse.Namespace) -> int:
    for sentence in result.not_failed:
        print(f"vfiosim: {sentence}", file=sys.stderr)
    if asked.page is not None:
        try:
            _write_page(result, Path(asked.page), " ".join(asked.program))
        except OSError as error:
            print(f"vfiosim: {asked.page} cannot be written: {error.strerror}", file=sys.stderr)
    status = result.returncode if result.returncode >= 0 else 128 - result.returncode
    if result.timed_out:
        print(f"vfiosim: the program was killed after {asked.timeout:g} seconds", file=sys.stderr)
        status = LATE
    if not asked.check:
        return status
    wrong = [*result.left_behind, *result.check()]
    if result.not_failed:
        wrong.append(f"what was to fail did not, so this run does not show what the program does then (status {LEFT})")
    for sentence in wrong or ["nothing is left behind, no invariant is broken"]:
        print(f"vfiosim: {sentence}", file=sys.stderr)
    return LEFT if wrong else status


def _write_page(result: ProgramRun, path: Path, title: str) -> None:
    """The player on a page of its own."""
    from .gallery import PAGE  # what draws is loaded where somebody wants to see it
    from .views import Player
    from .views.graph import OF_PROGRAMS

    body = f"<h1>{escape(title)}</h1>{Player(result.trace, step=result.telling_step, hide=OF_PROGRAMS).html()}"
    path.write_text(PAGE.format(title=escape(title), body=body), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vfiosim run",
        usage="%(prog)s [options] -- PROGRAM [ARGUMENT …]",
        description="Run a program, unmodified, with /dev/vfio, /dev/iommu, /dev/kvm and /sys of a simulated machine.",
        epilog="It is no sandbox: whatever else the program does it does to this computer.",
    )
    parser.add_argument("--machine", choices=sorted(TOPOLOGIES), default="small", help="which devices there are")
    parser.add_argument("--kernel", default="v7.2", metavar="VERSION", help="whose rules hold: v7.2, v6.6, v5 or v5r")
    parser.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="REQUEST: ERRNO",
        help="let a request or call fail where it can; REQUEST#2: the second one alone",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"exit with {LEFT} if something is left behind, an invariant is broken, or what was to fail did not",
    )
    parser.add_argument("--page", metavar="FILE", help="write a page that shows the run step by step")
    parser.add_argument(
        "--save", metavar="FILE", help="keep the run as a recording, which `conformance` and `replay` read"
    )
    parser.add_argument(
        "--seed", type=int, help="let the calls of threads take turns in an order that this number chooses"
    )
    parser.add_argument(
        "--way",
        choices=WAYS,
        default=AUTO,
        help="how the program finds them: in a mount namespace of its own, where opens cost next to nothing (where this computer "
        "lets none be, paths are redirected, and whoever has asked for it is told); or each path that it opens or asks about is "
        "looked at; auto, the default, is the first where there can be one and no seed is given",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=f"kill the program, and all that it has started, after so long, and exit with {LATE}",
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the calls")
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser  # fmt: skip
