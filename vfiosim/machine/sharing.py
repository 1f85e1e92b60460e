"""A run as a short text: what was asked of a machine, and who went when. The same machine can be made of it again.

The text is "vfiosim4:" and then, in base64url, the deflated JSON of

    [topology, kernel, [[letter, details, schedule?], …], check sum, step?]

The kernel is the name of a version, or that and what of its configuration is other than recorded: ["v7.2", {"vfio_group": false}].
A schedule says which threads did effects after an event: the number of a call and how many effects, in turn. It is left out
where nothing follows, or where a call that begins then goes on to its end. The check sum is about every effect of the run, so
that a text does not pass for what it was where the kernel has other rules. Nothing in a text is ever executed.

The number in front is that of the edition, which grows when kernel functions here get other effects. A text of an older edition
is done again as far as its schedules fit; where that is not what happened then, the machine says so (`Machine.differs`).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..topology import TOPOLOGIES, DeviceSpec, Topology
from .events import EVENTS, Patched, Patches
from .history import signature, turns_after

if TYPE_CHECKING:
    from .machine import Machine

PREFIX, OLDER = "vfiosim4:", ("vfiosim3:", "vfiosim2:", "vfiosim1:")
# Bytes of JSON, and things that were done: a text of a few hundred letters could otherwise fill the memory, or take for ever.
_LONGEST, _MOST_EVENTS = 1 << 24, 10_000
# How effects are named in check sums that have other names by now.
_NAMED = {"xa_load": "peek", "xa_store": "poke", "xa_alloc": "claim", "wait_for_killable_timeout": "wait_for_timeout"}
RENAMED = {  # checks that had another name in texts of older versions: theirs said what is wrong, not what is checked
    "group_is_open": "group_is_closed",
    "node_is_gone": "node_is_there",
    "ids_left": "an_id_is_free",
    "driver_stays": "driver_stays_loaded",
    "fd_table_full": "fd_table_has_room",
    "unknown_tail": "tail_is_zero",
    "object_in_use": "object_is_unused",
    "foreign_domain": "domain_is_default",
    "device_stays": "device_stays_bound",
}
# What most texts have in common; a text does not repeat it. The most frequent comes last.
_COMMON = (
    b'"/sys/bus/pci/drivers/vfio-pci/unbind","write_file",["m",["c",["fork","exit"]],["d",["vmm"]],["o",["group_lock"]],'
    b'["a",["vfio_df_ioctl_bind_iommufd"]],"/dev/vfio/vfio","/dev/vfio/1","/dev/kvm","v6.6","lab","v7.2",[["p",["small",'
    b'"map",[24,{"b":"1800000000000000"},3,null],["close",[3],""]],["opener","binder","A","B"]],[0,1],["c",["vmm","dup",'
    b'"/dev/iommu",2],""]],["c",["p","open",["/dev/vfio/devices/vfio0",2],""]],["c",["vmm","ioctl",[3,15223,{"b":"18000000'
    b'00000000040000000000000000000000000000"}],""]],'
)


def encode(machine: Machine, step: int | None = None) -> str:
    """The whole run of a machine as a short ASCII text, to be handed to `decode` or `vfiosim.replay`.

    `step` is the step of the trace to look at, counted as `Machine.branch` does. Raises ValueError for what cannot be shared:
    a machine without a trace, memory or files from outside, and a run that does not repeat; IndexError if there is no such step.
    """
    if step is not None:
        machine.effects_until(step)
        step = step + len(machine.trace) + 1 if step < 0 else step
    return encode_until(machine, len(machine.history), len(machine.engine.micro), step)


def encode_until(machine: Machine, events: int, effects: int, step: int | None = None) -> str:
    """As `encode`, for a run as it was after so many events and effects."""
    if machine.engine.journal is None:
        raise ValueError("a machine that was made with trace=False does not know what it did, so it cannot be shared")
    kernel = [machine.kernel, machine.own_config] if machine.own_config else machine.kernel
    content = [_topology_as_data(machine.topology), kernel, [], _check_sum(machine, effects)]
    patches: dict[str, Any] = {}
    for event, call, turns in turns_after(machine, events, effects):
        entry = [event.letter, _as_data(event.as_data())]
        content[2].append(entry if turns is None or not (turns or call is not None) else [*entry, turns])
        patches |= event.functions if isinstance(event, Patched) else {}
    packer = zlib.compressobj(9, zdict=_COMMON)
    data = json.dumps(content if step is None else [*content, step], separators=(",", ":")).encode()
    text = PREFIX + base64.urlsafe_b64encode(packer.compress(data) + packer.flush()).decode().rstrip("=")
    _play(type(machine), content, patches)  # a text that does not repeat is worth nothing
    return text


def decode_as(kind: type[Machine], text: str, patches: Patches) -> tuple[Machine, int | None]:
    """See `vfiosim.machine.decode`; `kind` is what is made."""
    text, _, behind = text.strip().partition("@")
    if not text.startswith((PREFIX, *OLDER)):
        raise ValueError(f"a shared run begins with {PREFIX!r}, this text with {text[:12]!r}")
    if behind and not re.fullmatch("[0-9]{1,9}", behind):
        raise ValueError(f"behind the @ of a shared run stands the number of a step, not {behind[:12]!r}")
    content = _content(text.partition(":")[2])
    step = int(behind) if behind else content[4] if len(content) > 4 else None
    try:
        return _play(kind, content, patches), step
    except ValueError:
        if text.startswith(PREFIX):
            raise
    return _play(kind, content, patches, exact=False), step


# ---- as data


def _topology_as_data(topology: Topology) -> Any:
    if TOPOLOGIES.get(topology.name) == topology:
        return topology.name
    plain = {field.name: field.default for field in fields(DeviceSpec)}
    devices = [{name: value for name, value in asdict(one).items() if value != plain[name]} for one in topology.devices]
    return [topology.name, devices, int(topology.iommufd_container)]


def _topology_of(data: Any) -> Topology | str:
    if isinstance(data, str):
        return data
    name, devices, container = data
    return Topology(name, tuple(DeviceSpec(**device) for device in devices), bool(container))


def _as_data(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"b": bytes(value).hex()}
    if isinstance(value, (tuple, list)):
        return [_as_data(item) for item in value]
    raise ValueError(f"this run cannot be shared: a call was given {value!r}, which is no text, number or bytes")


def _from_data(value: Any) -> Any:
    if isinstance(value, dict):
        return bytes.fromhex(value["b"])
    return tuple(map(_from_data, value)) if isinstance(value, list) else value


def _check_sum(machine: Machine, effects: int) -> int:
    check = 0
    for entry in machine.engine.micro[:effects]:
        thread, name, *more = signature(entry)
        check = zlib.crc32("|".join((thread, _NAMED.get(name, name), *more)).encode(), check)
    return check


# ---- and back

_LETTERS = tuple(EVENTS)  # compared one by one, for what a damaged text has there may be a list


def _content(text: str) -> list[Any]:
    """What the letters stand for. Raises ValueError where they stand for nothing."""
    damaged = "this text is damaged, or a part of it is missing; copy the whole of it again"
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj(zdict=_COMMON)
        plain = unpacker.decompress(data, _LONGEST)
        content = json.loads(plain)
    except (ValueError, zlib.error, RecursionError):
        raise ValueError(damaged) from None
    if not unpacker.eof or unpacker.unused_data or not _is_run(content):
        raise ValueError(damaged)
    if len(content[2]) > _MOST_EVENTS:
        raise ValueError(
            f"in this run {len(content[2]):,} things are done, and no more than {_MOST_EVENTS:,} are done again"
        )
    return list(content)


def _is_run(content: Any) -> bool:
    """Is it made like a run?"""
    return (
        isinstance(content, list)
        and len(content) in (4, 5)
        and isinstance(content[2], list)
        and all(isinstance(one, list) and len(one) in (2, 3) and one[0] in _LETTERS for one in content[2])
        and all(isinstance(part, list) for one in content[2] for part in one[1:])
        and all(type(number) is int for number in content[3:])
    )


def _play(kind: type[Machine], content: list[Any], patches: Patches, exact: bool = True) -> Machine:
    """The machine that a content tells of. Raises ValueError if it does not repeat, unless it need not be `exact`."""
    topology, kernel, events, check_sum = content[:4]
    _refuse_unknown(events, patches)
    try:
        name, config = (kernel, None) if isinstance(kernel, str) else kernel
        machine = kind(_topology_of(topology), name, config=config)
        left = set[int]()  # calls that were left where they stood, by number
        for number, entry in enumerate(events):
            if not exact:
                _finish(machine, events[number:], left)
            before, turns = len(machine.calls), entry[2] if len(entry) == 3 else []
            _repeat(machine, patches, exact, *entry)
            # One that goes on at once and ends has no schedule: with one of its own it has not ended.
            own = len(machine.calls) > before and turns[:1] == [before] and len(turns) == 2
            left = left - {*turns[::2]} | ({before} if own else set())
        machine.engine.notice_waiting()
        same = _check_sum(machine, len(machine.engine.micro)) == check_sum
    except (LookupError, TypeError, ValueError, AttributeError, OSError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"this run does not repeat: {error}") from None
    if not same:
        machine.differs = "the kernel that is simulated here does other things than it did then"
    if machine.differs and exact:
        raise ValueError(f"this run does not repeat: {machine.differs}")
    return machine


def _refuse_unknown(events: list[Any], patches: Patches) -> None:
    needed = sorted({name for letter, names, *_ in events if letter == Patched.letter for name in names})
    missing = [name for name in needed if name not in patches]
    if missing:
        raise ValueError(
            f"in this run a function of somebody's own took the place of {', '.join(missing)}; hand it in: "
            f"patches={{{missing[0]!r}: …}}"
        )


def _repeat(
    machine: Machine, patches: Patches, exact: bool, letter: str, details: list[Any], turns: list[Any] | None = None
) -> None:
    """One event of a text, and the effects that follow it."""
    event = EVENTS[letter].from_data(patches, *_from_data(details))
    if event is None:
        return
    event.begin(machine)
    if turns is not None:
        _go(machine, turns, exact)
    elif "call" in event.makes:
        machine.engine.run(machine.calls[-1].thread)
    machine.forget_ended()


def _go(machine: Machine, schedule: list[Any], exact: bool) -> None:
    micro = machine.engine.micro
    for number, turns in zip(schedule[::2], schedule[1::2], strict=True):
        thread = machine.thread(number)
        until = len(micro) + turns
        while len(micro) < until:
            before = len(micro)
            machine.engine.step(thread)
            if len(micro) == before:
                if exact:
                    raise ValueError(f"{thread.label} cannot go on where it did then")
                break


def _finish(machine: Machine, rest: list[Any], left: set[int]) -> None:
    """Let the calls end that the rest of a text of an older edition moves no more: they may have more effects than they had.

    Not those that were `left` unfinished.
    """
    moved = {number for _, _, *turns in rest for number in (turns[0][::2] if turns and turns[0] else ())}
    for number, call in enumerate(machine.calls):
        if number not in moved | left:
            machine.engine.run(call.thread)
    machine.forget_ended()
