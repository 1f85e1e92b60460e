"""Things to try on the free bench: one at a time, so that it is read where it is pressed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from ...machine.events import Failing
from .. import controls as widgets
from ..goal import fact
from ..run import Run
from ..style import button, text

IDEAS = (  # as HTML; each begins with a press on one of the machines to begin with
    "<b>A card.</b> Bind, then close the iommufd, descriptor 4. Ask <b>Why is it alive?</b> about <code>iommufd_ctx 1</code>. "
    "Which two objects hold its file?",
    "<b>Two functions.</b> Bind <code>vfio0</code> to <code>iommu#2</code>, then <code>vfio1</code> to <code>iommu#1</code>. "
    "What do you expect of each? Would root get through?",
    "<b>A VM.</b> Put the card's file on the list of the VM, then bind. (On <code>kvm-vfio#1</code> <code>attr</code> 1 adds a "
    "file, 2 takes it off.) Who holds the VM? Undo both, and do it the other way round: the bind first. What is different, and "
    "who tells you?",
    "<b>An mdev.</b> Bind it, and ask <code>IOMMU_GET_HW_INFO</code> with its <code>out_devid</code>. Is there such a device? Why?",
    "<b>No IOMMU.</b> Look for a node at which you could BIND. There is none: this card is reached through its group, as in the "
    "old days. What watches its DMA, when you have it?",
    "<b>A card</b>, once more. At <b>More calls</b> choose <b>By hand, or failing</b>, press <b>Let it fail</b>, then "
    "<b>What can fail?</b>, choose one at <b>fails</b>, then <b>Call</b>. Is anything left behind? Try them all; it is the best "
    "way to read a function's way out.",
    "<b>A card.</b> At <b>More calls</b> choose <b>By hand, or failing</b>, press <b>by hand</b>. Then choose "
    "<b>Group, container, KVM</b>: <b>open group</b> is thread A; <b>Call</b> (BIND) is thread B. You are the scheduler. Can you "
    "get both through? Under <b>Machine</b> take out <code>group_lock</code>; try again.",
)


Seen = Callable[[Run], bool]


def _so(*facts: str) -> Seen:
    """Are these facts true of the machine, as it stands?"""
    return lambda run: not any(fact(said).instead(run.machine.trace.end) for said in facts)


def _refused(call: str, by: str = "") -> Seen:
    """Was such a call refused, by the check of this name if there is one?"""
    return lambda run: any(
        call in done.outcome.call and done.outcome.refused and by in done.outcome.check for done in run.done
    )


def _failed_on_purpose(run: Run) -> bool:
    return any(isinstance(one.event, Failing) and two.outcome.refused for one, two in pairwise(run.done))


BOUND, LIST = "access_granted of vfio_device_file 1 is 1", "kvm_vfio 1 holds file vfio0#1"
DONE: tuple[
    tuple[tuple[Seen, ...], str], ...
] = (  # of each idea what the machine has to have shown, and what it says then
    (
        (_so(BOUND, "no descriptor leads to file iommu#1", "file iommu#1 is alive"),),
        "No descriptor leads to the iommufd any more, and it is alive: <b>Why is it alive?</b> names the two that hold it.",
    ),
    (
        (_so("owner of iommu_group 1 is iommufd_ctx 2"), _refused("BIND_IOMMUFD", "dma_owner_is_same")),
        "The DMA of a group has one owner. The kernel looks who that is, not who asks: root is refused, too.",
    ),
    (
        (_so(BOUND, LIST, "vfio_device vfio0 holds kvm 1"), _so(BOUND, LIST, "kvm of vfio_device vfio0 is None")),
        "You have seen both: BIND looks once whether the file belongs to a VM. Who comes to the list later holds nothing.",
    ),
    (
        (_so(BOUND), _refused("IOMMU_GET_HW_INFO")),
        "There is no such device: what a device without DMA gets in an iommufd is an access, and that has an ID, too.",
    ),
    (
        (_so("open_count of vfio_device vfio0 is 1"),),
        "You have the card, through its group. Nothing watches its DMA: it can reach all memory.",
    ),
    ((_failed_on_purpose,), "The call has failed half-way. What it had taken is given back, and no count has changed."),
    (
        (_so(BOUND, "opened_file of vfio_group 1 is file group1#*"),),
        "Both got through: the group is open, and a device of it is bound. With <code>group_lock</code> one of them is refused.",
    ),
)


class Ideas(widgets.Box):
    """One of them, and a button that leads to the next; `wanted` shows them and puts them away.

    `look` is to be called after each press: it says when the idea was tried.
    """

    def __init__(self) -> None:
        self.at = 0
        self.wanted = widgets.ToggleButton(
            value=False, description="Ideas", tooltip="things to try, one at a time", layout={"width": "auto"}
        )
        self.wanted.observe(lambda change: widgets.unfold(self, change["new"]), "value")
        self.said = text("idea")
        self.next = button("Next idea", "another thing to try here; after the last comes the first")
        self.next.on_click(lambda _: self.show(self.at + 1))
        super().__init__([self.said, self.next], kind="row ideas")
        widgets.unfold(self, False)
        self.show(0)

    def show(self, number: int) -> None:
        """Show the idea of this number, from 0; after the last comes the first."""
        self.at = number % len(IDEAS)
        self._left = [*DONE[self.at][0]]
        self.said.value = f"<b>Idea {self.at + 1} of {len(IDEAS)}.</b> {IDEAS[self.at]}"

    def look(self, run: Run) -> None:
        """Has the machine shown now what the idea is about? Then its sentence stands in the place of the idea."""
        if self.wanted.value and self._left:
            self._left = [seen for seen in self._left if not seen(run)]
            if not self._left:
                said = DONE[self.at][1]
                self.said.value = (
                    f'<span role="status"><b class="good">✓ Idea {self.at + 1} of {len(IDEAS)}.</b> {said}</span>'
                )
