"""The command line: `python -m vfiosim COMMAND …`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def _conformance(arguments: Sequence[str]) -> int:
    from .conformance import main as conformance

    return conformance(list(arguments))


def _fuzz(arguments: Sequence[str]) -> int:
    from .fuzz import main as fuzz

    return fuzz(list(arguments))


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "conformance": (_conformance, "compare the simulator with recordings of a real kernel"),
    "fuzz": (_fuzz, "throw a million calls at the simulator, most of them wrong"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; the answer is the exit status: 0 good, 1 differences, 2 wrong usage."""
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]][0](arguments[1:])
    asked = bool(arguments) and arguments[0] in ("-h", "--help", "help")
    lines = ["usage: python -m vfiosim COMMAND …", ""]
    lines += [f"  {name:14}{what}; {name} --help tells more" for name, (_, what) in COMMANDS.items()]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2
