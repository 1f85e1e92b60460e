"""What is to fail in the calls of a program, as it is asked for on the command line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from ..engine import FaultPlan
from ..machine import Machine
from ..machine.system_calls import SYSTEM_CALLS
from ..uapi import REQUESTS, Errno

_ASKED: Final = re.compile(r"\s*(\w+)\s*(?:#\s*(\d+))?\s*:\s*(\w+)\s*")


@dataclass
class Fault:
    """The `number`-th call of this name, 0 for each of them, is to fail with an errno. `plans` are those that were made."""

    name: str
    number: int
    errno: Errno
    plans: list[FaultPlan] = field(default_factory=list)

    @classmethod
    def asked(cls, text: str) -> Fault:
        """That of a text, "VFIO_DEVICE_ATTACH_IOMMUFD_PT: ENOMEM" or "open#2: EMFILE". Raises ValueError for another one."""
        found = _ASKED.fullmatch(text)
        if found is None:
            raise ValueError(f"what is to fail is written as REQUEST: ERRNO or REQUEST#2: ERRNO, not as {text!r}")
        name, number, errno = found.groups()
        if name not in REQUESTS and name not in SYSTEM_CALLS:
            raise ValueError(f"there is no request and no call {name!r}{_near(name, (*REQUESTS, *SYSTEM_CALLS))}")
        if errno not in Errno.__members__:
            raise ValueError(f"there is no errno {errno!r}{_near(errno, Errno.__members__)}")
        return cls(name, int(number or 0), Errno[errno])

    def told(self) -> str:
        """What did not come of it, in one sentence; "" if something has failed."""
        if any(plan.failed for plan in self.plans):
            return ""
        if not self.plans:
            return (
                f"{self.name} was to fail with {self.errno.name}, and was not called{' so often' * (self.number > 1)}"
            )
        can = sorted({errno.name for plan in self.plans for met in plan.met for errno in met.errnos})
        other = f"; here it can with {', '.join(can)}" if can else ""
        return f"nothing in {self.name} could fail with {self.errno.name}{other}"


class Faults:
    """All that is to fail in one run. Raises ValueError for a text that says nothing."""

    def __init__(self, *texts: str) -> None:
        self.all = [Fault.asked(text) for text in texts]
        self._calls: Counter[str] = Counter()

    def plan(self, machine: Machine, name: str, arguments: tuple[Any, ...]) -> None:
        """A call is about to begin: let fail in it what is asked for."""
        if not self.all:
            return
        names = {name, *(machine.variant.request_names(arguments[1]) if name == "ioctl" else ())}
        self._calls.update(names)
        for fault in self.all:
            if fault.name in names and fault.number in (0, self._calls[fault.name]):
                fault.plans.append(machine.fail_next(None, fault.errno))


def _near(word: str, names: Iterable[str]) -> str:
    """The names that may have been meant: those that have it as a part, else those that look like it."""
    whole = {name for name in names if f"_{word.upper()}_" in f"_{name.upper()}_"}
    near = sorted(whole) or get_close_matches(word.upper(), names) or get_close_matches(word.lower(), names)
    return f"; is it {' or '.join(near)}?" if near else ""
