"""What the lesson about groups shows as tables: the groups of a machine, all orders of two calls, three ways to a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..lab import Session
from ..machine import Machine
from ..trace import ObjectState
from ..uapi import KernelError
from .groups_calls import DOORS, NEW, OLD, enter, get_device, one_after_the_other, owner, pair, set_iommu, usb, viable
from .tables import Shown, table

NOBODY, KERNEL, PROGRAM = "#888", "#d98200", "#0a84c6"  # colours of who owns; each is said in words, too
GPU, HDMI, USB = "0000:02:00.0", "0000:02:00.1", "0000:03:00.0"


# ---- the groups of a machine


def groups(machine: Machine, *numbers: int) -> Shown:
    """Each group as a box: its devices with their drivers, who owns their DMA, and whether its file can be opened."""
    return Shown(
        '<div style="display:flex;flex-wrap:wrap;gap:14px;margin:4px 0;font-family:system-ui,sans-serif">'
        + "".join(_group(machine, number) for number in numbers or (1, 2, 3))
        + "</div>"
    )


def _group(machine: Machine, number: int) -> str:
    things = machine.trace.end.objects
    members = [
        one
        for one in things.values()
        if one.kind == "device" and str(one.fields["iommu_group"]) == f"iommu_group {number}"
    ]
    told, colour = _owner(things[f"iommu_group {number}"], members)
    return (
        f'<div style="flex:1 1 230px;border:3px solid {colour};border-radius:12px;padding:10px 14px">'
        f'<div style="font-size:22px"><b>group {number}</b></div>'
        f'<div style="font-size:16px;margin:4px 0;padding:4px 8px;background:{colour}33;border-radius:6px">'
        f"DMA owner: <b>{told}</b></div>"
        + "".join(_device(machine, one) for one in members)
        + f'<div style="font-size:16px;margin-top:8px">/dev/vfio/{number}: {_door(things[f"vfio_group {number}"])}</div></div>'
    )


def _owner(group: ObjectState, members: Sequence[ObjectState]) -> tuple[str, str]:
    who, many = group.fields["owner"], group.fields["owner_cnt"]
    if who:
        return f"{many} × {who}", PROGRAM
    drivers = [str(one.fields["driver"]).removeprefix("driver ") for one in members if one.fields["uses_dma_api"]]
    return (f"kernel, for {' and '.join(drivers)}", KERNEL) if many else ("nobody", NOBODY)


def _device(machine: Machine, device: ObjectState) -> str:
    things = machine.trace.end.objects
    name = device.oid.removeprefix("device ")
    driver = str(device.fields["driver"] or "driver –").removeprefix("driver ")
    node = str(device.fields["drvdata"] or "").removeprefix("vfio_device ") if driver == "vfio-pci" else "no node"
    bound = " · <b>bound</b>" if node != "no node" and things[f"vfio_device {node}"].fields["open_count"] else ""
    return (
        '<div style="margin:6px 0;padding:6px 10px;border:1px solid #8888;border-radius:8px">'
        f'<span style="font-size:16px"><b>{name}</b> · {node}{bound}</span>'
        f'<div style="font-size:14px">driver {driver}</div></div>'
    )


def _door(group: ObjectState) -> str:
    if group.fields["opened_file"]:
        return "<b>is open</b>"
    bound = group.fields["cdev_device_open_cnt"]
    return f"<b>EBUSY</b>, {bound} of its devices bound" if bound else "can be opened"


def answer(call: Callable[..., object], *given: object) -> str:
    """What a system call says: what it returns, or why it is refused; the program goes on."""
    try:
        return f"it returns {call(*given)}"
    except KernelError as problem:
        return str(problem)


# ---- tables


_TWO_FIELDS = """
<p><b>What to take from it.</b> Two fields of the group do all this. <code>opened_file</code> is the group's file while it is open,
and BIND looks at it. <code>cdev_device_open_cnt</code> counts the bound devices, and the open of the group looks at it. Both
belong to the <i>group</i>, so <code>vfio2</code> shuts the door for <code>vfio1</code>. To open a node changes neither, so it shuts
nothing. (The two EINVAL are another matter: a file is bound once.) Try it on the bench above, with <b>open group 2</b>.</p>
"""


def matrix() -> Shown:
    """How the second of two calls ends, for all orders of them: a row for the first, a column for the second; what it tells."""
    lines = [[first, *(_ended(first, second) for second in DOORS)] for first in DOORS]
    return Shown(table(["first ↓   then →", *DOORS], lines, ("E",))._repr_html_() + _TWO_FIELDS)


def _ended(first: str, second: str) -> str:
    outcome = one_after_the_other(first, second).done[-1].outcome
    return outcome.result if outcome.refused else "ok"


_TAKE_FROM_IT = """
<p><b>What to take from it.</b> A container claims the group as a whole, early, and keeps it till the group's file is closed. BIND
claims device by device. The way in the middle looks like the old one, but claims like the new one: nothing before the first
device is open. But look at its last cell.</p>
"""


def ways() -> Shown:
    """Three ways to both devices of group 2, with its DMA owner after each call; how far each comes with usb; what it tells."""
    head = ["way", "container set", "gpu open", "audio (hdmi), too", "both closed", "usb, beside the disk"]
    return Shown(table(head, [_old(OLD), _old(NEW), _new()], ("EPERM",))._repr_html_() + _TAKE_FROM_IT)


def _told(session: Session) -> str:
    who, many = owner(session, 2)
    return f"{many} × {who}".replace(" ", "\N{NO-BREAK SPACE}") if who else "nobody"


def _old(into: str) -> list[str]:
    session = Session()
    enter(session, 2, into)
    set_iommu(session, into)
    found = [_told(session)]
    for address in (GPU, HDMI):
        get_device(session, address)
        found.append(_told(session))
    for fd in (5, 6):
        session.close(fd)
    found.append(_told(session))
    session = Session()
    done = enter(session, 3, into)
    set_iommu(session, into)
    said = "viable" if viable(session) else "not viable"
    where = "SET_CONTAINER" if done.refused else "GET_DEVICE_FD"
    result = done.result if done.refused else get_device(session, USB).result
    return [f"group's file, with {into}", *found, f"{result} at {where}; GET_STATUS says “{said}”"]


def _new() -> list[str]:
    session = Session(start=pair)
    found = [_told(session)]
    for fd in (3, 4):
        session.bind(fd, iommufd=5)
        found.append(_told(session))
    for fd in (3, 4):
        session.close(fd)
    found.append(_told(session))
    return ["nodes and BIND", *found, f"{Session(start=usb).bind(3, iommufd=4).result} at BIND"]
