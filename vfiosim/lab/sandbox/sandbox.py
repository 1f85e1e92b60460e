"""The sandbox: a machine of your choice, every call there is, one after the other or interleaved by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ...machine import Machine
from ...machine.events import Began, Called, Event
from ...topology import Topology
from ...views.alone import Close
from ...views.atlas import BIND, Atlas
from .. import controls as widgets
from ..alive import Alive
from ..describe import broken_html, hint, table_lines, with_left_out
from ..listeners import listeners
from ..outcome import Outcome
from ..run import Run
from ..run_view import RunView
from ..setup import Setup
from ..static_fallback import ONLY_LIVE, note
from ..style import above, legend, row, style, text
from .fails import Fails
from .folds import folds
from .form import CallForm
from .ideas import Ideas
from .keys import with_key
from .machine_pane import MachinePane, told
from .presets import Preset, Presets, Try, came_of_it, let_go, next_try, places
from .save_pane import SavePane
from .schedule import Schedule, replay, to_replay
from .shortcuts import Shortcuts

AT_ONCE, BY_HAND = "at once", "by hand"
OPENS = ("open device", "open iommufd")


class Sandbox(RunView):
    """Processes, devices, and every call that the simulator knows; what was done can be taken back, copied and saved.

    * `topology`: a Topology, or the name of a built-in one; `kernel`: the version whose rules hold;
    * `processes`: the programs that there are at first; `without`: protections to take out of the kernel;
    * `start`: makes the machine itself, e.g. that of a puzzle, with calls under way that the reader moves by hand; `later`:
      by thread, the calls that are to come after them;
    * everything else is an option of the player, as in `vfiosim.views.show`.

    Raises ValueError for a topology or a kernel that there is not.
    """

    looks = "lab sandbox"

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
        run = Run(Setup(named, kernel, tuple(processes), tuple(without)), start)
        run.later = later or {}
        own = {"atlas": Atlas(BIND)} if start is None else {"atlas": Close(), "only": run.rehearsal().view, "read": ()}
        super().__init__(run, {**own, **options})
        self._make_controls()
        self.trace_pane.show(run.steps, 0, run.reserve())
        self.children = [style(), *self._arranged(by_hand=start is not None)]
        self._ready()

    def _arranged(self, by_hand: bool) -> list[widgets.Widget]:
        """The calls in rows above the picture; where calls are under way, those who move them come first."""
        way_back, panes = self._way_back(), widgets.Box([self.machine_pane, self.save_pane], kind="panes")
        panes.children += (*listeners("panes.js"),)
        files = row("", self.table, self.process, self.shortcuts.first)
        call = row("Next", self.form, self.call, self.hand, self.thread, self.fails)
        calls = [files, call]
        said, running = [self.machine_pane.taken, self.result, self.hint, self.broken], [self.schedule, self.next_calls]
        asked = [Alive(self), legend(*self.presets.buttons.values(), *self.buttons.values())]
        if by_hand:
            said.remove(self.result)
            below = widgets.Box([way_back, self.result], kind="below")
            return [*running, below, *said, self.trace_pane, panes, *calls, *asked]
        pressed = above([*calls, widgets.Box(said, kind="answered")], [*running, self.trace_pane])
        return [way_back, widgets.Box([panes, pressed], kind="over"), *asked]

    # ---- the controls

    def _make_controls(self) -> None:
        self.hint = text("hint")
        self.broken = text("broken")
        self.process = widgets.Dropdown(
            options=self.run.alive(), description="who", tooltip="Which process makes the calls"
        )
        self.process.observe(lambda _: self._on_selection(), "value")
        self._quiet = False
        self.form = CallForm(lambda: self.run, self._who)
        self.ideas = Ideas()
        self.listeners.append(lambda _: self.ideas.look(self.run))
        self.presets = Presets(self.clicks, self._begin_with)
        self.when = widgets.ToggleButtons(options=[AT_ONCE, BY_HAND], tooltips=["to its end", "you are the scheduler"])
        self.thread = widgets.Text(
            "A", description="thread", tooltip="The name of the thread that makes the call", kind="thread-name"
        )
        self.hand = text("by-hand", "<b>By hand:</b> a call waits for your moves.")
        self._unfold_thread(False)
        self.when.observe(lambda change: self._unfold_thread(change["new"] == BY_HAND), "value")
        self.call = self.button("Call", self._call, "make the call that is chosen beside it", primary=True)
        self.fails = Fails(self.clicks, lambda: self._press(self._look))
        how = row(
            "", self.when, self.fails.wanted, text("does", "what is no call, such as <b>Kill</b>, is done at once")
        )
        self.shortcuts = Shortcuts(self, self._who, ("By hand, or failing", how), self._do)
        self.schedule = Schedule(self.clicks, lambda moved: self._press(lambda: self.run.do(moved)))
        self.next_calls = row("")
        self.replay = self.button("Replay my schedule", self._replay, "move the calls as on the machine before")
        self._begins = {
            thread: self.button(
                f"{thread}: next call", partial(self._begin_next, thread), "begin it; nothing happens yet"
            )
            for thread, calls in self.run.later.items()
            if calls
        }
        self.machine_pane = MachinePane(self.run.setup, self.clicks, self._boot)
        self.save_pane = SavePane(lambda: self.run, self.clicks, self._load)

    def _way_back(self) -> widgets.Box:
        self.undo = with_key(self.button("Undo", self._undo, "take the last press back, a refused call too"), "u")
        self.redo = with_key(self.button("Redo", self._redo, "do again what was taken back"), "r")
        self.reset = self.button("Reset", self._reset, "the machine as it was at first")
        self.undo.quick = self.redo.quick = True
        panes = self.machine_pane, self.save_pane
        parts = (
            ("More calls", "processes, files, memory, sockets, drivers, time", self.shortcuts),
            ("Machine", "devices, kernel version, protections to take out", self.machine_pane),
            ("Code, save, load", "everything that was done, as Python or as a text to keep", self.save_pane),
        )
        self.folds = folds(parts, panes, self._opened)
        begin = (*self.presets.children, self.ideas.wanted, self.ideas) if self.run.start is None else ()
        back = (self.undo, self.redo, self.reset)
        return widgets.Box([*back, *self.folds.values(), *begin, self.shortcuts], kind="row bar")

    def _opened(self, part: widgets.Box) -> None:
        if part is self.machine_pane:
            self.machine_pane.unfold()
        self.save_pane.refresh()

    def _who(self) -> str:
        return str(self.process.value or "")

    def _files(self) -> dict[int, Any]:
        return self.run.descriptors(self._who()) if self._who() in self.run.alive() else {}

    def _choose(self, process: str, fd: int) -> None:
        super()._choose(process, fd)
        self.process.value = process
        self.shortcuts.refresh(fd)
        self.form.refresh(fd)

    def _on_selection(self) -> None:
        """Another process was chosen."""
        if not self._quiet:
            self.shortcuts.refresh()
            self.form.refresh()

    # ---- what they do

    def _unfold_thread(self, by_hand: bool) -> None:
        for each in (self.hand, self.thread):
            widgets.unfold(each, by_hand)

    def _do(self, event: Event) -> Outcome:
        """Do this; a call at once or by hand, as the reader has chosen."""
        return self.run.do(self._scheduled(event) if isinstance(event, Called) else event)

    def _scheduled(self, call: Called) -> Called:
        """The call, of the thread that is named where the reader is the scheduler."""
        if self.when.value != BY_HAND:
            return call
        thread = str(self.thread.value).strip() or "A"
        if thread in self._threads():
            raise ValueError(f"the thread {thread!r} is in a call already; give this one another name")
        return replace(call, thread=thread, by_hand=True)

    def _call(self) -> Outcome:
        """The call of the form, with the memory that it needs."""
        memory, made = self.form.parts_of_call()
        call = self._scheduled(made)
        addresses = [self.run.do(each, more=True).number for each in memory]
        if (failing := self.fails.chosen()) is not None:
            self.run.do(failing, more=True)
        outcome = self.run.do(self.form.with_addresses(call, addresses))
        self.fails.was_used(outcome.refused)
        return outcome

    def _look(self) -> None:
        memory, call = self.form.parts_of_call()
        found = self.run.faultable(memory, partial(self.form.with_addresses, call))
        self._say(self.fails.offer(found))

    def _threads(self) -> list[str]:
        threads = [self.run.machine.calls[number].thread for number in self.run.running()]
        return [thread.prefix or thread.label for thread in threads]

    def _undo(self) -> None:
        self.thread.value = "A"  # or the next that is free
        super()._undo()

    def _redo(self) -> Outcome | None:
        setup = self.run.setup
        outcome = self.run.redo()
        if outcome is None:
            self._say("There is nothing to do again." if setup is self.run.setup else "The machine has booted again.")
        return outcome

    def _begin_anew(self) -> None:
        """Nothing has been called as yet: no thread has a name, and nothing is to fail."""
        self.thread.value, self.fails.wanted.value = "A", False

    def _reset(self) -> None:
        self._begin_anew()
        self.run.reset()
        self._say("Everything is as at the beginning; Redo brings back what was done, one by one.")

    def _begin_with(self, preset: Preset) -> None:
        gone = let_go(self.when.value == BY_HAND, self.fails.wanted.value, self.run.setup.without)
        self.when.value = AT_ONCE  # a race of the machine before is over
        left_out = self.run.boot(preset.setup(self.run.setup.kernel), given=preset.given)
        self._booted(f"{preset.name}: {preset.says}.{gone}", left_out)

    def _boot(self, setup: Setup, keep: bool) -> str:
        left_out = self.run.boot(setup, keep)
        waits = "Your calls stand at their beginning: move them, or press “Replay my schedule”."
        self._booted(waits if to_replay(self.run) else "The machine has booted.", left_out)
        out = f" Taken out: {told(setup.without)}." if setup.without else ""
        return f"{self.message}{out}"

    def _replay(self) -> None:
        left_out = replay(self.run)
        self._after(None)
        self._say(with_left_out("Done again, as you moved them before.", left_out), "wrong" if left_out else "")

    def _load(self, saved: str) -> None:
        differs = self.run.load(saved)
        self._booted(f"Loaded, and done again{differs and '; but ' + differs}.")

    def _booted(self, said: str, left_out: Sequence[str] = ()) -> None:
        self._begin_anew()
        self._after(None)
        self._say(with_left_out(said, left_out), "wrong" if left_out else "")

    # ---- what they show

    def _after(self, before: dict[int, Any] | None, outcome: Outcome | None = None) -> None:
        if len(self.run.done) == self.run.given and self.run.start is None:
            self.trace_pane.forget(places(self.run.setup.topology.name))
        super()._after(before, outcome)

    def _refresh(self, before: dict[int, Any] | None) -> None:
        alive = self.run.alive()
        if list(self.process.options) != alive:
            was, last = self._who(), self.run.done[-1].event if self.run.done else None
            self._quiet = True
            self.process.options = alive
            wanted = last.process if isinstance(last, Began) else was
            self.process.value = wanted if wanted in alive else next(iter(alive), None)
            self._quiet = False
        widgets.unfold(self.process, len(alive) > 1)
        for name in ("Call", "Fork", "Kill"):
            self.buttons[name].disabled = not alive
        self.table.show(table_lines(self.run))
        self.shortcuts.refresh()
        self.form.refresh(self._new_fd(before))
        self.schedule.refresh(self.run)
        waits = self.run.setup.without if to_replay(self.run) else ()  # it has not come as far yet
        self.machine_pane.follow(self.run.setup, {*self.run.without.met, *waits})
        self.save_pane.refresh()
        self.broken.value = broken_html(self._broken)
        self.undo.disabled, self.redo.disabled = not self.run.can_undo, not self.run.undone
        self._suggest()
        self._next_thread()
        self._offer_next()

    def _suggest(self) -> None:
        """Say what may be done next; that is what is chosen, and the one button that stands out."""
        wanted, press = next_try(self.run), "Call"
        if told := came_of_it(self.run, self._broken):
            self.hint.value = told
        elif wanted is not None:
            self.hint.value = f"<b>Try:</b> {wanted.says}"
        else:
            press, self.hint.value = hint(self.run, self._who())
        if wanted is not None and wanted is not self._tried:
            self.form.turn_to(wanted.fd, wanted.call, wanted.fields)
        self._tried = wanted
        self.hint.value = f"{self.form.turned} {self.hint.value}".strip()
        first = press if press in OPENS else "Call"
        for name in (*OPENS, "Call"):
            each = self.buttons[name]
            (each.add_class if name == first else each.remove_class)("vfiosim-primary")

    _tried: Try | None = None  # what was suggested last

    def _new_fd(self, before: dict[int, Any] | None) -> int | None:
        """A new descriptor that the form turns to: none that is an argument of others, and none while a call is named to try."""
        if before is None or self._who() not in self.run.alive():
            return None
        new = {fd: file for fd, file in self.run.descriptors(self._who()).items() if fd not in before}
        wanted = [
            fd for fd, file in new.items() if file.f_op.name.startswith(("vfio device", "vfio group", "kvm", "iommufd"))
        ]
        device = any(file.f_op.name == "vfio device" for file in before.values())
        aside = (device and all(new[fd].f_op.name == "iommufd" for fd in wanted)) or next_try(self.run) is not None
        return None if not wanted or aside else wanted[-1]

    def _begin_next(self, thread: str) -> Outcome:
        """Begin the next call of a thread whose program is known."""
        return self.run.do(self.run.to_come()[thread][0])

    def _offer_next(self) -> None:
        ready = [self._begins[thread] for thread in self.run.to_come() if thread not in self._threads()]
        ready += [self.replay] if to_replay(self.run) else []
        if list(self.next_calls.children) != ready:
            self.next_calls.children = ready

    def _next_thread(self) -> None:
        """A name for the next thread that is moved by hand."""
        taken = self._threads()
        if str(self.thread.value) in taken:
            self.thread.value = next(
                name for name in (chr(65 + n % 26) * (1 + n // 26) for n in range(1000)) if name not in taken
            )

    def static_html(self) -> str:
        """How things stand, and the steps of the last thing that was done."""
        if not self.run.done:
            return f"{self.table.value}{note(f'<i>{ONLY_LIVE}</i>')}"
        return f"{self.table.value}{note(self.result.value)}{self.trace_pane.static_html()}"
