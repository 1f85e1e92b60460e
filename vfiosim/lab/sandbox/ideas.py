"""Things to try on the free bench: one at a time, so that it is read where it is pressed."""

from __future__ import annotations

from .. import controls as widgets
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


class Ideas(widgets.Box):
    """One of them, and a button that leads to the next; `wanted` shows them and puts them away."""

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
        self.said.value = f"<b>Idea {self.at + 1} of {len(IDEAS)}.</b> {IDEAS[self.at]}"
