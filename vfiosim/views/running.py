"""What is known of a running call: the fields of its argument, the last check, the locks that it holds, how it ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..kernel.variants import VARIANTS
from ..trace import MicroStep
from ..uapi import REQUESTS, Member

_CALLED = re.compile(r" calls (?:ioctl\(\d+, (?=\w))?(\w+)")
FITS = 23  # letters of a row of a call, in the least width of its column
OF = "\0"  # between the name of a row and that of its call
MOST = 6  # fields of an argument that are told


@dataclass
class Running:
    """One call: what it was given, as far as it has been copied, and what has become of it."""

    call: int
    name: str = ""  # the request of an ioctl, "close", "" for what is no system call
    base: int = 0  # the address of the argument
    argument: bytearray = field(default_factory=bytearray)
    version: str = ""  # of the kernel that copied it
    checks: list[str] = field(default_factory=list)  # that were passed in this step, or the one that refused
    holds: dict[str, str] = field(default_factory=dict)  # by the lock's path, its name
    result: str = ""

    def follow(self, micro: MicroStep, begins: bool) -> bool:
        """Take one more effect of this call; one that `begins` a step leaves the checks behind that passed in another one.

        Is anything else to be told of it now?
        """
        locks = any(edit.sort == "lock" for edit in micro.edits)
        changed = bool(micro.copied[1] or locks or micro.ended or (begins and self.checks))
        if begins and not micro.refused:
            self.checks = [check for check in self.checks if check.startswith("✕")]
        if not self.name and (found := _CALLED.search(micro.sentence)):
            self.name = found[1]
            changed = True
        self._copy(*micro.copied, micro.kernel_tag)
        if micro.operation in ("refuse_if", "require") and (name := re.search(r"\[(\w+)\]", micro.text)):
            self.checks = [f"✕ {name[1]}"] if micro.refused else [*self.checks, f"✓ {name[1]}"]
            changed = True
        elif micro.refused and micro.operation.startswith("copy_"):  # memory that cannot be read or written
            self.checks, changed = [f"✕ {micro.operation}"], True
        for edit in micro.edits:
            if edit.sort == "lock" and edit.new == micro.thread:
                self.holds[edit.what] = edit.cell
            elif edit.sort == "lock" and edit.old == micro.thread:
                self.holds.pop(edit.what, None)
        self.result = micro.ended.removeprefix("returns ").removeprefix("fails with ")
        return changed

    def _copy(self, address: int, digits: str, version: str) -> None:
        """The first thing that is copied is the argument; what is written into it later changes it."""
        data = bytes.fromhex(digits)
        self.base = self.base or address
        at = address - self.base
        if data and 0 <= at <= len(self.argument):
            self.argument[at : at + len(data)] = data
            self.version = self.version or version

    def _fields(self) -> tuple[Member, ...]:
        """Those of the struct that the request has in this version of the kernel; a function not of its own has the tag of 7.2."""
        if self.name == "VFIO_DEVICE_BIND_IOMMUFD" and self.version in VARIANTS:
            return VARIANTS[self.version].layout.fields()
        request = REQUESTS.get(self.name)
        return request.struct.fields() if request is not None and request.struct is not None else ()

    def row(self, name: str) -> str:
        """What tells a row from those of other calls: each has its own in lines of its own, so that no call has gaps."""
        return f"{name}{OF}{self.name}"

    def rows(self) -> dict[str, str]:
        """Name and text of what is to be told, in the order in which it is shown."""
        told: dict[str, str] = {}
        for one in self._fields():
            data = self.argument[one.offset : one.offset + one.size]
            if one.kind == "int" and len(data) == one.size and not one.name.startswith("_"):
                value = int.from_bytes(data, "little", signed=one.signed)
                told[one.name] = hex(value) if abs(value) >= 1 << 16 else str(value)
        told = dict([*told.items()][:MOST])
        extra = {
            "holds": _and_more([*self.holds.values()][::-1], FITS - len("holds")),
            "check": _and_more(self.checks),
            "result": self.result.partition(":")[0],  # of an oops the sentence tells the rest
        }
        return told | {name: text for name, text in extra.items() if text}


def _and_more(names: Sequence[str], fits: int = FITS) -> str:
    """The first of them, and where that makes no column wider how many more: what a sentence begins with, or the last lock."""
    told = f"{names[0]} +{len(names) - 1}" if len(names) > 1 else "".join(names)
    return told if len(told) <= fits else names[0]


def plain(cell: str) -> str:
    """The name of a row, without the call that has it."""
    return cell.partition(OF)[0]
