"""What the texts of a scenario stand for: variables, device names, numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .expressions import evaluate

_DEVICE: Final = re.compile(r"@([A-Za-z]+\d*[A-Za-z]?)(\.[a-z_]+)?")
_HEX: Final = re.compile(r"hex:[0-9a-fA-F]*")
Step = Mapping[str, Any]


class Scope:
    """The variables of one scenario, and the devices as they were before it began."""

    def __init__(self, topology: Mapping[str, Mapping[str, Any]]) -> None:
        self.variables: dict[str, int] = {}
        self._topology = topology

    def number(self, step: Step, key: str, default: int | None = None) -> int:
        """An argument of a call. Raises ValueError if it is missing and has no default."""
        if key not in step:
            if default is None:
                raise ValueError(f"the call lacks {key!r}")
            return default
        return evaluate(step[key], self.variables)

    def value(self, written: Any) -> int:
        """The number that a value of a recording is now."""
        return evaluate(written, self.variables)

    def text(self, written: str) -> str:
        """A path or a string with the names of devices filled in; "none" for a property that a device has not."""
        return _DEVICE.sub(self._property, written) if "@" in written else written

    def devices(self, text: str) -> list[str]:
        """Which devices a text mentions, in the order of the topology."""
        return [name for name in self._topology if re.search(rf"@{name}\b", text)]

    def _property(self, found: re.Match[str]) -> str:
        device = self._topology.get(found[1])
        if device is None:
            return found[0]
        return str(device.get(found[2][1:] if found[2] else "vfio") or "none")

    def fields(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a struct: numbers, lists of numbers, hex digits for arrays, and buffers as dictionaries."""
        return {name: self._field(value) for name, value in written.items()}

    def _field(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self.buffer(value)
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return [self.value(item) for item in value]
        if isinstance(value, str) and _HEX.fullmatch(value):
            return value[4:]
        return self.value(value)

    def buffer(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """A buffer or a tail with its numbers worked out."""
        result = dict(written)
        for key in ("s32", "u64", "zero", "count", "valid"):
            if key in result:
                result[key] = self.value(result[key])
        if "items" in result:
            result["items"] = [self.fields(item) for item in result["items"]]
        if "s32s" in result:
            result["s32s"] = [self.value(item) for item in result["s32s"]]
        return result
