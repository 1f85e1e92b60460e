"""What an errno of a request means: the checks that answer with it, in their order, and the smallest program that meets each.

`explain("VFIO_DEVICE_BIND_IOMMUFD", "EINVAL")` in a notebook, `python -m vfiosim explain …` in a terminal. Everything is told by
the simulator and by recorded calls of a real Linux 7.2; nothing is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import uapi
from .assets import asset
from .conformance import evidence
from .conformance.recordings import recordings
from .conformance.refusals import KnownRefusal, read, refusals, write
from .uapi import REQUESTS, Errno

if TYPE_CHECKING:
    from .views import Player

_KEPT = "refusals.json.gz"
_TYPES = {0x3B: "VFIO and iommufd", 0xAE: "KVM"}
_DIRECTIONS = (
    "no argument",
    "an argument that is written",
    "an argument that is read",
    "an argument that goes both ways",
)
_FILES = {
    "container": "a container (/dev/vfio/vfio)",
    "group": "a group (/dev/vfio/N)",
    "device": "a device (/dev/vfio/devices/vfioN)",
    "migration": "a migration file",
    "iommufd": "an iommufd (/dev/iommu)",
    "kvm": "/dev/kvm",
    "vm": "a VM",
    "kvm-device": "a kvm-vfio device",
}


class Explanation:
    """What has been found out about a question, as text; `refusals` are the ways to be refused that it names, in their order."""

    def __init__(self, head: Sequence[str], found: Sequence[KnownRefusal]) -> None:
        self.head = tuple(head)
        self.refusals = tuple(found)

    def __str__(self) -> str:
        return "\n".join(
            (*self.head, *(line for number, each in enumerate(self.refusals, 1) for line in _told(number, each)))
        )

    __repr__ = __str__

    def show(self, number: int = 1) -> Player:
        """The steps of the smallest program that is refused in this way, counted from 1. Raises IndexError where there is none."""
        from .views import Player

        if not 0 < number <= len(self.refusals):
            raise IndexError(f"there is no refusal {number}; there are {len(self.refusals)}")
        machine = (program := self.refusals[number - 1].program).boot()
        program.run(machine)
        refused = [step.index + 1 for step in machine.trace if step.refused]
        return Player(machine.trace, step=refused[-1])


def explain(asked: str | int, errno: str | int = "") -> Explanation:
    """Why a request (by name, a part of its name, or number) or another system call is answered with an errno.

    Without an errno all of its refusals; an errno alone: every request that is answered so. Raises ValueError for what does not
    exist.
    """
    wanted = _errno(errno) if errno != "" else ""
    number = _number(asked)
    if number is not None:
        names = uapi.request_names(number)
        if not names:
            return Explanation(_unknown(number), ())
        return _of_requests([*names], wanted, [f"{number:#x} is {' or '.join(names)}."])
    text = str(asked)
    if not wanted and text.upper() in Errno.__members__:
        return _of_errno(text.upper())
    return _of_requests([_name(text)], wanted, [])


def _of_requests(names: Sequence[str], wanted: str, head: list[str]) -> Explanation:
    found = [each for each in known_refusals() if {*names} & {*each.request.split(" or ")}]
    chosen = [each for each in found if wanted in ("", each.errno)]
    head += [_introduced(name) for name in names]
    if not found:
        head.append("No recorded call of it was refused.")
    elif not chosen:
        others = ", ".join(sorted({each.errno for each in found}))
        head.append(f"No recorded call of it was refused with {wanted}; with {others} some were.")
    elif wanted:
        many = f"{len(chosen)} checks" if len(chosen) > 1 else "one check"
        head.append(f"{wanted} came from {many} in recorded calls{', in this order' if len(chosen) > 1 else ''}:")
    else:
        head.append("Its refusals, in the order of the checks:")
    return Explanation(head, chosen)


def _of_errno(wanted: str) -> Explanation:
    found = [each for each in known_refusals() if each.errno == wanted]
    by_request = groupby(found, key=lambda each: each.request)
    lines = [f"  {request}: {', '.join(each.check for each in group)}" for request, group in by_request]
    head = f"{wanted} ({Errno[wanted]:d}) was answered to these requests, by these checks:" if found else ""
    return Explanation([head, *lines] if found else [f"No recorded call was refused with {wanted}."], ())


def _introduced(name: str) -> str:
    if (request := REQUESTS.get(name)) is None:
        return f"{name}()"
    takes = f"; its argument is struct {request.struct.kernel_name}" if request.struct is not None else ""
    return f"{name} ({request.number:#x}) is asked of {_FILES[request.file]}{takes}."


def _unknown(number: int) -> list[str]:
    """What a number that is no request could have been meant as."""
    kind, command, size = number >> 8 & 0xFF, number & 0xFF, number >> 16 & 0x3FFF
    head = [
        f"{number:#x} is no request that is modelled: subsystem {kind:#x}"
        f" ({_TYPES.get(kind, 'another one')}), command {command}, {_DIRECTIONS[number >> 30 & 3]} of {size} bytes."
    ]
    near = [each for each in REQUESTS.values() if each.number & 0xFFFF == number & 0xFFFF]
    for each in near:
        head.append(
            f"Command and subsystem are those of {each.name}, whose number is {each.number:#x}: direction and size are part of the"
            " number, and the kernel compares all of it. Every file answers ENOTTY, or EINVAL where a check comes first."
        )
    return head


def _told(number: int, refusal: KnownRefusal) -> Iterator[str]:
    yield ""
    yield f"{number:3}. {refusal.errno}  {refusal.sentence}"
    yield f"     check {refusal.check} in {refusal.kernel}; {_recorded(refusal)}"
    if refusal.passed:
        yield f"     right by then: {', '.join(refusal.passed)}"
    yield from (f"       {line}" for line in refusal.program.lines())


def _recorded(refusal: KnownRefusal) -> str:
    return (
        f"{refusal.recorded} recorded calls were refused so"
        if refusal.recorded > 1
        else "one recorded call was refused so"
    )


# ---- what was asked


def _number(asked: str | int) -> int | None:
    if isinstance(asked, int):
        return asked
    try:
        return int(asked, 0)
    except ValueError:
        return None


def _errno(asked: str | int) -> str:
    number = _number(asked)
    if number is not None and abs(number) in set(Errno):
        return Errno(abs(number)).name
    if str(asked).upper() not in Errno.__members__:
        raise ValueError(f"there is no errno {asked!r}; one is EINVAL")
    return str(asked).upper()


def _name(text: str) -> str:
    """The request or system call that is meant by a part of its name."""
    names = sorted({*REQUESTS, *(each.request for each in known_refusals())})
    meant = [name for name in names if name.lower() == text.lower()] or [
        name for name in names if text.lower() in name.lower()
    ]
    if len(meant) == 1:
        return meant[0]
    near = meant or get_close_matches(text.upper(), names, 5, 0.5)
    also = f"; {'these are' if meant else 'near it are'} {', '.join(near)}" if near else ""
    raise ValueError(f"there is no request, system call or errno {text!r}{also}")


@cache
def known_refusals() -> tuple[KnownRefusal, ...]:
    """All refusals that recorded calls met."""
    return tuple(read(asset(_KEPT)))


# ---- checks that no recording meets


class Unmet(NamedTuple):
    """A check of the simulator that refused no recorded call: it was read in the kernel's source."""

    errno: str
    check: str
    function: str
    file: str


@cache
def unmet() -> list[Unmet]:
    """The checks of the kernel functions that have not refused any recorded call, by file."""
    known = {each.check for each in known_refusals()}
    folder = Path(__file__).parent / "kernel"
    found = [
        each
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.AsyncFunctionDef)
        for each in _checks(node)
    ]
    return sorted(
        {each for each in found if each.check not in known}, key=lambda each: (each.file, each.function, each.check)
    )


def _checks(function: ast.AsyncFunctionDef) -> Iterator[Unmet]:
    files = [each.args[0] for each in function.decorator_list if isinstance(each, ast.Call) and each.args]
    file = next((each.value for each in files if isinstance(each, ast.Constant)), "")
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("refuse_if", "require"):
            match node.args:
                case [_, ast.Attribute(attr=errno), ast.Constant(value=check), *_] if file:
                    yield Unmet(errno, str(check), function.name, str(file))


# ---- the atlas as a page

_ABOUT = """\
Each request of VFIO, iommufd and KVM's VFIO device, and each system call on their files, with the checks that refused recorded
calls of a real Linux 7.2: in the order in which the kernel makes them, with the smallest program that meets each. In a notebook
`from vfiosim.explain import explain; explain("VFIO_DEVICE_BIND_IOMMUFD", "EINVAL")` tells the same, and `.show(2)` of it steps
through its second program.
"""


_UNMET = "Read in the source, not recorded"


def page() -> Iterator[str]:
    """The atlas in Markdown, line by line."""
    yield "# The errno atlas\n"
    yield _ABOUT
    requests = [*dict.fromkeys(each.request for each in known_refusals()), _UNMET]
    yield " · ".join(f"[{request}](#{request.replace(' ', '-')})" for request in requests) + "\n"
    for request, group in groupby(known_refusals(), key=lambda each: each.request):
        yield f"## {request}\n"
        if request in REQUESTS:
            yield f"{_introduced(request)}\n"
        yield "| errno | why | check, kernel function | how it is known | smallest program |"
        yield "|---|---|---|---|---|"
        for each in group:
            lines = "<br>".join(f"`{line}`" for line in each.program.lines())
            known = f"{each.recorded} recorded call{'s' * (each.recorded > 1)}"
            yield _row(each.errno, each.sentence, f"`{each.check}`, {each.kernel}", known, lines)
        yield ""
    yield f"## {_UNMET}\n"
    yield "These checks are mirrored, and no recorded call was refused by them.\n"
    yield "| errno | check, kernel function | how it is known |"
    yield "|---|---|---|"
    for one in unmet():
        yield _row(one.errno, f"`{one.check}`, {one.function} ({one.file}, v7.2)", "read in the source")


def _row(*cells: str) -> str:
    """A line of a table; what a program writes may have lines of its own."""
    shown = (cell.replace("|", r"\|").replace("\n", r"\n") for cell in cells)
    return f"| {' | '.join(shown)} |"


def main(arguments: Sequence[str]) -> int:
    """The command `explain`: 0 if there is an answer, 2 if not."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim explain", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "asked", nargs="?", help="a request, a part of its name, its number, a system call, or an errno"
    )
    parser.add_argument("errno", nargs="?", default="", help="e.g. EINVAL")
    parser.add_argument("--page", action="store_true", help="write the whole atlas, in Markdown")
    parser.add_argument(
        "--renew",
        metavar="FOLDER",
        help="find out again what the recordings in FOLDER meet, keep it in assets/, and write the atlas",
    )
    options = parser.parse_args(arguments)
    if options.renew:
        write(refusals(recordings([options.renew])), Path(str(asset(_KEPT))))
        evidence.write(evidence.ran_through(recordings([options.renew])), Path(str(asset(evidence.FILE))))
        known_refusals.cache_clear()
    if options.page or options.renew:
        print("\n".join(page()))
        return 0
    if options.asked is None:
        parser.error("say what to explain, e.g. VFIO_DEVICE_BIND_IOMMUFD EINVAL")
    try:
        print(explain(options.asked, options.errno))
    except ValueError as error:
        print(f"python -m vfiosim explain: {error}.", file=sys.stderr)
        return 2
    return 0
