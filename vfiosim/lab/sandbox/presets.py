"""Machines to begin with: each is about one thing, with the files that it needs open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ctypes import sizeof
from dataclasses import dataclass, field
from typing import Any

from ... import uapi
from ...kernel.fs.file import O_RDWR
from ...machine.events import Called, Event, Failing
from ...topology import DeviceSpec, Topology
from ...views.atlas import BIND
from ..goal import fact
from ..outcome import Done
from ..press import ClickFilter
from ..run import PROGRAM, Run
from ..setup import Setup
from ..style import button, row, text
from .calls import as_here

CARD = DeviceSpec("nic", "0000:01:00.0", 1, model="a network card", can_reset=True)
GPU = DeviceSpec("gpu", "0000:01:00.0", 1, model="a graphics card", dev_set="slot 01:00")
HDMI = DeviceSpec("hdmi", "0000:01:00.1", 1, model="its audio function", dev_set="slot 01:00")
TTY = DeviceSpec("tty", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 1, bus="mdev", driver="mtty", model="emulated, no DMA")
BARE = DeviceSpec("nic", "0000:01:00.0", 0, model="a network card that no IOMMU watches", noiommu=True)


def _called(name: str, *arguments: Any) -> Called:
    return Called(PROGRAM, name, arguments)


def _opened(*paths: str) -> tuple[Called, ...]:
    return tuple(_called("open", path, O_RDWR) for path in paths)


def _with_vm(kvm: int) -> tuple[Called, ...]:
    """A VM and its list of VFIO files; `kvm` is the next free descriptor."""
    wanted = bytes(uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO))
    return (
        *_opened("/dev/kvm"),
        _called("ioctl", kvm, uapi.KVM_CREATE_VM, 0),
        _called("close", kvm),
        _called("ioctl", kvm + 1, uapi.KVM_CREATE_DEVICE, wanted),
    )


@dataclass(frozen=True)
class Try:
    """A call to make next: on which descriptor, its name in the form, with which numbers in its fields; and why.

    `needs`: facts, with commas between them, without which it would not show what it promises; `refused`: is it to be refused?
    """

    fd: int
    call: str
    says: str
    fields: Mapping[str, int] = field(default_factory=dict)
    needs: str = ""
    refused: bool = False

    def can_show(self, run: Run, files: Sequence[str]) -> bool:
        """Would it show what it promises? Its descriptors lead to these `files` still, and what it needs is the case."""
        now = run.descriptors(PROGRAM) if PROGRAM in run.alive() else {}
        used = {self.fd, self.fields.get("iommufd", self.fd)}
        state = run.machine.trace.end
        return all(fd in now and now[fd].label == files[fd - 3] for fd in used) and not any(
            fact(said).instead(state) for said in self.needs.split(", ") if said
        )

    def is_made_by(self, done: Done, run: Run) -> bool:
        """Is it this call that was made, and did it end as promised?"""
        event, ended = done.event, done.outcome.refused
        if ended != self.refused and not done.by_hand:
            return False
        if not isinstance(event, Called) or event.arguments[:1] != (self.fd,):
            return False
        if self.call not in uapi.REQUESTS:
            return event.name == self.call
        request = as_here(run, uapi.REQUESTS[self.call])
        if request.struct is None or event.arguments[1:2] != (request.number,):
            return event.arguments[1:2] == (request.number,)
        made = request.struct.from_buffer_copy(event.arguments[2].ljust(sizeof(request.struct), b"\0"))
        return all(made.get(name) == number for name, number in self.fields.items())


@dataclass(frozen=True)
class Preset:
    """A machine with `devices` on which `given` was done; `says` what it is about, `tries` what to do there, call by call.

    `files`: the labels of those that are open then, from descriptor 3 on. `places` are the objects that have a place on the map
    from the start: those that it comes to have.
    """

    name: str
    devices: tuple[DeviceSpec, ...]
    given: tuple[Event, ...]
    says: str
    files: tuple[str, ...]
    tries: tuple[Try, ...]
    places: tuple[str, ...] = BIND

    def setup(self, kernel: str) -> Setup:
        """The machine, with this version of the kernel."""
        return Setup(Topology(self.name, self.devices), kernel, (PROGRAM,))


VFIO0, VFIO1, IOMMUFD = "/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1", "/dev/iommu"
BIND_CALL, LIST_CALL = "VFIO_DEVICE_BIND_IOMMUFD", "KVM_SET_DEVICE_ATTR"
# Bound is bound, through whichever file: what has been done already is not suggested.
FREE, FREE_TOO = "open_count of vfio_device vfio0 is 0", "open_count of vfio_device vfio1 is 0"
BOUND, OWNED = "access_granted of vfio_device_file 1 is 1", "owner of iommu_group 1 is iommufd_ctx 2"
HELD = "iommufd of vfio_device_file 1 is iommufd_ctx 1"
LISTED = "kvm_vfio 1 holds file vfio0#1"
PRESETS = (
    Preset(
        "A card",
        (CARD,),
        _opened(VFIO0, IOMMUFD),
        "a network card, alone in its group, and an iommufd",
        ("vfio0#1", "iommu#1"),
        (
            Try(3, BIND_CALL, "bind the card to the iommufd.", {"iommufd": 4}, FREE),
            Try(3, BIND_CALL, "bind it once more. What do you expect?", {"iommufd": 4}, BOUND, refused=True),
            Try(4, "close", "close the iommufd: who keeps it alive now?", needs=HELD),
            Try(3, "close", "close the card: what goes with it?"),
        ),
    ),
    Preset(
        "Two functions",
        (GPU, HDMI),
        _opened(VFIO0, VFIO1, IOMMUFD, IOMMUFD),
        "a graphics card and its audio function, in one group",
        ("vfio0#1", "vfio1#1", "iommu#1", "iommu#2"),
        (
            Try(3, BIND_CALL, "bind the graphics card to iommu#2.", {"iommufd": 6}, f"{FREE}, {FREE_TOO}"),
            Try(
                4,
                BIND_CALL,
                "bind its audio function to iommu#1. What do you expect?",
                {"iommufd": 5},
                f"{FREE_TOO}, {OWNED}",
                refused=True,
            ),
            Try(4, BIND_CALL, "bind the audio function to iommu#2.", {"iommufd": 6}, f"{FREE_TOO}, {OWNED}"),
        ),
        (
            *("file vfio0#1", "file vfio1#1", "file iommu#1", "file iommu#2"),
            *("vfio_device vfio0", "vfio_device vfio1", "iommufd_device 1", "iommufd_device 2", "iommufd_device 1#2"),
            *("vfio_group 1", "vfio_device_set slot 01:00", "iommufd_group 1", "iommu_group 1"),
        ),
    ),
    Preset(
        "A VM",
        (CARD,),
        _opened(VFIO0, IOMMUFD) + _with_vm(5),
        "a network card, an iommufd, and a VM with its list of VFIO files",
        ("vfio0#1", "iommu#1", "kvm-vfio#1", "kvm-vm#1"),
        (
            Try(5, LIST_CALL, "put the card's file on the list of the VM.", needs=f"{FREE}, file vfio0#1 is alive"),
            Try(3, BIND_CALL, "bind the card: who holds the VM now?", {"iommufd": 4}, f"{FREE}, {LISTED}"),
            Try(6, "close", "close the VM: who keeps it alive?"),
            Try(5, "close", "close the list too: does the VM live on?", needs=f"{BOUND}, {LISTED}"),
        ),
        (*BIND, "file kvm-vfio#1", "file kvm-vm#1", "kvm 1"),
    ),
    Preset(
        "An mdev",
        (TTY,),
        _opened(VFIO0, IOMMUFD),
        "an emulated device, which does no DMA of its own",
        ("vfio0#1", "iommu#1"),
        (
            Try(
                3, BIND_CALL, "bind it: look for an iommufd_access in place of an iommufd_device.", {"iommufd": 4}, FREE
            ),
            Try(4, "IOMMU_IOAS_ALLOC", "make an address space in the iommufd."),
            Try(
                3,
                "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
                "attach the device to it: who points to whom?",
                needs=f"{BOUND}, iommufd_ioas * is alive",
            ),
        ),
        (*("iommufd_access 1" if oid.startswith("iommufd_device") else oid for oid in BIND),),
    ),
    Preset(
        "No IOMMU",
        (BARE,),
        _opened("/dev/vfio/noiommu-0", "/dev/vfio/vfio"),
        "a card whose DMA nothing watches: it has no node for BIND, only a group",
        ("noiommu-0#1", "vfio#1"),
        (
            Try(
                3,
                "VFIO_GROUP_SET_CONTAINER",
                "put the group into the container.",
                needs="container of vfio_group noiommu-0 is None",
            ),
            Try(
                4,
                "VFIO_SET_IOMMU",
                "set the type of the container: 8 is “no IOMMU”.",
                {"argument": uapi.VFIO_NOIOMMU_IOMMU},
                "container of vfio_group noiommu-0 is vfio_container 1, iommu_driver of vfio_container 1 is None",
            ),
            Try(
                3,
                "VFIO_GROUP_GET_DEVICE_FD",
                "ask the group for the device, by its address.",
                needs="iommu_driver of vfio_container 1 is vfio_iommu_driver*",
            ),
        ),
        (
            *("file noiommu-0#1", "file vfio#1", "file vfio0#1"),
            *("vfio_device vfio0", "vfio_container 1", "vfio_group noiommu-0"),
        ),
    ),
)


def places(name: str) -> tuple[str, ...]:
    """The objects that have a place on the map from the start, on a machine of this name."""
    return next((each.places for each in PRESETS if each.name == name), BIND)


def came_of_it(run: Run, broken: Sequence[str]) -> str:
    """What to say next because of how the last thing ended, as HTML; "" where it went as it should."""
    if run.start is not None:
        return ""
    if broken and run.calls_made:
        return "<b>Undo</b> takes back what has broken it."
    if not run.calls_made or run.running() or not (last := run.done[-1]).outcome.refused:
        return ""
    if run.calls_made > 1 and isinstance(run.done[-2].event, Failing):
        return "It failed on purpose. What is left behind? Choose the next thing at <b>fails</b>, then <b>Call</b>."
    bound = any(line.startswith("out_devid") for done in run.done for line in done.outcome.wrote)
    if last.by_hand or any(each.is_made_by(last, run) for each in tries(run)) or (bound and not tries(run)):
        return ""
    return f"<b>{last.outcome.result}</b>: the picture stands where it was refused. Why there? <b>Undo</b> takes the call back."


def let_go(by_hand: bool, fails: bool, without: Sequence[str]) -> str:
    """What a machine to begin with ends: calls moved by hand, something that was to fail, protections that were out; or ""."""
    ended = ["calls run at once, not by hand"] * by_hand + ["nothing is to fail"] * fails
    back = [f"{', '.join(without)} {'is' if len(without) == 1 else 'are'} in the kernel again"] if without else []
    return f" New here: {'; '.join(ended + back)}." if ended or back else ""


def tries(run: Run) -> tuple[Try, ...]:
    """What there is to do on the machine of a preset; () on another."""
    return next((each.tries for each in PRESETS if each.name == run.setup.topology.name), ())


def next_try(run: Run) -> Try | None:
    """What to do next on the machine of a preset; None when nothing is left that can show something, or on another machine.

    While a call is moved by hand, that is what there is to do.
    """
    preset = next((each for each in PRESETS if each.name == run.setup.topology.name), None)
    if preset is None or run.running():
        return None
    left = [*preset.tries]
    for done in run.done[run.given :]:
        made = next((each for each in left if each.is_made_by(done, run)), None)
        if made is not None:
            left.remove(made)
    return next((each for each in left if each.can_show(run, preset.files)), None)


class Presets:
    """A button for each of them, behind a title; `begin` is given the one that was pressed."""

    def __init__(self, clicks: ClickFilter, begin: Callable[[Preset], None]) -> None:
        self.buttons = {each.name: button(each.name, each.says, clicks=clicks) for each in PRESETS}
        for each in PRESETS:
            self.buttons[each.name].on_click(lambda _, each=each: begin(each))
        self.children = (
            row("", text("begin", "Begin with"), *self.buttons.values()),
        )  # they go to a next line together
