"""What is different between two states of a machine, each with the edit that made it so and the one that would undo it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..trace.plain import record, shown
from ..trace.state import Edit, ObjectState, State

# What a failed call may change, by kind of object and cell, and why nobody minds; the kernel does the same.
ALLOWED = {
    "fds.close_on_exec": "the mark of a descriptor that is free again; who takes it sets it anew (fs/file.c: alloc_fd)",
    "selftest_access.next_id": "a counter of IDs; nobody misses a number (drivers/iommu/iommufd/selftest.c)",
    "vfio_pci_core_device.reset_works": "each open sets it anew (drivers/vfio/pci/vfio_pci_core.c: vfio_pci_core_enable)",
    "vfio_device_file.devid": "read only after a bind has written it (drivers/vfio/iommufd.c: vfio_df_iommufd_bind)",
}


@record()
class Difference(Edit):
    """One cell, slot or reference that is not as it was, or an object that came or went, as an edit from old to new."""

    @property
    def what(self) -> str:
        """In words."""
        if self.sort == "born":
            return f"{self.oid} lives on"
        if self.sort == "died":
            return f"{self.oid} is gone"
        path = f"{self.oid}.{self.cell}"
        if self.sort == "reference":
            holder, reason = self.key
            return f"{path} counts {holder} ({reason}) {self.new} times instead of {self.old}"
        slot = f"[{self.key}]" if self.sort == "slot" else ""
        if self.sort == "lock":
            return f"{path} is held by {self.new or 'nobody'}"
        return f"{path}{slot} is {shown(self.new)} instead of {shown(self.old)}"

    @property
    def path(self) -> str:
        """The path of the cell, "its name." of an object that lives on."""
        return f"{self.oid}.{self.cell}" + (f"[{self.key}]" if self.sort == "slot" else "")

    @property
    def in_short(self) -> str:
        """In words of who holds what, where it is a reference that is held once too often; else as `what`."""
        if self.sort != "reference" or self.new < self.old:
            return self.what
        holder, reason = self.key
        return f"{holder} still holds {self.oid} ({reason})"

    @property
    def missing(self) -> str:
        """What nobody did."""
        path = f"{self.oid}.{self.cell}"
        if self.sort in ("born", "died"):
            return f"free {self.oid}" if self.sort == "born" else f"{self.oid} must stay"
        if self.sort == "reference":
            holder, reason = self.key
            return f"{'put' if self.new > self.old else 'get'} {path} for {holder} ({reason})"
        if self.sort == "lock":
            return f"{'release' if self.new else 'acquire'} {path}"
        slot = f"[{self.key}]" if self.sort == "slot" else ""
        return f"{path}{slot} = {shown(self.old)}"

    def made_by(self, edit: Edit) -> bool:
        """Is this the edit, or one of those, that made it different?"""
        return self._about(edit) and (self.sort in ("born", "died") or edit.new == self.new)

    def undone_by(self, edit: Edit) -> bool:
        """Would this edit make it as before?"""
        if self.sort == "born":
            return edit.sort == "died" and edit.oid == self.oid
        return self.sort != "died" and self._about(edit) and (edit.new or 0) == (self.old or 0)

    def _about(self, edit: Edit) -> bool:
        return (edit.sort, edit.oid, edit.cell, edit.key) == (self.sort, self.oid, self.cell, self.key)


def differences(before: State, after: State) -> Iterator[Difference]:
    """Everything that is different, in the order of the objects."""
    for oid in before.objects:
        if oid not in after.objects:
            yield Difference("died", oid)
    for oid, thing in after.objects.items():
        if oid not in before.objects:
            yield Difference("born", oid)
        else:
            yield from _cells(before.objects[oid], thing)


def _cells(before: ObjectState, after: ObjectState) -> Iterator[Difference]:
    for sort, cells in (("field", "fields"), ("lock", "locks"), ("signal", "signals")):
        old, new = getattr(before, cells), getattr(after, cells)
        for cell, value in new.items():
            if old.get(cell) != value:
                yield Difference(sort, after.oid, cell, None, old.get(cell), value)
    for cell, ledger in after.counts.items():
        yield from _entries("reference", after.oid, cell, before.counts[cell], ledger, 0)
    for cell, slots in after.tables.items():
        yield from _entries("slot", after.oid, cell, before.tables[cell], slots, None)


def _entries(
    sort: str, oid: str, cell: str, old: dict[Any, Any], new: dict[Any, Any], none: Any
) -> Iterator[Difference]:
    for key in {**old, **new}:
        was, now = old.get(key, none), new.get(key, none)
        if was != now:
            yield Difference(sort, oid, cell, key, was, now)
