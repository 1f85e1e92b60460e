"""What is wanted most, one press away: open a device, an iommufd; then close, dup, mmap, processes, passing files on, drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...kernel.fs.file import O_RDWR
from ...kernel.mmap import MAP_SHARED
from ...machine.events import Began, Called, Event, Forked, Killed, Mapped, Slept
from .. import controls as widgets
from ..fields import BadInput, NumberField
from ..nodes import DeviceNode, device_nodes
from ..outcome import Outcome
from ..run_view import Press, RunView
from .inputs import TextField

Button = tuple[str, Callable[[], Event], str]  # its name, what it does, and its tip


class Shortcuts(widgets.Box):
    """Buttons in groups, of which one is seen at a time; each makes an event, which `do` does, of the program `process`.

    `first` are those that are always seen; `others` is a group that is none of these: its name and what is in it.
    """

    def __init__(
        self,
        bench: RunView,
        process: Callable[[], str],
        others: tuple[str, widgets.Widget],
        do: Callable[[Event], Outcome],
    ) -> None:
        self._bench, self._process, self._do = bench, process, do
        self.buttons: dict[str, widgets.Button] = {}
        self.device = widgets.Dropdown(description="device", tooltip="Which device", kind="whole")
        self.fd = widgets.Dropdown(description="fd", tooltip="Which descriptor")
        self.address = NumberField("address", "", high=(1 << 64) - 1, tip="where the mapping begins")
        self.length = NumberField("length", 4096, high=1 << 40, tip="bytes")
        self.socket = widgets.Dropdown(description="socket", tooltip="The socket to send or receive with")
        self.any_device = widgets.Dropdown(description="device", tooltip="Which device, whatever its driver")
        self.driver = TextField("driver", "vfio-pci", tip="the name of a driver", choices=())
        self.new = TextField("new name", "", tip="the name of a new process; empty for the next one", wrong=self._taken)
        self.time = NumberField("ms", 1000, high=10**9, tip="how many milliseconds pass")
        self.first = self._row(*self._opening())
        groups = {name: self._row(*parts) for name, parts in self._groups().items()} | dict([others])
        self.group = widgets.Dropdown(
            options=[*groups.items()], description="more", tooltip="Which calls", kind="group-of-calls"
        )
        self.group.observe(lambda _: self._unfold(), "value")
        super().__init__([self.group, *groups.values()], kind="row common")
        self._unfold()

    def _unfold(self) -> None:
        for _, each in self.group.options:
            widgets.unfold(each, each is self.group.value)

    # ---- the rows

    def _row(self, *parts: widgets.Widget | Button) -> widgets.Box:
        made = self._bench.row("", *(self._part(*part) if isinstance(part, tuple) else part for part in parts))
        names = [part[0] for part in parts if isinstance(part, tuple)]
        self.buttons |= {name: self._bench.buttons[name] for name in names}
        return made

    def _part(self, name: str, make: Callable[[], Event], tip: str) -> tuple[str, Press, str]:
        return name, lambda: self._do(make()), tip

    def _opening(self) -> tuple[widgets.Widget | Button, ...]:
        iommufd = "open /dev/iommu: a new iommufd, which says what memory its devices may reach"
        return (
            self.device,
            ("open device", lambda: self._open(self._device().path), "open the node of the chosen device"),
            ("open iommufd", lambda: self._open("/dev/iommu"), iommufd),
        )

    def _groups(self) -> dict[str, tuple[widgets.Widget | Button, ...]]:
        opened, called, on_fd, write = self._open, self._called, self._on_fd, self._write
        group = "open the old group node of the chosen device: the way to devices before there was BIND"
        container = "open /dev/vfio/vfio, the old container: groups are put into it, and share a memory map"
        kvm = "open /dev/kvm; then KVM_CREATE_VM on it makes a virtual machine, which can be told of VFIO files"
        return {
            "Files": (
                self.fd,
                ("close", lambda: on_fd("close"), "give the descriptor back"),
                ("dup", lambda: on_fd("dup"), "a second descriptor for the same open file"),
                ("eventfd", lambda: called("eventfd"), "a new eventfd"),
                ("memfd", lambda: called("memfd", 4096), "a new memory file of 4096 bytes"),
                ("other file", lambda: called("plain", "file"), "a file that VFIO knows nothing of"),
            ),
            "Group, container, KVM": (
                ("open group", lambda: opened(self._device().group), group),
                ("open container", lambda: opened("/dev/vfio/vfio"), container),
                ("open kvm", lambda: opened("/dev/kvm"), kvm),
            ),
            "Memory": (
                self.length,
                ("map memory", lambda: Mapped(self._process(), self._size()), "fresh memory of the process"),
                ("mmap fd", self._mmap, "map the file of the chosen descriptor (Files)"),
                self.address,
                ("munmap", lambda: called("munmap", self.address.read(), self.length.read()), "unmap this range"),
            ),
            "Pass files on": (
                ("socketpair", lambda: called("socketpair"), "two connected sockets; a fork shares them"),
                self.socket,
                ("send fd", self._send_fd, "send the chosen descriptor (Files) over the socket"),
                ("receive fd", lambda: called("recvmsg_fds", self._socket()), "take a file from the socket"),
            ),
            "Processes": (
                self.new,
                ("New process", lambda: Began(self._name()), "a program with nothing open"),
                ("Fork", lambda: Forked(self._process(), self._name()), "a child that shares every open file"),
                ("Kill", lambda: Killed(self._process()), "end the process: all its descriptors are closed"),
            ),
            "Drivers": (
                self.any_device,
                self.driver,
                ("unbind driver", lambda: write("unbind"), "write the device's address into the driver's `unbind`"),
                ("bind driver", lambda: write("bind"), "write the device's address into the driver's `bind`"),
            ),
            "Time": (
                self.time,
                ("let time pass", lambda: Slept(self.time.read()), "waits with a time limit may end"),
            ),
        }

    # ---- what they do

    def _called(self, name: str, *arguments: Any) -> Called:
        return Called(self._process(), name, arguments)

    def _open(self, path: str) -> Called:
        return self._called("open", path, O_RDWR)

    @staticmethod
    def _chosen(control: widgets.Dropdown, what: str) -> Any:
        if control.value is None:
            raise ValueError(f"there is nothing to choose for {what}")
        return control.value

    def _device(self) -> DeviceNode:
        node: DeviceNode = self._chosen(self.device, "a device")
        return node

    def _socket(self) -> Any:
        return self._chosen(self.socket, "a socket")

    def _on_fd(self, name: str) -> Called:
        return self._called(name, self._chosen(self.fd, "a descriptor; open something first"))

    def _size(self) -> int:
        size: int = self.length.read()
        if not 0 < size <= 1 << 24:
            self.length.complain("1 to 16777216 bytes, please")
            raise BadInput("length")
        return size

    def _mmap(self) -> Called:
        fd = self._chosen(self.fd, "a descriptor; open something first")
        return self._called("mmap", self.length.read(), 3, MAP_SHARED, fd, 0, None)

    def _send_fd(self) -> Called:
        socket, fd = self._socket(), self._chosen(self.fd, "a descriptor")
        return self._called("sendmsg_fds", socket, (fd,))

    def _write(self, what: str) -> Called:
        bus, address = self._chosen(self.any_device, "a device")
        return self._called("write_file", f"/sys/bus/{bus}/drivers/{self.driver.read().strip()}/{what}", address)

    def _taken(self, name: str) -> str:
        return f"a living process is called {name}" if name in self._bench.run.alive() else ""

    def _name(self) -> str:
        if str(self.new.text.value).strip():
            return str(self.new.read()).strip()
        taken = self._bench.run.machine.processes
        return next(name for name in (f"p{n}" for n in range(2, len(taken) + 3)) if name not in taken)

    # ---- what there is to choose from

    def refresh(self, chosen: int | None = None) -> None:
        """The machine has changed, or a descriptor was chosen."""
        run, process = self._bench.run, self._process()
        table = run.descriptors(process) if process in run.alive() else {}
        nodes = device_nodes(run.machine.topology)
        _offer(self.device, [(node.label[:60], node) for node in nodes])
        widgets.unfold(self.device, len(nodes) > 1)
        _offer(self.fd, [(f"{fd} → {file.label}", fd) for fd, file in table.items()], newest=True)
        sockets = [(f"{fd} → {file.label}", fd) for fd, file in table.items() if file.f_op.name == "socket"]
        _offer(self.socket, sockets)
        for control in (self.fd, self.socket):
            if chosen in [fd for _, fd in control.options]:
                control.value = chosen
        devices = run.machine.topology.devices
        _offer(self.any_device, [(spec.name, (spec.bus, spec.address)) for spec in devices])
        options = tuple(run.machine.built.drivers)
        if self.driver.text.options != options:
            self.driver.text.options = options
        mapped = [
            done.outcome
            for done in run.done
            if isinstance(done.event, Mapped) or getattr(done.event, "name", "") == "mmap"
        ]
        if not str(self.address.text.value) and mapped and isinstance(mapped[-1].number, int):
            self.address.set(hex(mapped[-1].number))


def _offer(control: widgets.Dropdown, options: list[tuple[str, Any]], newest: bool = False) -> None:
    """Other options; what was chosen stays chosen if it is there still."""
    if list(control.options) == options:
        return
    was, values = control.value, [value for _, value in options]
    with control.hold_sync():
        control.options = options
        control.value = was if was in values else (values[-1 if newest else 0] if values else None)
