"""What the lesson about devices without DMA shows: BIND in four kernels, and the posted function line by line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import groupby, pairwise, zip_longest
from typing import Any

from ..kernel.posted import v5
from ..kernel.variants import V5
from ..kernel.vfio import device_cdev
from ..lab import progress
from ..naming import must_be_one_of
from .no_dma_calls import DEVICES, KERNELS, bind
from .tables import Code, Shown, table

REFUSED = ("ENODEV", "no node", "EPERM")
SAME = "← the same"


_TAKE_FROM_IT = """
<p><b>What to take from it.</b> Linux found a third answer, and nobody had to ask any more. Other patches, about emulated
devices, were merged first. Now every driver has the operations, and BIND of an emulated device makes an <i>access</i>. A driver
without the operations can no longer register its device, so <code>led</code> has no node.</p>
<p>Look at the columns to see the gain: which IDs are there since 6.6?</p>
"""


def fates() -> Shown:
    """How BIND of each device ends, a column for each kernel, and what to take from it."""
    lines = [[f"{name}: {what}", *(_fate(kernel, name) for kernel in KERNELS)] for name, (_, what) in DEVICES.items()]
    return Shown(table(["BIND of", *KERNELS], lines, (*REFUSED, "ID 0"))._repr_html_() + _TAKE_FROM_IT)


def _fate(kernel: str, device: str) -> str:
    result = bind(kernel, device).result
    return "no node to open" if result == "ENOENT" else result


def side_by_side(device: str) -> Shown:
    """The steps of one BIND, a column for each kernel, where they differ. Raises ValueError for an unknown device."""
    must_be_one_of(DEVICES, device, "device")
    columns = [[step.sentence for step in bind(kernel, device).steps] for kernel in KERNELS]
    longest = max(columns, key=len)
    rows = [*zip_longest(*(_aligned(column, longest) for column in columns), fillvalue="")]
    lines = []
    for alike, some in groupby(enumerate(rows, 1), key=lambda row: _alike(rows[row[0] - 1 :])):
        found = [*some]
        if alike:
            lines.append([_range(found[0][0], found[-1][0]), *("alike" if cell else "" for cell in found[-1][1])])
        else:
            for number, row in found:
                told = [SAME if cell and cell == left else cell for left, cell in pairwise(["", *row])]
                lines.append([str(number), *told])
    counted = ["in all", *(f"{len(column)} steps" for column in columns)]
    return table(["step", *KERNELS], [*lines, counted], ("Refused", "out_devid"), letters=14)


def _alike(rows: Sequence[tuple[str, ...]]) -> bool:
    """Is the first row the same for all whose column goes on?"""
    return len({column[0] for column in zip(*rows, strict=True) if any(column)}) == 1


def _aligned(column: list[str], longest: list[str]) -> list[str]:
    """The column with gaps where the longest one has a step of its own."""
    filled = []
    for _, first, last, begin, end in SequenceMatcher(None, column, longest, autojunk=False).get_opcodes():
        filled += column[first:last] + [""] * (end - begin - (last - first))
    return filled


def _range(first: int, last: int) -> str:
    return f"{first}–{last}" if last > first else str(first)


# ---- the posted function

Line = tuple[str, str, Callable[..., Any], str, int | None]
MAIL: tuple[
    Line, ...
] = (  # in our words; the mail's identifiers; our function, and a part of its line; the assumption, if any
    ("copy the struct in", "copy_from_user", v5.vfio_df_ioctl_bind_iommufd, "copy_fixed(", None),
    ("argsz, flags: EINVAL", "argsz, flags", v5.vfio_df_ioctl_bind_iommufd, "flags_known", None),
    ("no operation: ENODEV", "bind_iommufd", v5.vfio_df_ioctl_bind_iommufd, "driver_binds", None),
    ("block the group", "vfio_device_block_group", v5.bind_device, "vfio_device_block_group", None),
    ("lock the device set", "dev_set->lock", v5.bind_device, "dev_set.lock", None),
    ("bound already: EINVAL", "df->iommufd, df->noiommu", v5.bind_device, "not_bound_yet", None),
    ("negative: noiommu", "CAP_SYS_RAWIO", v5.enter_noiommu_mode, "noiommu_takes_rawio", None),
    ("look up the iommufd", "vfio_get_iommufd_from_fd", v5.bind_device, "take_iommufd", 0),
    ("hold the VM", "vfio_device_get_kvm_safe", device_cdev.open_and_publish, "vfio_df_get_kvm_safe", None),
    ("open the device", "vfio_device_open, &bind.out_devid", device_cdev.open_and_publish, "vfio_df_open", 1),
    ("write out_devid", "", device_cdev.publish_devid, "copy_to_user", 2),
    ("open the gate", "", device_cdev.open_and_publish, "access_granted, True", 3),
    ("undo on failure", "out_put_kvm, out_unlock", v5.bind_device, "on_failure(vfio_device_unblock_group", 4),
)
ASSUMED = [one.partition(":")[0] for one in V5.assumptions]
QUESTION = {2: "Question 1: ", 9: "Question 2: "}  # where the two questions of the mail hang


LEFT_OUT = "The mail leaves this out; we assume: "  # begins the line below that which it is about
NOIOMMU = ("08 noiommu", "08 check: without rights")  # what one line answers


_TWO_LINES = """
<p><b>What to take from it.</b> Line 3 is question 1: take the line away, and <code>led</code> gets through. In line 10 the mail
gives the open a place for the ID. With <code>led</code> nobody writes there, so the 0 of the beginning stays. Question 2 asks
whether to promise that.</p>
"""


class _Mail(Shown):
    """The table as it is now: a line that answers questions further below is full once they are answered."""

    def __init__(self) -> None:
        """Nothing is made before somebody looks."""

    @property
    def _html(self) -> str:  # type: ignore[override]
        return _mail({*NOIOMMU} <= {*progress.answers})._repr_html_()


def mail() -> Shown:
    """The posted function line by line: what the mail has, our line beside it, and what the mail leaves out."""
    return _Mail()


def _mail(whole: bool) -> Shown:
    lines = []
    for number, (said, quoted, function, part, assumed) in enumerate(MAIL):
        ours = our_line(function, part)
        if function is v5.enter_noiommu_mode and not whole:
            said, quoted, ours = "negative: this line is shown once you have answered two questions below", "", ""
        lines.append([f"{number + 1}", QUESTION.get(number, "") + said, Code(quoted), Code(ours)])
        lines += [] if assumed is None else [["", f"{LEFT_OUT}{ASSUMED[assumed]}."]]
    head = ["", "in our words", "names in the mail", "our line"]
    return Shown(table(head, lines, (*QUESTION.values(),), letters=13)._repr_html_() + _TWO_LINES)


def our_line(function: Callable[..., Any], part: str) -> str:
    """The line of one of our functions with this in it, without the sentence of a check. Raises ValueError if there is none."""
    source = inspect.getsource(getattr(function, "function", function))
    for line in source.splitlines():
        if part in line:
            told = re.sub(r"^(\w+ = )?await |uapi\.", "", line.strip())
            return re.sub(r', f?"[^"]* [^"]*"(\)?),?$', r"\1", told)
    raise ValueError(f"no line of {function} has {part!r}")
