"""Benches, driven through their buttons."""

from __future__ import annotations

from vfiosim.lab import Bench


def press(bench: Bench, *names: str) -> str:
    """Press buttons one after another; the answer is the line about the last one."""
    for name in names:
        bench.buttons[name].click()
    return bench.message


def opened(**options) -> Bench:
    """A bench on which a device and an iommufd are open."""
    bench = Bench(**options)
    press(bench, "open device", "open iommufd")
    return bench
