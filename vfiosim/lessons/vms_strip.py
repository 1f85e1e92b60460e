"""Who knows which VM after each call, as a strip: the lists, the device's file, and the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..lab import Outcome, Session
from ..naming import must_be_one_of
from .beginnings import CTX, DEV, DEVICE, opened
from .figures import BLUE, ON_COLOUR, ORANGE, shown

LISTS = {1: 5, 2: 7}  # VM → the descriptor of its kvm-vfio device
VMS = {1: 6, 2: 8}  # VM → its own descriptor
CALLS: dict[str, Callable[[Session], Outcome]] = {
    "add 1": lambda session: session.file_add(LISTS[1], DEV),
    "add 2": lambda session: session.file_add(LISTS[2], DEV),
    "del 1": lambda session: session.file_del(LISTS[1], DEV),
    "del 2": lambda session: session.file_del(LISTS[2], DEV),
    "bind": lambda session: session.bind(DEV, iommufd=CTX),
    "close list 1": lambda session: session.close(LISTS[1]),
    "close VM 1": lambda session: session.close(VMS[1]),
    "close list 2": lambda session: session.close(LISTS[2]),
    "close VM 2": lambda session: session.close(VMS[2]),
    "close device": lambda session: session.close(DEV),
    "open device": lambda session: session.open(DEVICE),
}
TIPS = {  # what the calls do, for those that are buttons
    "add 1": "FILE_ADD: the device's file on the list of VM 1",
    "add 2": "FILE_ADD: the device's file on the list of VM 2",
    "del 1": "FILE_DEL: the device's file off the list of VM 1",
    "del 2": "FILE_DEL: the device's file off the list of VM 2",
    "bind": "BIND of the device (3) to the iommufd (4)",
    "close device": "give descriptor 3 back",
    "open device": "open the node of the device",
}
ROWS = ("list of VM 1", "list of VM 2", "the file points to", "the device holds")
COLOURS = {"VM 1": BLUE, "VM 2": ORANGE}
ODD: dict[
    str, Callable[[str, str, str, str], bool]
] = {  # what may be odd at the end of a strip, of what each of ROWS knows
    "the file points to a VM, and the device holds none": lambda one, two, file, device: bool(file and not device),
    "a list has the file, and the file points to no VM": lambda one, two, file, device: bool((one or two) and not file),
    "the device holds a VM that no list has and no file points to": lambda one, two, file, device: bool(
        device and device not in (one, two, file)
    ),
}


def two_vms(session: Session) -> None:
    """A device (3) and an iommufd (4), open; two VMs (6, 8), each with a kvm-vfio device (5, 7); nothing is listed."""
    opened(session)
    for _ in VMS:
        session.create_kvm_vfio(int(session.create_vm().result))


def done(*calls: str) -> Session:
    """The machine after these of CALLS. Raises ValueError for a call that there is not."""
    session = Session(start=two_vms)
    for name in calls:
        must_be_one_of(CALLS, name, "call")
        CALLS[name](session)
    return session


def known(session: Session) -> tuple[str, ...]:
    """For each of ROWS the VM that it knows, "" for none."""
    objects = session.machine.trace.end.objects
    listed = [
        f"VM {vm}" if (f"kvm_vfio {vm}", "in its list") in _holders(objects, "file vfio0#1") else "" for vm in LISTS
    ]
    file = objects["vfio_device_file 1"].fields["kvm"] if "vfio_device_file 1" in objects else None
    device = objects["vfio_device vfio0"].fields["kvm"]
    return (*listed, *(str(kvm).replace("kvm", "VM") if kvm is not None else "" for kvm in (file, device)))


def _holders(objects: Any, name: str) -> Any:
    return objects[name].counts["f_ref"] if name in objects else {}


def _head(name: str, outcome: Outcome) -> str:
    """What stands above a column: the call, and its errno if it was refused."""
    return f"{name}\n{outcome.result}" if outcome.refused else name


def strip(*calls: str) -> Any:
    """The picture of these CALLS: a row for each of ROWS, a column for each call. Raises ValueError as `done` does."""
    from matplotlib.figure import Figure

    sessions = [done(*calls[:n]) for n in range(len(calls) + 1)]
    columns = [known(session) for session in sessions]
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    for x, column in enumerate(columns):
        for y, vm in enumerate(column):
            solid = "device" in ROWS[y] and vm
            axes.barh(
                y,
                0.94,
                left=x - 0.47,
                height=0.8,
                color=COLOURS.get(vm, "#80808030"),
                ec="black" if solid else "none",
                lw=2.5,
            )
            ink, weight = ON_COLOUR if vm else "black", "bold" if solid else "normal"
            told = "✓" if vm and y < len(LISTS) else vm or "–"
            axes.text(x, y, told, ha="center", va="center", color=ink, fontweight=weight)
    ends = [session.done[-1].outcome for session in sessions[1:]]
    heads = ["at first", *map(_head, calls, ends)]
    axes.set_xticks(range(len(columns)), heads)
    axes.set_yticks(range(len(ROWS)), ROWS)
    odd = [words for words, is_so in ODD.items() if is_so(*columns[-1])]
    axes.set_xlabel(f"At the end {' and '.join(odd)}." if odd else "", labelpad=10, fontsize=12)
    axes.set(xlim=(-0.5, len(calls) + 0.5), ylim=(len(ROWS) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)
    words = (f"{name}: {', '.join(vm or 'none' for vm in column)}" for name, column in zip(heads, columns, strict=True))
    return shown(figure, f"{', '.join(ROWS)}. {'; '.join(words)}. {axes.get_xlabel()}")
