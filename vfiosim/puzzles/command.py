"""The commands `python -m vfiosim explore` and `python -m vfiosim puzzles`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any, Final

from ..explore.result import BROKEN, SAFE, UNFINISHED, Result, together
from . import NO_PUZZLES, PUZZLES, Puzzle
from .words import thread_words

USAGE: Final = 2
STATUS: Final = {SAFE: 0, BROKEN: 1, UNFINISHED: 3}
Functions = dict[str, Callable[..., Any]]
_PATIENCE = 1.0  # seconds before progress is shown


def explore_main(argv: list[str] | None = None) -> int:
    """Explore a puzzle. Returns 0 if no schedule goes wrong, 1 if one does, 2 if the command makes no sense, 3 if unfinished."""
    parser = _explore_parser()
    try:
        options = parser.parse_args(argv)
        puzzle = _named(parser, _name_of(parser, options))
        asked = _functions(parser, puzzle, options)
    except SystemExit as stop:  # --help, or a bad command
        return int(stop.code or 0)
    tell = _teller() if sys.stderr.isatty() else None
    try:
        results = list(_explored(puzzle, options, asked, tell))
    except ValueError as error:
        print(f"python -m vfiosim explore: {error}", file=sys.stderr)
        return USAGE
    finally:
        if tell is not None:
            print("\r\033[K", end="", file=sys.stderr)
    if options.json:
        print(json.dumps(together(results).to_json(), indent=1))
        return STATUS[together(results).verdict]
    for patches, result in zip(asked, results, strict=True):
        print(f"{puzzle.called(options.without, patches)}: {puzzle.title}")
        for who, calls in starmap(thread_words, puzzle.programs().items()):
            print(f"  {who}: {', then '.join(calls)}")
        print(result)
    return STATUS[together(results).verdict]


def _explored(puzzle: Puzzle, options: argparse.Namespace, asked: list[Functions], tell: Any) -> Iterator[Result]:
    """The answer to each; all of them have the time that was given."""
    how: dict[str, Any] = {"timeouts": options.timeouts, **({"enough": None} if options.all else {})}
    started = time.monotonic()
    for nth, patches in enumerate(asked):
        left = options.seconds
        if nth and left is not None:
            left = max(0.0, left - (time.monotonic() - started))
        yield puzzle.explore(options.without, patches, seconds=left, progress=tell, **how)


def puzzles_main(argv: list[str] | None = None) -> int:
    """List the puzzles, one a line. Returns 0, or 2 if the command makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m vfiosim puzzles",
        description="The puzzles, one a line: name, title, and in brackets how to break it with `explore NAME`, "
        "or how to mend it where 7.2 itself is broken.",
    )
    try:
        parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    for puzzle in PUZZLES.values():
        print(f"{puzzle.name:4} {puzzle.title} ({_how_to_break(puzzle)})")
    print("Numbers of other hazards, which are no puzzles:")
    for name, why in NO_PUZZLES.items():
        print(f"{name:4} {why}")
    return 0


def _how_to_break(puzzle: Puzzle) -> str:
    ways = [f"--without '{name}'" for name in puzzle.without]
    named = [" ".join(ways)] if puzzle.together else ways
    named += [f"--without '{name}'" for name in puzzle.vast]
    broken = " or ".join([*filter(None, named), *([_faulty(puzzle)] if puzzle.faulty else [])])
    if puzzle.fixes:
        return "broken as it is; --as-fixed mends it" + (f", and then {broken} breaks it" if broken else "")
    return broken


def _faulty(puzzle: Puzzle) -> str:
    return f"--faulty {'|'.join(puzzle.faults)}".strip()


def _explore_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vfiosim explore",
        description="Run the programs of a puzzle in every order that can make a difference, and see what goes wrong.",
        epilog="Exit status: 0 nothing goes wrong in any schedule, 1 something does, 2 for a bad command, 3 not finished and "
        "nothing found. Ctrl-C stops, and what was found is told.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a puzzle, e.g. R5; `python -m vfiosim puzzles` lists them"
    )
    parser.add_argument(
        "--without",
        metavar="WHAT",
        action="append",
        default=[],
        help="a protection to take out, a lock or a check; may be given again",
    )
    parser.add_argument("--as-fixed", action="store_true", help="with the functions that mend it, where 7.2 is broken")
    parser.add_argument(
        "--faulty",
        metavar="WHICH",
        nargs="?",
        const="",
        help="with functions as they would be without the protection, where it is no single lock or check; of several faults "
        "the one of this name, or all one after the other",
    )
    parser.add_argument(
        "--all", action="store_true", help="see everything that goes wrong, even where that takes very many schedules"
    )
    parser.add_argument(
        "--timeouts",
        type=int,
        default=0,
        metavar="N",
        help="let the time of a wait run out at any moment, up to N times in each call; otherwise time stands still",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop after so many seconds, and tell what was found"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    return parser


def _named(parser: argparse.ArgumentParser, name: str) -> Puzzle:
    if name.upper() not in PUZZLES:
        parser.error(f"there is no puzzle {name!r}; there are {', '.join(PUZZLES)}")
    return PUZZLES[name.upper()]


def _name_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The puzzle that is meant, also where its name stands behind `--faulty`."""
    if options.name is None and options.faulty:
        options.name, options.faulty = options.faulty, ""
    if options.name is None:
        parser.error("the following arguments are required: NAME")
    return str(options.name)


def _functions(parser: argparse.ArgumentParser, puzzle: Puzzle, options: argparse.Namespace) -> list[Functions]:
    """What is to take the place of kernel functions; each of these is a question of its own."""
    faulty = options.faulty is not None
    for asked, functions, what in ((options.as_fixed, puzzle.fixes, "fix"), (faulty, puzzle.faulty, "fault")):
        if asked and not functions:
            parser.error(f"{puzzle.name} has no {what}; it is broken by {_how_to_break(puzzle)}")
    if options.as_fixed and faulty:
        parser.error("--as-fixed and --faulty exclude each other")
    if not faulty:
        return [puzzle.fixes if options.as_fixed else {}]
    if options.faulty and options.faulty not in puzzle.faults:
        known = ", ".join(puzzle.faults) or "only one, which has no name"
        parser.error(f"{puzzle.name} has no fault {options.faulty!r}; there is {known}")
    return [puzzle.faults[options.faulty]] if options.faulty else list(puzzle.faults.values()) or [puzzle.faulty]


def _teller() -> Callable[[Any], None]:
    """Tells on standard error how far a search is, once it takes long."""
    started = time.monotonic()

    def tell(tally: Any) -> None:
        seconds = time.monotonic() - started
        if seconds >= _PATIENCE:
            said = f"{tally.schedules:,} schedules, {tally.transitions:,} effects, {seconds:.0f} s; Ctrl-C stops"
            print(f"\r\033[K{said}", end="", file=sys.stderr, flush=True)

    return tell
