"""Recordings: files that say what a real kernel answered."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

_LONGEST: Final = 1 << 26  # bytes; the largest there is has a tenth of it
_SUFFIXES: Final = (".json.gz", ".json")


class UnreadableError(Exception):
    """A path that is no recording; the message is one sentence."""


@dataclass(frozen=True)
class Recording:
    """One file: the machine it was made on, and its scenarios with the answers; `config`: switches of its kernel, by name."""

    name: str
    profile: str
    topology: dict[str, dict[str, Any]]
    probe0: dict[str, Any]
    scenarios: list[dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)


def recordings(paths: Iterable[str | Path]) -> Iterator[Recording]:
    """The recordings at these paths; of a folder all those in it, by name. Raises UnreadableError."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield load(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
        if not inside:
            raise UnreadableError(f"{path} holds no recording (no file ends in {' or '.join(_SUFFIXES)}).")
        yield from map(load, inside)


def load(path: Path | Traversable) -> Recording:
    """Read one recording. Raises UnreadableError."""
    try:
        data = path.read_bytes()
        document = json.loads(_unpacked(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, EOFError, zlib.error, RecursionError) as error:
        raise UnreadableError(f"{path} is not a recording: {error}.") from None
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    try:
        return _recording(name, document)
    except (KeyError, TypeError, AttributeError):
        raise UnreadableError(
            f"{path} is not a recording: it lacks the machine, the scenarios or their results."
        ) from None


def _unpacked(data: bytes) -> bytes:
    """What was packed. Raises ValueError where that is far more than any recording has."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        plain = packed.read(_LONGEST + 1)
    if len(plain) > _LONGEST:
        raise ValueError(f"it holds more than {_LONGEST >> 20} MiB")
    return plain


def _recording(name: str, document: Any) -> Recording:
    scenarios = list(document["scenarios"])
    for scenario in scenarios:
        if len(scenario["steps"]) != len(scenario["result"]["steps"]) or not isinstance(scenario["name"], str):
            raise TypeError
        if not all(isinstance(step["call"], str) for step in scenario["steps"]):
            raise TypeError
    machine = dict(document["topology"]), dict(document["probe0"])
    return Recording(name, str(document["profile"]), *machine, scenarios, dict(document.get("config", {})))
