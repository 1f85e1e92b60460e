"""Pages and pictures to show to others: the museum as a page that works offline, and the pictures of the README."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from .machine import Machine
from .museum import ROOMS, Room
from .puzzles import PUZZLES
from .trace import Trace
from .uapi import VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd
from .views import Player
from .views.film import film

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 17px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }}
.rooms {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); gap: 1.5rem; padding: 0; }}
.rooms li {{ list-style: none; }}
.rooms a {{ display: block; color: inherit; text-decoration: none; height: 100%; box-sizing: border-box; }}
.rooms a {{ border: 1px solid #8888; border-radius: 8px; padding: 1rem; }}
.rooms a:hover, .rooms a:focus-visible {{ border-color: #3b97d3; }}
.rooms img {{ width: 100%; height: 14rem; object-fit: contain; }}
</style></head><body>{body}</body></html>
"""


def bind() -> Trace:
    """The steps of one BIND."""
    machine = Machine()
    program = machine.process("vmm")
    device, iommufd = program.open("/dev/vfio/devices/vfio0"), program.open("/dev/iommu")
    program.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd(iommufd=iommufd))
    return machine.trace[machine.trace.calls[-1].steps]


def race() -> Trace:
    """The shortest way in which an open of the group and a bind of its device both succeed, without the lock of the group."""
    found = PUZZLES["R1"].explore(without=["group_lock"]).counterexample
    if found is None:
        raise RuntimeError("the puzzle R1 is not broken without its lock")
    return found.trace


def pictures() -> dict[str, str]:
    """The pictures of the README by the names of their files. Raises RuntimeError without Graphviz."""
    turns = race()
    return {"bind.svg": film(bind()), "race.svg": film(turns, first=len(turns))}


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of each page of the museum; the first one leads to the others."""
    rooms = [(room, film(room.trace.trace, first=len(room.trace.trace))) for room in ROOMS.values()]
    entries = "".join(
        f'<li><a href="{room.name}.html"><img src="{room.name}.svg" alt="" loading="lazy"><h2>{escape(room.title)}</h2>'
        f"<p>{escape(room.symptom)}</p></a></li>"
        for room, _ in rooms
    )
    about = (
        "Real bugs of VFIO, iommufd and KVM: each with the shortest way into it, one effect at a time, to step through."
    )
    yield (
        "index.html",
        PAGE.format(
            title="A museum of races", body=f'<h1>A museum of races</h1><p>{about}</p><ul class="rooms">{entries}</ul>'
        ),
    )
    for room, picture in rooms:
        yield f"{room.name}.svg", picture
        yield f"{room.name}.html", PAGE.format(title=escape(room.title), body=_body(room))


def _body(room: Room) -> str:
    when = "Alive in the recorded Linux 7.2." if room.alive else "Mended since; here the faulty function is back."
    links = "".join(f"<li>{escape(link)}</li>" for link in room.links)
    player = Player(room.trace.trace, step=-1).html()
    return (
        f'<p><a href="index.html">All rooms</a></p><h1>{escape(room.title)}</h1><p>{escape(room.symptom)} <i>{when}</i></p>'
        f"{player}<p><b>What to take from it.</b> {escape(room.lesson)}</p><ul>{links}</ul>"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the pages into a folder, or with --pictures the pictures of the README."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim gallery", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("dist/gallery"))
    parser.add_argument("--pictures", action="store_true", help="write bind.svg and race.svg instead")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items() if options.pictures else pages():
        (options.folder / name).write_text(text, "utf-8")
        print(options.folder / name)
    return 0
