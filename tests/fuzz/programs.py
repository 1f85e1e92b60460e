"""Programs for the fuzzer: recorded ones, more or less damaged, with calls in between that hardly make sense.

A program is a list of steps in the format of the recordings; so what the fuzzer finds can be asked of a real kernel too.
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import sizeof
from random import Random
from typing import Any, Final

from vfiosim.conformance.replay import Actor, Playback
from vfiosim.kernel.fs.file import File
from vfiosim.machine.system_calls import REQUESTS_OF
from vfiosim.uapi import REQUESTS, Member, Request

from .corpus import Setting, Step, corpus, request_kinds

_KINDS: Final = {operations: kinds[0] for operations, kinds in REQUESTS_OF.items()}
_WILDNESS: Final = (0.0, 0.0, 0.03, 0.15, 0.5)
_NOISE: Final = (0, 1, 2, 4, 6)  # calls without a plan after each planned one
_SIZES: Final = (0, 0, 0, 0, 0, 0, -1, 1, -4, 4, -8, 8, 16, 64, 4096)  # next to the size of a struct
_ODD: Final = (0, 1, 2, 3, 4, 7, 8, 0x1000, 0xFFF, 0x100000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 63, -1)
_PLACES: Final = ("null", "bad", "kernel", "noncanonical", "readonly", "writeonly", "truncated")
_OPENED: Final = (
    "devices/@pci0",
    "devices/@mdev0",
    "@pci0.group",
    "@pairA.group",
    "@mdev0.group",
    "vfio",
    "@vf0.group",
)
_FD_NUMBERS: Final = 64  # descriptors that are ever guessed
SCRATCH: Final = 1 << 16  # bytes of memory at the variable of this name


class Programmer:
    """Makes up what is called next, from a random number generator and from what is open now."""

    def __init__(self, random: Random, setting: Setting, replay: Playback) -> None:
        self.random = random
        self.setting = setting
        self.replay = replay
        self.wildness = random.choice(_WILDNESS)
        self.noise = random.choice(_NOISE)
        self._kinds = request_kinds()

    def steps(self) -> Iterator[Step]:
        """A recorded program, damaged, with noise in between."""
        random = self.random
        yield {"call": "mmap", "length": SCRATCH, "save": "scratch"}
        for step in random.choice(self.setting.programs):
            wild = random.random() < self.wildness
            if (wild and random.random() < 0.3) or self._impossible(step):
                continue
            yield self._damaged(step) if wild else step
            for _ in range(random.randint(0, self.noise)):
                yield self._anything()

    def _impossible(self, step: Step) -> bool:
        """Would a process get the name of one that is there, or is a call waited for that was never made?"""
        actor, lingering = self._actor(step), {name for name, actor in self.replay.everybody if not actor.gone}
        if step["call"] == "join" and (actor is None or step["tag"] not in actor.threads):
            return True
        return step.get("child") in lingering or (actor is None and step.get("proc", "main") in lingering)

    # ---- a planned call, damaged

    def _damaged(self, step: Step) -> Step:
        """The same call with one thing about it changed."""
        random = self.random
        changed = dict(step) | {"wild": True}
        if step["call"] != "ioctl":
            if "fd" in step:
                changed["fd"] = self._any_fd(self._actor(step))
            return changed
        where = random.random()
        given = step.get("arg")
        if where < 0.15:
            changed["fd"] = self._any_fd(self._actor(step))
        elif where < 0.3 and given is not None:
            changed |= {"ptr": random.choice(_PLACES), "valid": random.choice((0, 3, 4, 8, 12, 16, 23))}
        elif isinstance(given, dict) and step["request"] in REQUESTS and "argtype" not in step:
            changed["arg"] = given | self._other_value(REQUESTS[step["request"]])
        return changed

    def _other_value(self, request: Request) -> dict[str, Any]:
        """A field of the argument with a value that it did not have."""
        fields = [f for f in request.struct.fields() if f.kind == "int"] if request.struct is not None else []
        if not fields:
            return {}
        chosen = self.random.choice(fields)
        return {chosen.name: self._value(request, chosen, None)}

    def _actor(self, step: Step) -> Actor | None:
        return self.replay.actors.get(step.get("proc", "main"))

    # ---- calls without a plan

    def _anything(self) -> Step:
        random = self.random
        alive = [name for name, actor in self.replay.actors.items() if actor.state == "ok"]
        if not alive:
            return {"call": "sleep", "ms": 1, "proc": "main"}
        proc = random.choice(alive)
        actor = self.replay.actors[proc]
        chance = random.random()
        if chance < 0.9:
            return self._request(actor, proc) if random.random() < 0.6 else self._garbage(actor, proc)
        if chance < 0.94:
            return {"call": "open", "path": f"/dev/vfio/{random.choice(_OPENED)}", "proc": proc}
        if chance < 0.95:
            return {"call": "open", "path": random.choice(("/dev/iommu", "/dev/kvm")), "proc": proc}
        if chance < 0.96:
            return {"call": "dup", "fd": self._any_fd(actor), "proc": proc}
        if chance < 0.99:
            return {"call": "close", "fd": self._any_fd(actor), "proc": proc}
        if chance < 0.995 and len(self.replay.everybody) < 6:
            return {"call": "fork", "child": f"child{len(self.replay.everybody)}", "proc": proc}
        if chance < 0.997 and len(alive) > 1:
            return {"call": "exit", "proc": proc}
        return {"call": "pread", "fd": self._any_fd(actor), "count": 4, "offset": 7 << 40, "proc": proc}

    def _request(self, actor: Actor, proc: str) -> Step:
        """A request from the ABI, most often to a file that understands it, with an argument that is nearly right."""
        random = self.random
        fd, kind = self._live_fd(actor)
        names = self._kinds.get(kind) if random.random() < 0.9 else None
        request = REQUESTS[random.choice(names or list(REQUESTS))]
        step: dict[str, Any] = {"call": "ioctl", "fd": fd, "request": request.name, "proc": proc, "wild": True}
        if random.random() < 0.04:
            step |= {"ptr": random.choice(_PLACES), "valid": random.choice((0, 3, 4, 8, 12, 16, 23))}
        if request.struct is None:
            return step | self._simple(request)
        size = max(0, sizeof(request.struct) + random.choice(_SIZES))
        values = bytearray(max(size, sizeof(request.struct)))
        for number, field in enumerate(request.struct.fields()):
            if field.kind == "int":
                told = size if number == 0 and field.name in ("argsz", "size") else None
                value = self._number(self._value(request, field, told), 8 * field.size)
                values[field.offset : field.offset + field.size] = value.to_bytes(field.size, "little")
        if random.random() < 0.05:
            values[random.randrange(len(values))] = random.randrange(256)
        return step | {"raw": bytes(values[:size]).hex()}

    def _simple(self, request: Request) -> dict[str, Any]:
        """The argument of a request that takes no struct."""
        if request.argument == "cstr":
            return {"arg": self.random.choice(("@pci0.bdf", "@mdev0.bdf", "@pairA.bdf", "0000:00:1f.7", "", "x" * 300))}
        if request.argument == "s32":
            return {"arg": self.random.randint(-1, 12)}
        return {"arg": self.random.choice(_ODD)}

    def _garbage(self, actor: Actor, proc: str) -> Step:
        """Pure noise: a number that may be no request, and bytes, or no address at all."""
        random = self.random
        fd = random.choice((-1, *range(3, _FD_NUMBERS))) if random.random() < 0.2 else self._any_fd(actor)
        base = random.choice((0x3B64, 0x3B80, 0xAE00, 0x4010AEE0, random.getrandbits(32)))
        number = (base ^ random.getrandbits(random.choice((3, 5, 6)))) & 0xFFFFFFFF
        step = {"call": "ioctl", "fd": fd, "request": number, "proc": proc, "wild": True}
        if random.random() < 0.3:
            return step | {"arg": random.choice((*_ODD, random.getrandbits(64)))}
        return step | {"raw": random.randbytes(random.choice((1, 4, 8, 16, 20, 24, 32, 48, 64, 100))).hex()}

    # ---- values

    def _value(self, request: Request, field: Member, told: int | None) -> Any:
        """A value for a field, as recordings write them."""
        random = self.random
        if told is not None and random.random() < 0.95:
            return told
        chance = random.random()
        if field.role == "fd_in" and chance < 0.8:
            return self._any_fd(next(iter(self.replay.actors.values()), None))
        if field.role == "ptr" and chance < 0.7:
            return f"$scratch + {random.choice((0, 0, 0, 0x1000, 0x2000, 1, SCRATCH - 8, SCRATCH))}"
        known = corpus().values.get(f"{request.name}.{field.name}")
        if known and chance < 0.6:
            return random.choice(known)
        if chance < 0.8:
            return 0
        if chance < 0.93:
            return random.randint(0, 12)
        return random.choice(_ODD) if chance < 0.98 else random.getrandbits(8 * field.size)

    def _number(self, value: Any, bits: int) -> int:
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return 0
        return int(self.replay.scope.value(value)) & ((1 << bits) - 1)

    def _files(self, actor: Actor | None) -> list[tuple[int, str]]:
        if actor is None:
            return []
        slots = actor.process.task.files.fd.slots
        return [(fd, file.f_op.name) for fd, file in slots.items() if fd > 2 and isinstance(file, File)]

    def _any_fd(self, actor: Actor | None) -> int:
        files = self._files(actor)
        if not files or self.random.random() < 0.05:
            return int(self.random.choice([-1, -100, *range(3, 20)]))
        return self.random.choice(files)[0]

    def _live_fd(self, actor: Actor) -> tuple[int, str]:
        """A descriptor, and the kind of its file; files that understand requests are preferred."""
        files = self._files(actor)
        good = [(fd, _KINDS[name]) for fd, name in files if name in _KINDS]
        if not good or self.random.random() < 0.03:
            return self._any_fd(actor), ""
        return self.random.choice(good)
