"""The command line: `python -m vfiosim COMMAND …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper

from .uapi import KernelError

COMMANDS: dict[str, tuple[str, str]] = {  # the module and its function, and what it does
    "lab": ("open_lab:main", "copy the notebooks into a folder of your own, and open them in JupyterLab"),
    "doctor": ("doctor:main", "say what works on this computer, and how to get what does not"),
    "conformance": ("conformance:main", "compare the simulator with recordings of a real kernel"),
    "explore": (
        "puzzles.command:explore_main",
        "run a puzzle in every order that can make a difference, e.g. explore R1 --without group_lock",
    ),
    "run": ("run_command:main", "run a program of your own on a simulated machine, e.g. run --check -- ./my_vmm"),
    "explain": ("explain:main", "tell what an errno of a request means, e.g. explain VFIO_DEVICE_BIND_IOMMUFD EINVAL"),
    "puzzles": ("puzzles.command:puzzles_main", "list the puzzles, one a line"),
    "answers": ("answers:main", "for teachers: the questions of a lesson with all answers, right and wrong"),
    "grade": ("grade:main", "tell who solved what, from a folder with the saved progress of students"),
    "poster": ("poster:main", "write the map of all kinds, fields, locks and holders on one sheet, as SVG and PDF"),
    "gallery": ("gallery:main", "write the museum as pages that work offline, or the pictures of the README"),
}


def _function(command: str) -> Callable[[list[str]], int]:
    """What does it. Only its own module is loaded, so that no command waits for what another one needs."""
    module, _, name = COMMANDS[command][0].partition(":")
    function: Callable[[list[str]], int] = getattr(import_module(f".{module}", __package__), name)
    return function


def _prepare_output() -> None:
    """What a console's code page has no letter for is written with its number; where there is no output at all, nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, for the process has it to its end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Nobody reads it any more: what is left of it when the process ends goes nowhere, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        return _function(arguments[0])(list(arguments[1:]))
    asked = bool(arguments) and arguments[0] in ("-h", "--help", "help")
    lines = [f"There is no command {arguments[0]!r}."] if arguments and not asked else []
    lines += ["usage: python -m vfiosim COMMAND …", ""]
    lines += [f"  {name:14}{what}; {name} --help tells more" for name, (_, what) in COMMANDS.items()]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def main(arguments: Sequence[str]) -> int:
    """Run a command; the answer is the exit status: 0 good, 1 something is wrong, 2 wrong usage, 3 not finished, 130 Ctrl-C."""
    command = " ".join(["python -m vfiosim", *arguments[:1]])
    _prepare_output()
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # here, where it can be told that it fails
    except KeyboardInterrupt:  # a command that has something to tell catches it itself
        print(f"{command}: stopped", file=sys.stderr)
        return 130  # what a shell calls the end by that signal
    except BrokenPipeError:  # who reads has seen enough
        _drop_output()
    except KernelError:  # of a simulated machine, so a mistake of ours
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{command}: {where}{error.strerror}.", file=sys.stderr)
        if not where:
            _drop_output()
    return 3
