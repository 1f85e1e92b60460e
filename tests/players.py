"""Players in a page of their own: what several test files and benchmarks need of traces, pages and pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.conftest import ROOT
from tests.toys import HOSTILE, House, open_door
from vfiosim import Machine, Topology, uapi
from vfiosim.topology import DeviceSpec
from vfiosim.trace import Trace
from vfiosim.views.player import Player

PAGE = '<!doctype html><meta charset="utf-8"><body style="margin: 20px; {style}" {about}>{content}'
DARK = "--jp-content-font-color0: #fff; --jp-layout-color0: #111; --jp-layout-color2: #333; background: #111"
ALL = ("graph", "lanes", "counters", "source", "details")
# What breaks no rule is told by one example: to name all of it is half the work.
BROKEN: dict[str, Any] = {"resultTypes": ["violations"]}
RULES = {**BROKEN, "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
CONTRAST = {**BROKEN, "runOnly": ["color-contrast"]}


# cells of a notebook
TOYS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.toys import House, make_key, lose_key
from vfiosim.views import live, show
house = House()
house.run(make_key(house.person, house.door))
show(house.trace)
"""
LIVE = "view = live(house.trace)\nview"


LAST = 41  # steps of `busy` that have forty boxes
ONLY = ("iommu*", "vfio_[dg]*", "file*", "fds", "thread")  # what makes them forty


@cache
def doors() -> Trace:
    """Ann opens a door while bob waits for its lock; then bob is refused, with a nasty sentence."""
    house = House()
    ann, bob = (house.start(open_door(house.door, HOSTILE), name) for name in ("ann", "bob"))
    for _ in range(4):
        house.engine.step(ann)
    for thread in (bob, ann, bob):
        house.engine.run(thread)
    return house.trace


@cache
def busy(devices: int = 3) -> Trace:
    """A process that opens, binds and attaches so many devices, each to an iommufd of its own: 41 nodes for three."""
    specs = (DeviceSpec(f"nic{n}", f"0000:{n + 1:02x}:00.0", n + 1, model="a network card") for n in range(devices))
    machine = Machine(Topology("busy", tuple(specs)))
    vmm = machine.process("vmm")
    for number in range(devices):
        iommufd, device = vmm.open("/dev/iommu"), vmm.open(f"/dev/vfio/devices/vfio{number}")
        vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
        space = uapi.IommuIoasAlloc()
        vmm.ioctl(iommufd, uapi.IOMMU_IOAS_ALLOC, space)
        vmm.ioctl(device, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=space.out_ioas_id))
    return machine.trace


def open_page(
    page: Page, folder: Path, *players: Player, style: str = "", about: str = "", plays: bool = True
) -> Locator:
    """A file with these players, opened; the first of them, which is there as soon as it is seen, if scripts may run."""
    file = folder / "page.html"
    content = "\n".join(player.html() for player in players)
    file.write_text(PAGE.format(style=style, about=about, content=content), "utf-8")
    page.goto(file.as_uri())
    if plays:
        page.wait_for_function("document.querySelector('.vfiosim-player')?.vfiosim")
    return page.locator(".vfiosim-player").first


def press(player: Locator, name: str) -> None:
    """A button of the player; one of those behind "More" once that is open."""
    button = player.get_by_role("button", name=name, exact=True)
    if not button.is_visible():
        player.get_by_role("button", name="More", exact=False).click()
    button.click()


def at(player: Locator, step: int) -> None:
    """The player stands after this step."""
    expect(player).to_have_attribute("data-step", str(step))


def appearance(svg: str) -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Of each part of a picture its classes and its texts."""
    root = ET.fromstring(svg)
    parts = [part for part in root.iter() if "data-key" in part.attrib]
    return {
        part.attrib["data-key"]: (
            frozenset(part.attrib["class"].split()),
            tuple(text.strip() for text in part.itertext()),
        )
        for part in parts
        if "off" not in part.attrib["class"].split()
    }


def violations(page: Page, where: str = ".vfiosim-player", rules: dict[str, Any] = RULES) -> list[str]:
    """What breaks a rule, by default any of WCAG, levels A and AA, in these parts of the page."""
    found = Axe().run(page, context=where, options=rules).response["violations"]
    return [f"{one['id']}: {part['html'][:160]} {part['failureSummary']}" for one in found for part in one["nodes"]]
