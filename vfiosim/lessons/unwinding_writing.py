"""A kernel function whose way out is to be written; each failure of a BIND decides whether it is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..explore import Result
from ..kernel.vfio.vfio_main import vfio_df_device_first_open
from ..lab import RoomView
from ..museum import Proof, Room, StudentFunction
from ..museum.requirements import Requirement
from ..puzzles.changed import changed
from ..puzzles.programs import bind
from ..puzzles.unwinding import R25
from .unwinding_failures import FAULTS, ON_PURPOSE, Failed, Functions, failed


@changed(vfio_df_device_first_open)
def first_open_without_a_way_out() -> None:
    """The first open of a device, for now without a way out.

    - async with on_failure(module_put, driver, device):
    -     if ictx is not None:
    -         await vfio_df_iommufd_bind(df)
    -     else:
    -         await vfio_device_group_use_iommu(device)
    -     async with on_failure(give_up_iommu, df, ictx):
    -         say(Phase.ACQUIRE, "{} opens the device: the hardware is made ready.", driver)
    -         await device.ops.open_device(device)
    + if ictx is not None:
    +     await vfio_df_iommufd_bind(df)
    + else:
    +     await vfio_device_group_use_iommu(device)
    + say(Phase.ACQUIRE, "{} opens the device: the hardware is made ready.", driver)
    + await device.ops.open_device(device)
    """


@dataclass(frozen=True)
class WayOutProof(Proof):
    """What became of each failure of a BIND with somebody's way out."""

    tried: tuple[Failed, ...] = ()

    @property
    def refuted(self) -> bool:
        return super().refuted or any(self._wrong())

    def _wrong(self) -> Iterator[str]:
        for wrong, group in groupby(self.tried, key=lambda one: one.wrong):
            if wrong:
                yield f"When {', or '.join(FAULTS[one.number] for one in group)}, {wrong}."

    def __str__(self) -> str:
        wrong = [*map(str, self.lost), *self._wrong()]
        if not self.result.complete:
            wrong.append(f"It does not come to an end: {self.result.limit}.")
        wrong = wrong or [found.what for found in self.result.violations]
        good = [f"{len(self.tried)} failures: nothing is left behind, and all goes back in the reverse order."]
        return "\n".join([self.room.title, *(wrong or good)])


@dataclass(frozen=True, kw_only=True)
class WayOut(Room):
    """A function without its way out. All that can fail in a BIND fails in turn, in place of schedules and recordings."""

    @property
    def when(self) -> str:
        return "from the kernel, without its way out"

    @property
    def how_proved(self) -> str:
        return "each of the nine things fails once."

    def explore(self, mine: Functions | None = None, **options: Any) -> Result:
        return R25.explore(patches={**self.faulty, **(mine or {})})

    def prove(
        self, *mine: StudentFunction, recordings: bool = False, first: bool = False, **options: Any
    ) -> WayOutProof:
        found = super().prove(*mine, recordings=recordings, first=first, **options)
        functions = {own.name: own.function for own in mine}
        tried = tuple(failed(number, functions) for number in ON_PURPOSE) if found.result.complete else ()
        return WayOutProof(self, found.result, found.lost, found.changed, tried)


FIRST_OPEN = WayOut(
    name="first-open",
    title="The way out that nobody has written",
    symptom="This function runs inside of BIND, where the device is really opened. It takes two things: the driver's module, and a "
    "place in the iommufd. Then the driver switches the card on. When the card is not ready, all of it stays. Two functions give "
    "back: module_put(driver, device) the module, and give_up_iommu(df, ictx) the place.",
    lesson="Around all that comes after a taking stands what gives it back.",
    alive=False,
    setup=R25.setup,
    calls=R25.programs(),
    properties=(),
    happens="vfio-pci.module",
    must_still_work=(
        Requirement(
            "A BIND in which nothing fails must still succeed, and keep what it has taken: a second BIND is EINVAL.",
            (bind("vmm"), bind("vmm")),
            "0, EINVAL",
        ),
    ),
    faulty={"vfio_df_device_first_open": first_open_without_a_way_out},
)
TASK = "04 task: write a way out"


def mend() -> RoomView:
    """The task."""
    return RoomView(
        FIRST_OPEN,
        hints=(
            "<code>module_put(driver, device)</code> gives the module back, <code>give_up_iommu(df, ictx)</code> the place in the "
            "iommufd. After which line is there something to give back?",
            "Put the rest of the function, indented, under <code>async with on_failure(module_put, driver, device):</code>. "
            "It is done where something below it fails, and only then.",
            "Two of these lines: the first behind the check of <code>held</code>, the second, inside of the first, behind the "
            "<code>if … else</code>.",
        ),
        explained="The inner one stands around the last line alone, the outer one around all that comes after the taking of the "
        "module. On the way out the inner one is done first: nesting <i>is</i> the reverse order. In C both are labels.",
        distractors={
            "the kernel crashes": "Your way out runs at a failure at which this thing was not taken yet. Put it only around what "
            "comes <i>after</i> the taking.",
            "not the reverse order": "Both lines are there, but in the wrong order. The outer one is done last. So it has to "
            "belong to what was taken first, the module.",
            "is left behind: driver's module, iommufd_group": "When the card is not ready, neither the module nor the "
            "place in the iommufd is given back.",
            "is left behind: driver's module.": "What gives the driver's module back has to stand around <i>all</i> "
            "that comes later: the place in the iommufd, and the card.",
            "is left behind: iommufd_group": "The place in the iommufd is not given back. Only the card comes after "
            "it, and may fail.",
        },
        record=TASK,
    )
