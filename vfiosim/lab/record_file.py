"""The file that keeps what was answered. Several kernels change it at the same time, and what is in it is never lost."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from shutil import copymode
from typing import IO, Any, NamedTuple

try:
    import fcntl
except ImportError:  # Windows, and Python in a browser: there nothing is locked
    fcntl = None  # type: ignore[assignment]

VERSION = 1
PATIENCE = 5.0  # seconds to wait for another kernel; each needs a few milliseconds


class Answered(NamedTuple):
    """How often a question was answered, how often rightly, and whether the first answer was right."""

    tries: int
    right: int
    first: bool


Answers = dict[str, Answered]


class NewerError(Exception):
    """The file is of another version, and is left alone."""


def read(path: Path) -> tuple[Answers, bool]:
    """What is in the file, and whether that is all of it: what is no record of an answer is left out.

    Raises OSError where it cannot be read, NewerError where another version wrote it.
    """
    _refuse_other_kinds(path)
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, True
    except (ValueError, RecursionError):
        return {}, False
    if not isinstance(data, dict):
        return {}, False
    if data.get("version", VERSION) != VERSION:
        raise NewerError(f"{path} was written by another version of vfiosim, and is left alone")
    if not isinstance(data.get("answers"), dict):
        return {}, False
    found = {name: _answered(name, one) for name, one in data["answers"].items()}
    return {name: one for name, one in found.items() if one is not None}, None not in found.values()


def change(path: Path, how: Callable[[Answers], Answers]) -> tuple[Answers, Path | None]:
    """Change what is in the file, all at once. The answer is what is in it now, and where a damaged one was copied to.

    Raises what `read` raises; then the file is as it was.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    _refuse_other_kinds(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        before, whole = read(target)
        aside = None if whole else _copied_aside(target)
        after = how(before)
        data = {"version": VERSION, "answers": {name: one._asdict() for name, one in after.items()}}
        fresh = target.with_name(f"{target.name}.{os.getpid()}.new")
        with _or_nothing(fresh):
            _write(fresh.open("wb"), json.dumps(data, indent=1).encode())
            with suppress(OSError):
                copymode(target, fresh)
            fresh.replace(target)  # at once, so that no reader sees half of it
    return after, aside


def _refuse_other_kinds(path: Path) -> None:
    """A pipe would be waited for, a device read without end, and both replaced by a file: /dev/null for all programs."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Is a directory" if path.is_dir() else "Is no regular file")


def _answered(name: str, data: Any) -> Answered | None:
    """The record of an answer; None if it is none."""
    try:
        name.encode()
        tries, right, first = data["tries"], data["right"], data["first"]
    except (ValueError, KeyError, TypeError):
        return None
    good = type(tries) is int and type(right) is int and type(first) is bool and 0 <= right <= tries
    return Answered(tries, right, first) if good else None


def _copied_aside(path: Path) -> Path:
    """A copy of a damaged file under a name that no other has, for it may be somebody's only one."""
    for number in count(1):
        aside = path.with_name(f"{path.name}.damaged" + (f".{number}" if number > 1 else ""))
        with suppress(FileExistsError):
            file = aside.open("xb")
            with _or_nothing(aside):
                _write(file, path.read_bytes())
            return aside
    raise AssertionError("there are always more numbers")


@contextmanager
def _or_nothing(path: Path) -> Iterator[None]:
    """If it fails, e.g. because the disk is full, nothing is left behind."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _write(file: IO[bytes], data: bytes) -> None:
    with file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile, where the system has locks. Raises TimeoutError if somebody does not let go."""
    if fcntl is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("ab") as file:
        end = time.monotonic() + PATIENCE
        while not _lock(file):
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, "another program does not let go of it")
            time.sleep(0.005)
        yield


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True
