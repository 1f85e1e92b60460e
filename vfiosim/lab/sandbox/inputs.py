"""Fields for what is no plain number: addresses of memory that is made for the call, bytes, text."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from ...kernel.config import Config
from ..fields import LabelledField, NumberField

MEMORY = re.compile(r"\[\s*(int|zeros|text)?\s*(.*?)\s*\]", re.DOTALL)
ADDRESS_TIP = (
    "an address, or memory that is made for this call: [zeros 4096], [int 3], [text nic] or bytes such as [03 00 00 00]"
)
LARGEST = 1 << 24  # bytes that a reader may ask for at once


def bytes_of(text: str) -> bytes:
    """Bytes as people write them: "03 00 00 00", "0300", "0x03,0x00". Raises ValueError."""
    digits = re.sub(r"0[xX]|[\s,:]", "", text)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", digits):
        raise ValueError("bytes are two hexadecimal digits each, like 03 00 ff")
    return bytes.fromhex(digits)


def memory_of(text: str) -> bytes | None:
    """The content of the memory that a reader asks for in brackets; None for a text without. Raises ValueError."""
    found = MEMORY.fullmatch(text.strip())
    if found is None:
        return None
    sort, value = found.groups()
    if sort is None:
        made = bytes_of(value)
    elif sort == "text":
        made = value.encode() + b"\0"
    else:
        if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})", value):
            raise ValueError(f"[{sort} …] takes a number")
        number = int(value, 0)
        if sort == "zeros" and not 0 < number <= LARGEST:
            raise ValueError(f"[zeros …] makes 1 to {LARGEST} bytes")
        if sort == "int" and not -(1 << 31) <= number < 1 << 32:
            raise ValueError("[int …] has 32 bits")
        made = bytes(number) if sort == "zeros" else (number & 0xFFFFFFFF).to_bytes(4, "little")
    if not made:
        raise ValueError("memory of no bytes has no address; write a number, or [zeros 4096]")
    return made


class AddressField(NumberField):
    """A field for an address; in brackets stands what is to be at it, and `memory` is then that."""

    sort = "wide"

    def __init__(self, label: str, value: int | str = 0) -> None:
        self.memory: bytes | None = None
        super().__init__(label, value, low=0, high=(1 << 64) - 1, tip=f"{label}: {ADDRESS_TIP}")

    def unfinished(self, typed: str) -> bool:
        return super().unfinished(typed) or (typed.startswith("[") and "]" not in typed)

    def meant(self, typed: str) -> int:
        """The address; 0 where `memory` is to be made."""
        self.memory = memory_of(typed)
        return super().meant(typed) if self.memory is None else 0


class WideField(LabelledField):
    """A field with room for a text; `wrong` says what is wrong with one, "" if nothing is."""

    sort = "wide"

    def __init__(
        self,
        label: str,
        value: str = "",
        *,
        tip: str = "",
        choices: Collection[str] | None = None,
        wrong: Callable[[str], str] = lambda text: "",
    ) -> None:
        self._wrong = wrong
        super().__init__(label, value, tip, choices)


class TextField(WideField):
    """A field for a text; with choices it waits for more as long as one of them begins so."""

    def unfinished(self, typed: str) -> bool:
        options = getattr(self.text, "options", ())
        return not typed or (typed not in options and any(option.startswith(typed) for option in options))

    def meant(self, typed: str) -> str:
        if wrong := self._wrong(typed.strip()) if typed.strip() else "something is missing here":
            raise ValueError(wrong)
        return typed


class ConfigField(WideField):
    """A field for how a kernel was built and started, as in VFIO_GROUP=n; empty for as recorded."""

    def unfinished(self, typed: str) -> bool:
        return bool(typed) and typed.rsplit(maxsplit=1)[-1].partition("=")[2] == ""

    def read(self) -> Config:
        """The configuration. Raises BadInput, and says why beside the field."""
        try:
            found = Config.of(str(self.text.value))
        except ValueError as problem:
            raise self.refusal(str(problem)) from None
        self.complain("")
        return found


class BytesField(WideField):
    """A field for bytes, two hexadecimal digits each; it may be empty."""

    def unfinished(self, typed: str) -> bool:
        return (
            len(re.sub(r"0[xX]|[\s,:]", "", typed)) % 2 == 1 and re.fullmatch(r"[0-9a-fA-FxX\s,:]*", typed) is not None
        )

    def meant(self, typed: str) -> bytes:
        return bytes_of(typed)


class NumbersField(WideField):
    """A field for several numbers, e.g. descriptors, each of so many bytes; what it reads is the bits of each."""

    def __init__(self, label: str, value: str = "", *, size: int = 4, **looks: Any) -> None:
        self._size = size
        super().__init__(label, value, **looks)

    def unfinished(self, typed: str) -> bool:
        return re.split(r"[\s,]+", typed)[-1].lower() in ("", "-", "0x", "-0x")

    def meant(self, typed: str) -> tuple[int, ...]:
        found, size = [], self._size
        for word in re.split(r"[\s,]+", typed.strip()):
            if not word:
                continue
            if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})", word):
                raise ValueError(f"“{word[:40]}” is no number; write some like 3, 4")
            number = int(word, 16 if "x" in word.lower() else 10)
            if not -(1 << 8 * size - 1) <= number < 1 << 8 * size:
                raise ValueError(f"{number} does not fit into {8 * size} bits")
            found.append(number & (1 << 8 * size) - 1)
        return tuple(found)
