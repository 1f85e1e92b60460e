"""The sandbox: a machine of your choice, every call there is, one after the other or interleaved by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ...machine import Machine
from ...machine.events import Began, Called, Event, Moved
from ...topology import Topology
from ...views.atlas import BIND, Atlas
from .. import controls as widgets
from ..alive import Alive
from ..fields import BadInput
from ..nodes import OUT_OF_SIGHT, always_shown
from ..press import Guard
from ..stage import Stage, opening
from ..still import ONLY_LIVE, Still, note
from ..style import above, button, row, style, text, told, words
from ..table import Table
from .common import Common
from .fails import Fails
from .form import CallForm
from .keep import Keep
from .keys import with_key
from .presets import Preset, Presets, places
from .run import Run
from .schedule import Schedule
from .setup import Setup
from .tell import broken_html, hint, say, table_lines, told_html, with_left_out
from .told import Told
from .world import World

AT_ONCE, BY_HAND = "at once", "by hand"


class Sandbox(Still):
    """Processes, devices, and every call that the simulator knows; what was done can be taken back, copied and saved.

    * `topology`: a Topology, or the name of a built-in one; `kernel`: the version whose rules hold;
    * `processes`: the programs that there are at first; `without`: protections to take out of the kernel;
    * `start`: makes the machine itself, e.g. that of a puzzle, with calls under way that the reader moves by hand; `later`:
      by thread, the calls that are to come after them;
    * everything else is an option of the player, as in `vfiosim.views.show`.

    `run` is the machine and what was done to it; `listeners` are called after every press, with the sandbox. Raises ValueError
    for a topology or a kernel that there is not.
    """

    def __init__(
        self,
        topology: Topology | str = "small",
        kernel: str = "v7.2",
        processes: Collection[str] = ("vmm",),
        *,
        without: Collection[str] = (),
        start: Callable[[], Machine] | None = None,
        later: Mapping[str, Sequence[Called]] | None = None,
        **options: Any,
    ) -> None:
        named = Topology.named(topology) if isinstance(topology, str) else topology
        self.run = Run(Setup(named, kernel, tuple(processes), tuple(without)), start)
        self.run.later = later or {}
        self.listeners: list[Callable[[Any], None]] = []
        self.guard = Guard(lambda: self._say("A click came while a run was under way; it was ignored.", "wrong"))
        self._make_controls()
        seen = {"atlas": Atlas(BIND if start is None else ()), "hide": OUT_OF_SIGHT}
        self.stage = Stage(self.run.shown(), **{**seen, "keep": always_shown(self.run.machine), **options})
        self.stage.show(self.run.shown(), 0, self.run.room())
        self._keep = "keep" not in options
        super().__init__([style(), *self._arranged(by_hand=start is not None)])
        self.add_class("vfiosim-lab")
        self.add_class("vfiosim-sandbox")
        self._refresh()
        self._say("Ready. The picture shows how things stand now.")

    def _arranged(self, by_hand: bool) -> list[widgets.Widget]:
        """The calls in rows above the picture; where calls are under way, those who move them come first."""
        more = widgets.VBox([self.processes, self.common.more])
        top, parts = self._way_back(more), [more, self.world, self.keep]
        run = row("", self.when, self.call, self.lane, self.fails)
        calls = [self.hint, self.table, row("", self.process, *self.common.first.children), *self.form.children, run]
        said, running = [self.result, self.broken], [self.schedule, self.next_calls]
        own = [
            *self.presets.buttons.values(),
            *self.processes.children,
            *self.common.buttons.values(),
            self.call,
            self.undo,
            self.redo,
            self.reset,
        ]
        asked = [Alive(self), told(*(each for each in own if isinstance(each, widgets.Button)))]
        if by_hand:
            return [*running, *said, top, *parts, self.stage, *calls, *asked]
        return [top, *parts, above([*calls, *said], [*running, self.stage]), *asked]

    # ---- the controls

    def _make_controls(self) -> None:
        self.hint, self.result = text("vfiosim-hint"), text("vfiosim-result")
        self.table = Table(self._choose, lambda: self.stage.bring_out(()))
        self.broken = text("vfiosim-broken")
        self.process = widgets.Dropdown(
            options=self.run.alive(), description="who", tooltip="Which process makes the calls"
        )
        self.process.observe(lambda _: self._turned(), "value")
        self._quiet = False
        self.common = Common(lambda: self.run, self._who, self.guard, self._do)
        self.form = CallForm(lambda: self.run, self._who)
        self.begin = self._button("New process", self.common.begin, "a program with nothing open")
        self.fork = self._button("Fork", self.common.fork, "a child that shares every open file")
        self.kill = self._button("Kill", self.common.kill, "end the process: all its descriptors are closed")
        self.processes = row("Processes", self.begin, self.common.new, self.fork, self.kill)
        self.presets = Presets(self.guard, self._begin_with)
        self.when = widgets.ToggleButtons(options=[AT_ONCE, BY_HAND], tooltips=["to its end", "you are the scheduler"])
        self.lane = widgets.Text("A", description="thread", tooltip="The name of the thread that makes the call")
        widgets.unfold(self.lane, False)
        self.when.observe(lambda change: widgets.unfold(self.lane, change["new"] == BY_HAND), "value")
        self.call = button("Call", "make the call that is chosen above", primary=True, guard=self.guard)
        self.call.on_click(lambda _: self._press(self._call))
        self.fails = Fails(self.guard, lambda: self._press(self._look))
        self.schedule = Schedule(self.guard, lambda moved: self._press(lambda: self.run.do(moved)))
        self.next_calls = row("")
        self._begins = {
            lane: self._button(f"{lane}: next call", partial(self._next_call, lane), "begin it; nothing happens yet")
            for lane, calls in self.run.later.items()
            if calls
        }
        self.world = World(self.run.setup, self.guard, self._boot)
        self.keep = Keep(lambda: self.run, self.guard, self._load)

    def _button(self, name: str, make: Callable[[], Event], tip: str) -> widgets.Button:
        made = button(name, tip, guard=self.guard)
        made.on_click(lambda _: self._do(make))
        return made

    def _way_back(self, more: widgets.Widget) -> widgets.Box:
        self.undo = with_key(button("Undo", "take the last call or step back", guard=self.guard), "u")
        self.redo = with_key(button("Redo", "do again what was taken back", guard=self.guard), "r")
        self.reset = button("Reset", "the machine as it was at first", guard=self.guard)
        self.undo.quick = self.redo.quick = True
        self.undo.on_click(lambda _: self._press(self._undo))
        self.redo.on_click(lambda _: self._press(self._redo))
        self.reset.on_click(lambda _: self._press(self._reset))
        self.folds = {
            name: widgets.ToggleButton(value=False, description=name, tooltip=tip, layout={"width": "auto"})
            for name, tip in (
                ("More calls", "processes, files, memory, sockets, drivers, time"),
                ("Machine", "devices, kernel version, protections to take out"),
                ("Code, save, load", "everything that was done, as Python or as a text to keep"),
            )
        }
        for fold, part in zip(self.folds.values(), (more, self.world, self.keep), strict=True):
            widgets.unfold(part, False)
            fold.observe(lambda change, part=part: self._fold(part, change["new"]), "value")
        begin = self.presets.children if self.run.start is None else ()
        made = row("", self.undo, self.redo, self.reset, *self.folds.values(), *begin)
        made.add_class("vfiosim-bar")
        return made

    def _fold(self, part: widgets.Widget, shown: bool) -> None:
        widgets.unfold(part, shown)
        if part is self.world:
            self.world.unfold()
        self.keep.look_again()

    def _who(self) -> str:
        return str(self.process.value or "")

    def _choose(self, process: str, fd: int) -> None:
        """A descriptor is chosen for the next call."""
        file = self.run.choose(process, fd)
        self.process.value = process
        self.common.look_again(fd)
        self.form.look_again(fd)
        self.stage.bring_out([self.run.machine.processes[process].task.files.oid, file.oid])

    def _turned(self) -> None:
        """Another process was chosen."""
        if not self._quiet:
            self.common.look_again()
            self.form.look_again()

    # ---- what they do

    def _do(self, make: Callable[[], Event]) -> None:
        self._press(lambda: self.run.do(make()))

    def _call(self) -> Told:
        """The call of the form, with the memory that it needs."""
        by_hand = self.when.value == BY_HAND
        memory, call = self.form.parts_of_call(by_hand, str(self.lane.value).strip() or "A")
        if by_hand and call.lane in self._lanes():
            raise ValueError(f"the thread {call.lane!r} is in a call already; give this one another name")
        addresses = [self.run.do(each, more=True).number for each in memory]
        if (failing := self.fails.chosen()) is not None:
            self.run.do(failing, more=True)
        told = self.run.do(self.form.with_addresses(call, addresses))
        self.fails.wanted.value = False
        return told

    def _look(self) -> None:
        memory, call = self.form.parts_of_call()
        found = self.run.faultable(memory, partial(self.form.with_addresses, call))
        self._say(self.fails.offer(found))

    def _lanes(self) -> list[str]:
        threads = [self.run.machine.calls[number].thread for number in self.run.running()]
        return [thread.prefix or thread.label for thread in threads]

    def _undo(self) -> None:
        taken = self.run.undo()
        self._say("Taken back; Redo does it again." if taken else "There is nothing to take back.")

    def _redo(self) -> Told | None:
        setup = self.run.setup
        told = self.run.redo()
        if told is None:
            self._say("There is nothing to do again." if setup is self.run.setup else "The machine has booted again.")
        return told

    def _reset(self) -> None:
        self.run.reset()
        self._say("Everything is as at the beginning; Redo brings back what was done, one by one.")

    def _begin_with(self, preset: Preset) -> None:
        left_out = self.run.boot(preset.setup(self.run.setup.kernel), given=preset.given)
        self._booted(f"{preset.name}: the machine has booted, and files are open. Undo leads back.", left_out)

    def _boot(self, setup: Setup, keep: bool) -> None:
        self._booted("The machine has booted.", self.run.boot(setup, keep))

    def _load(self, saved: str) -> None:
        self.run.load(saved)
        self._booted("Loaded, and done again.")

    def _booted(self, said: str, left_out: Sequence[str] = ()) -> None:
        self._after(None)
        self._say(with_left_out(said, left_out), "wrong" if left_out else "")

    def _press(self, what: Callable[[], Told | None]) -> None:
        """Do what a button stands for, and show what came of it. Whatever goes wrong is said in words."""
        self.add_class("vfiosim-busy")
        before = self.run.descriptors(self._who()) if self._who() in self.run.alive() else {}
        try:
            told = what()
            self._after(before, told)
            if told is not None:  # last: who can read how the call ended can walk through it
                self.result.value = told_html(told, len(self.run.shown()))
        except BadInput as problem:
            self._say(f"Nothing was called; see what is said at {problem}.", "wrong")
        except ValueError as problem:
            self._say(f"Nothing was called: {problem}.", "wrong")
        finally:
            self.remove_class("vfiosim-busy")

    # ---- what they show

    def _after(self, before: dict[int, Any] | None, told: Told | None = None) -> None:
        self._refresh(before)
        hand = bool(self.run.done) and isinstance(self.run.done[-1].action, Moved)
        trace = self.run.shown()
        self.stage.bring_out(())
        if self._keep:
            self.stage.keep(always_shown(self.run.machine))
        if len(self.run.done) == self.run.given and self.run.start is None:
            self.stage.forget(places(self.run.setup.topology.name))
        self.stage.show(trace, -1 if hand or told is None else opening(trace), self.run.room())
        for listener in self.listeners:
            listener(self)

    def _refresh(self, before: dict[int, Any] | None = None) -> None:
        """Bring everything in line with the machine."""
        alive = self.run.alive()
        if list(self.process.options) != alive:
            was, last = self._who(), self.run.done[-1].action if self.run.done else None
            self._quiet = True
            self.process.options = alive
            wanted = last.process if isinstance(last, Began) else was
            self.process.value = wanted if wanted in alive else next(iter(alive), None)
            self._quiet = False
        widgets.unfold(self.process, len(alive) > 1)
        for control in (self.call, self.fork, self.kill):
            control.disabled = not alive
        self.table.show(table_lines(self.run))
        self.common.look_again()
        self.form.look_again(self._new_fd(before))
        self.schedule.look_again(self.run)
        self.world.follow(self.run.setup, self.run.without.met)
        self.keep.look_again()
        self.broken.value = broken_html(self.run.machine.check())
        self.undo.disabled, self.redo.disabled = not self.run.can_undo, not self.run.undone
        press, self.hint.value = hint(self.run, self._who())
        for name in ("open device", "open iommufd"):
            each = self.common.buttons[name]
            (each.add_class if name == press else each.remove_class)("vfiosim-primary")
        self._next_lane()
        self._offer_next()

    def _new_fd(self, before: dict[int, Any] | None) -> int | None:
        """A descriptor that has just come into being and that the form turns to; what is only an argument of others stays aside."""
        if before is None or self._who() not in self.run.alive():
            return None
        new = {fd: file for fd, file in self.run.descriptors(self._who()).items() if fd not in before}
        wanted = [
            fd for fd, file in new.items() if file.f_op.name.startswith(("vfio device", "vfio group", "kvm", "iommufd"))
        ]
        device = any(file.f_op.name == "vfio device" for file in before.values())
        aside = device and all(new[fd].f_op.name == "iommufd" for fd in wanted)
        return None if not wanted or aside else wanted[-1]

    def _next_call(self, lane: str) -> Called:
        """The next call of a thread whose program is known."""
        return self.run.to_come()[lane][0]

    def _offer_next(self) -> None:
        ready = [self._begins[lane] for lane in self.run.to_come() if lane not in self._lanes()]
        if list(self.next_calls.children) != ready:
            self.next_calls.children = ready

    def _next_lane(self) -> None:
        """A name for the next thread that is moved by hand."""
        taken = self._lanes()
        if str(self.lane.value) in taken:
            self.lane.value = next(
                name for name in (chr(65 + n % 26) * (1 + n // 26) for n in range(1000)) if name not in taken
            )

    def _say(self, sentence: str, sort: str = "") -> None:
        self.result.value = say(sentence, sort)

    @property
    def message(self) -> str:
        """The line about the last press, in words."""
        return words(self.result.value)

    def still(self) -> str:
        """How things stand, and the steps of the last thing that was done."""
        last, steps = (self.result.value, self.stage.still()) if self.run.done else (f"<i>{ONLY_LIVE}</i>", "")
        return f"{self.table.value}{note(last)}{steps}"

    def in_words(self) -> str:
        """The descriptor tables, the line about the last press, and its steps."""
        lines = [words(self.table.value), self.message, self.stage.in_words() if self.run.done else ""]
        return "\n".join(lines).rstrip()
