"""The command line: `python -m vfiosim COMMAND …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence


def _conformance(arguments: Sequence[str]) -> int:
    from .conformance import main as conformance

    return conformance(list(arguments))


def _explore(arguments: Sequence[str]) -> int:
    from .puzzles.command import explore_main

    return explore_main(list(arguments))


def _puzzles(arguments: Sequence[str]) -> int:
    from .puzzles.command import puzzles_main

    return puzzles_main(list(arguments))


def _gallery(arguments: Sequence[str]) -> int:
    from .gallery import main as gallery

    return gallery(list(arguments))


def _explain(arguments: Sequence[str]) -> int:
    from .explain import main as explain

    return explain(list(arguments))


def _answers(arguments: Sequence[str]) -> int:
    from .answers import main as answers

    return answers(list(arguments))


def _grade(arguments: Sequence[str]) -> int:
    from .grade import main as grade

    return grade(list(arguments))


def _lab(arguments: Sequence[str]) -> int:
    from .open_lab import main as lab

    return lab(list(arguments))


def _doctor(arguments: Sequence[str]) -> int:
    from .doctor import main as doctor

    return doctor(list(arguments))


def _poster(arguments: Sequence[str]) -> int:
    from .poster import main as poster

    return poster(list(arguments))


def _run(arguments: Sequence[str]) -> int:
    from .run_command import main as run

    return run(list(arguments))


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "lab": (_lab, "copy the notebooks into a folder of your own, and open them in JupyterLab"),
    "doctor": (_doctor, "say what works on this computer, and how to get what does not"),
    "conformance": (_conformance, "compare the simulator with recordings of a real kernel"),
    "explore": (
        _explore,
        "run a puzzle in every order that can make a difference, e.g. explore R1 --without group_lock",
    ),
    "run": (_run, "run a program of your own on a simulated machine, e.g. run --check -- ./my_vmm"),
    "explain": (_explain, "tell what an errno of a request means, e.g. explain VFIO_DEVICE_BIND_IOMMUFD EINVAL"),
    "puzzles": (_puzzles, "list the puzzles, one a line"),
    "answers": (_answers, "for teachers: the questions of a lesson with all answers, right and wrong"),
    "grade": (_grade, "tell who solved what, from a folder with the saved progress of students"),
    "poster": (_poster, "write the map of all kinds, fields, locks and holders on one sheet, as SVG and PDF"),
    "gallery": (_gallery, "write the museum as pages that work offline, or the pictures of the README"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; the answer is the exit status: 0 good, 1 something is wrong, 2 wrong usage, 3 not finished."""
    if arguments and arguments[0] in COMMANDS:
        try:
            return COMMANDS[arguments[0]][0](arguments[1:])
        except KeyboardInterrupt:  # a command that has something to tell catches it itself
            print(f"python -m vfiosim {arguments[0]}: stopped", file=sys.stderr)
            return 3
        except BrokenPipeError:  # who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 3
    asked = bool(arguments) and arguments[0] in ("-h", "--help", "help")
    lines = [f"There is no command {arguments[0]!r}."] if arguments and not asked else []
    lines += ["usage: python -m vfiosim COMMAND …", ""]
    lines += [f"  {name:14}{what}; {name} --help tells more" for name, (_, what) in COMMANDS.items()]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2
