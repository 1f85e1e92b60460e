"""The command `python -m vfiosim conformance`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn

from .check import check
from .recordings import UnreadableError, recordings
from .report import as_data, in_words, total


class _UsageError(Exception):
    """The command line makes no sense; the message is one sentence."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message[:1].upper()}{message[1:]} (see --help).")


def main(argv: list[str] | None = None) -> int:
    """Compare the simulator with recordings. Returns 0 if all is the same, 1 if not, 2 if the command makes no sense."""
    try:
        return _run(_parser().parse_args(argv))
    except (_UsageError, UnreadableError) as error:
        print(f"python -m vfiosim conformance: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m vfiosim conformance",
        description="Make the recorded calls on the simulator and compare its answers with those of the real kernel.",
        epilog="Exit status: 0 all the same and nothing unsupported, 1 otherwise, 2 for a bad command or file.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a recording (.json or .json.gz) or a folder of them")
    parser.add_argument("--only", metavar="PREFIX,…", default="", help="only scenarios whose name begins like this")
    parser.add_argument("--topics", action="store_true", help="count by topic, too")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    return parser


def _run(options: argparse.Namespace) -> int:
    only = tuple(prefix.strip() for prefix in options.only.split(",") if prefix.strip()) or ("",)
    files = [check(recording, only) for recording in recordings(options.paths)]
    tally = total(file.tally for file in files)
    if not tally.scenarios:
        raise _UsageError(f"No scenario begins with {' or '.join(only) or 'anything'}.")
    if options.json:
        print(json.dumps(as_data(files), indent=1))
    else:
        print("\n".join(in_words(files, options.topics)))
    return 1 if tally.differ or tally.unsupported else 0
