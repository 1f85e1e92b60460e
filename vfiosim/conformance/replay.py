"""One scenario of a recording, replayed on a simulated machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ..engine import KernelOops
from ..kernel import Unsupported
from ..machine import Blocked, Call, Machine, Process
from ..uapi import KernelError
from .abi import holds_new_fd, returns_fd
from .arguments import Arguments
from .calls import Calls, Prepared
from .scope import Scope, Step

_SETTLE: Final = 0.6  # s after which a call in a thread counts as pending
_JOIN: Final = 3  # s that a join waits
_PATIENCE: Final = 5  # s after which a call counts as blocked

Result = dict[str, Any]
Outcome = tuple[int, str | None, dict[str, Any]]  # return value, errno, what else can be seen


class StartedCall:
    """A call that was made: how to read its answer, and that answer once it is there."""

    def __init__(self, step: Step, prepared: Prepared, call: Call | None = None) -> None:
        self.step = step
        self.call = call
        self.outcome: Outcome | None = None
        self.error: KernelError | None = None
        self.afterwards: Callable[[], object] | None = None
        self._prepared = prepared

    def returned(self, value: Callable[[], Any]) -> None:
        """The call has ended: note what `value` returns or which errno it raises. Raises Unsupported, KernelOops, Blocked."""
        try:
            ret, out = self._prepared.answer(value())
            self.outcome = ret, None, out
        except Unsupported:
            raise
        except KernelError as error:
            self.error = error
            self.outcome = -1, error.name, self._prepared.after_error()
        if self.afterwards is not None:
            self.afterwards()

    def look(self) -> bool:
        """Look whether a call that was blocked has ended by now."""
        if self.outcome is None and self.call is not None and self.call.state != "blocked":
            self.returned(self.call.value)
        return self.outcome is not None


class Actor:
    """A process of the scenario."""

    def __init__(self, process: Process, arguments: Arguments) -> None:
        self.process = process
        self.state = "ok"  # ok, blocked, gone, exited, killed
        self.threads: dict[str, StartedCall] = {}
        self.arguments = arguments

    @property
    def gone(self) -> bool:
        """Has the process ended, with every call it was in?"""
        pending = any(call.process is self.process for call in self.process.machine.pending)
        return not self.process.task.alive.value and not pending

    def kill(self) -> None:
        """End the process from outside, or as much of it as does not wait for something."""
        self.state = "killed"
        if self.process.task.alive.value:
            with suppress(Blocked):
                self.process.kill()


class Playback:
    """Runs the steps of a scenario one after the other; each answers as the recording program would have written it.

    `machine` has just booted.
    """

    def __init__(self, machine: Machine, devices: Mapping[str, Mapping[str, Any]], scenario: Mapping[str, Any]) -> None:
        self.machine = machine
        self.scenario = scenario
        self.scope = Scope(devices)
        self.actors: dict[str, Actor] = {}
        self.everybody: list[tuple[str, Actor]] = []
        self.refused: list[tuple[Step, KernelError]] = []  # calls that failed, and why
        self._calls = Calls(self.scope)
        self._places = 0

    def step(self, step: Step) -> Result:
        """Make the call of one step. Raises Unsupported where the simulator cannot answer."""
        call = step["call"]
        if call == "observe":
            return _plain(self._observe(step["what"]))
        if call == "kill":
            return self._kill(step["target"])
        actor = self.actor(step.get("proc", "main"))
        if actor.state != "ok":
            return {"state": "not_run"}
        if call == "join":
            return self._join(actor, step)
        if call == "sleep":
            self.machine.sleep(self.scope.number(step, "ms"))
            return _plain()
        if call == "fork":
            self._enter(step["child"], actor.process.fork(step["child"]))
            return _plain()
        if call == "exit":
            actor.state = "exited"
            actor.process.exit()
            return _plain()
        if call == "prlimit" and step["target"] and isinstance(step["target"], str):  # a number is nobody's here
            self.actor(step["target"])
        return self._make(actor, step)

    def actor(self, name: str) -> Actor:
        """The process of this name; one that has not been named before is started."""
        known = self.actors.get(name)
        return known if known is not None else self._enter(name, self.machine.process(name))

    def _enter(self, name: str, process: Process) -> Actor:
        actor = self.actors[name] = Actor(process, self.room(process))
        self.everybody.append((name, actor))
        return actor

    def room(self, process: Process) -> Arguments:
        """Memory of a process for the arguments of its calls, where none has been before."""
        self._places += 1
        return Arguments(process.memory, self._places - 1)

    def _observe(self, what: str) -> dict[str, Any]:
        if what == "kvm_live":
            return {"kvm_live": self.machine.kvm_live()}
        folder = {"groups": "/dev/vfio", "cdevs": "/dev/vfio/devices"}.get(what)
        if folder is None:
            raise Unsupported(f"observing {what}")
        paths = [path.rpartition("/") for path in self.machine.built.devtmpfs.nodes.slots]
        return {"names": sorted(name for where, _, name in paths if where == folder and name != "vfio")}

    def _kill(self, name: str) -> Result:
        actor = self.actors.get(name)
        if actor is None:
            return {"state": "not_run"}
        actor.kill()
        return _plain({"exited": actor.gone})

    # ---- calls

    def _make(self, actor: Actor, step: Step) -> Result:
        """Make a call and wait for it, as long as the recording program did."""
        prepared = self._calls.prepare(step, actor.arguments)
        running = StartedCall(step, prepared)
        try:
            if "async" in step:
                actor.threads[step["async"]] = running
                args = prepared.args
                if prepared.on_a_duplicate:  # which is there as long as the call is
                    spare = actor.process.dup(args[0])
                    args, running.afterwards = (spare, *args[1:]), partial(actor.process.close, spare)
                running.call = actor.process.start(prepared.method, *args)
                return self._wait(actor, running, step.get("settle", _SETTLE)) or self._leave(actor, "pending")
            call = _method(actor.process, prepared)
            running.returned(lambda: call(*prepared.args, **prepared.kwargs))
            return self._written(actor, running)
        except Blocked as blocked:
            running.call = blocked.call
            patience = step.get("timeout", self.scenario.get("timeout", _PATIENCE))
            return self._wait(actor, running, patience) or self._leave(actor, "blocked")
        except KernelOops:
            actor.state = "gone"
            return {"state": "proc_gone"}

    def _wait(self, actor: Actor, running: StartedCall, seconds: float) -> Result | None:
        """Give a call some time; None if that is not enough."""
        if not running.look():
            self.machine.sleep(int(1000 * seconds))
        return self._written(actor, running) if running.look() else None

    def _leave(self, actor: Actor, state: str) -> Result:
        """A call goes on by itself: what it works on stays where it is."""
        actor.arguments = self.room(actor.process)
        if state == "blocked":
            actor.state = state
        return {"state": state}

    def _join(self, actor: Actor, step: Step) -> Result:
        running = actor.threads.get(step["tag"])
        if running is None:
            raise ValueError(f"no call was started under the tag {step['tag']!r}")
        return self._wait(actor, running, step.get("timeout", _JOIN)) or {"state": "pending"}

    # ---- results

    def _written(self, actor: Actor, running: StartedCall) -> Result:
        """The result as the recording program writes it; variables get their new values."""
        assert running.outcome is not None
        actor.arguments.clear()
        ret, errno, out = running.outcome
        step, ok = running.step, errno is None and ret >= 0
        if running.error is not None:
            self.refused.append((step, running.error))
        out = dict(out)
        self._save(step, ok, ret, out)
        result: Result = {"ret": ret, "errno": errno}
        save = step.get("save")
        if ok and returns_fd(step["call"], step.get("request")):
            result.update(num=ret, ret=f"${save}" if isinstance(save, str) else "fd")
        elif ok and step["call"] == "mmap":
            result["ret"] = f"${save}" if isinstance(save, str) else "addr"
        if "fds" in out:
            result["num"] = out["fds"]
            out["fds"] = [f"${name}" for name in save[: len(out["fds"])]] if isinstance(save, list) else len(out["fds"])
        if ok and step["call"] == "ioctl":
            _name_descriptors(step, result, out)
        return result | {"out": out} if out else result

    def _save(self, step: Step, ok: bool, ret: int, out: Mapping[str, Any]) -> None:
        """Set the variables that a step names; -1 if the call failed."""
        save = step.get("save")
        if isinstance(save, str):
            self.scope.variables[save] = ret if ok else -1
        elif isinstance(save, list):
            fds = out.get("fds", []) if ok else []
            for index, name in enumerate(save):
                self.scope.variables[name] = fds[index] if index < len(fds) else -1
        elif isinstance(save, dict):
            for field, name in save.items():
                self.scope.variables[name] = self._after(step, field, out) if ok else -1

    def _after(self, step: Step, field: str, out: Mapping[str, Any]) -> int:
        """What a field holds after the call: what the kernel wrote, or what it was."""
        if field in out:
            return int(out[field])
        given = step.get("arg", {})
        return self.scope.value(given[field]) if isinstance(given, dict) and field in given else 0


def _plain(out: dict[str, Any] | None = None) -> Result:
    return {"ret": 0, "errno": None, "out": out or {}}


def _method(process: Process, prepared: Prepared) -> Callable[..., Any]:
    """A method of the process, by a name that may lead through its memory. Raises Unsupported if there is none."""
    found: Any = process
    for part in prepared.method.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise Unsupported(f"the call {prepared.method}")
    method: Callable[..., Any] = found
    return _on_a_duplicate(process, method) if prepared.on_a_duplicate else method


def _on_a_duplicate(process: Process, method: Callable[..., Any]) -> Callable[..., Any]:
    """The recording program talks to a duplicate of its socket, which takes a number while the message arrives."""

    def call(sock: int, *rest: Any) -> Any:
        spare = process.dup(sock)
        try:
            return method(spare, *rest)
        finally:
            process.close(spare)

    return call


def _name_descriptors(step: Step, result: Result, out: dict[str, Any]) -> None:
    """New file descriptors inside a struct are written by the name of their variable, their numbers apart."""
    save = step.get("save")
    for field in list(out):
        if holds_new_fd(step["request"], field):
            result.setdefault("num", {})[field] = out[field]
            out[field] = f"${save[field]}" if isinstance(save, dict) and field in save else "fd"
