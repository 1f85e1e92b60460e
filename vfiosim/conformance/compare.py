"""Does an answer of the simulator say the same as the recorded one?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_PARTS: Final = ("state", "ret", "errno", "num", "out")
Result = Mapping[str, Any]


def same(recorded: Result, got: Result) -> bool:
    """Is `got` one of the answers that were recorded?"""
    if got == recorded:
        return True
    seen = normal(got)
    return any(normal(answer) == seen for answer in (recorded, *recorded.get("unstable", ())))


def normal(result: Result) -> dict[str, Any]:
    """The parts of a result that are compared, without those that are empty."""
    return {part: result[part] for part in _PARTS if result.get(part) not in (None, {})}


def same_ending(recorded: Result, got: Result) -> bool:
    """Is what was left after a scenario the same?"""
    return ending_of(recorded) == ending_of(got)


def ending_of(result: Result) -> dict[str, Any]:
    """What a recording says about the end of a scenario."""
    return {part: result[part] for part in ("probe", "kvm_leaked", "stuck_procs") if result.get(part)}
