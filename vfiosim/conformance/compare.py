"""Does an answer of the simulator say the same as the recorded one?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .abi import argument_kind, is_request

# What belongs to the recorded machine and not to VFIO: "struct.field", "struct.*field" for a buffer, or "call.field".
MACHINE: Final[Mapping[str, str]] = {}

_PARTS: Final = ("state", "ret", "errno", "num", "out")
Result = Mapping[str, Any]


def same(step: Mapping[str, Any], recorded: Result, got: Result) -> bool:
    """Is `got` one of the answers that were recorded?"""
    if got == recorded:
        return True
    seen = normal(step, got)
    return any(normal(step, answer) == seen for answer in (recorded, *recorded.get("unstable", ())))


def normal(step: Mapping[str, Any], result: Result) -> dict[str, Any]:
    """The parts of a result that are compared, without those of `MACHINE` and those that are empty."""
    parts = {part: result[part] for part in _PARTS if result.get(part) is not None}
    out = {name: value for name, value in parts.pop("out", {}).items() if f"{_kind(step)}.{name}" not in MACHINE}
    return parts | {"out": out} if out else parts


def same_ending(recorded: Result, got: Result) -> bool:
    """Is what was left after a scenario the same?"""
    return ending_of(recorded) == ending_of(got)


def ending_of(result: Result) -> dict[str, Any]:
    """What a recording says about the end of a scenario."""
    return {part: result[part] for part in ("probe", "kvm_leaked", "stuck_procs") if result.get(part)}


def _kind(step: Mapping[str, Any]) -> str:
    """What the names of `MACHINE` begin with: the struct of an ioctl, or the call."""
    request = step.get("request")
    if step["call"] == "ioctl":
        return str(step.get("argtype") or (argument_kind(str(request)) if is_request(request) else None))
    return str(step["call"])
