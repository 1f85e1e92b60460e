"""What does one effect cost? Measured against a bare generator that yields a fresh object with two fields, in the same run.

Goals: at call depth 5 to 10 an untraced effect costs at most 4 times as much, a traced one at most 12 times; a BIND with its
close is made of at least 100 effects.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from vfiosim import Machine, uapi
from vfiosim.engine import Count, Engine, Field, KObject, Lock, count, field, get, load, mutex, put, refuse_if, store

ROUNDS = 7  # each measurement is taken so often, in turn with the others; the fastest counts
EFFECTS = 105_000


class Pair:
    """The peer's object."""

    __slots__ = ("a", "b")

    def __init__(self, a: int, b: int) -> None:
        self.a = a
        self.b = b


class Thing(KObject):
    """Something to work on."""

    kind = "thing"
    number: Field[int] = field(0)
    refs: Count = count()
    lock: Lock = mutex()


def bare() -> Iterator[Pair]:
    """The peer."""
    for i in range(EFFECTS):
        yield Pair(i, i)


def run_bare() -> int:
    """Exhaust the peer."""
    for _ in bare():
        pass
    return EFFECTS


async def leaf(thing: Thing, rounds: int) -> None:
    """Seven effects a round, in about the mixture of a BIND."""
    for _ in range(rounds):
        async with thing.lock:
            value = await load(thing.number)
            await refuse_if(value < 0, uapi.Errno.EINVAL, "negative", "never")
            await store(thing.number, value + 1)
            await get(thing.refs, thing, "round")
            await put(thing.refs, thing, "round")


async def deep(thing: Thing, depth: int, rounds: int) -> None:
    """`leaf` at a call depth."""
    if depth > 1:
        await deep(thing, depth - 1, rounds)
    else:
        await leaf(thing, rounds)


def run_effects(trace: bool, depth: int) -> int:
    """A thread of kernel code at a call depth (the leaf included); the answer is how many effects it made."""
    engine = Engine(trace)
    thread = engine.spawn(deep(Thing(engine), depth - 1, EFFECTS // 7))
    engine.run(thread)
    assert thread.error is None
    return EFFECTS


def bind_and_close(machine: Machine, times: int) -> int:
    """The real thing; the answer is how many effects it made (as a traced machine counts them)."""
    process = machine.process(f"p{len(machine.processes)}")
    iommu = process.open("/dev/iommu")
    for _ in range(times):
        dev = process.open("/dev/vfio/devices/vfio0")
        process.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
        process.close(dev)
    process.exit()
    return times


def fastest(runs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Nanoseconds for one unit of each run; the runs take turns, so that a noisy neighbour hits all of them."""
    best: dict[str, list[float]] = {name: [] for name in runs}
    gc.disable()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            gc.collect()
            start = time.perf_counter()
            units = run()
            best[name].append((time.perf_counter() - start) / units * 1e9)
    gc.enable()
    return {name: min(times) for name, times in best.items()} | {
        "noise": statistics.median(best["bare"]) / min(best["bare"])
    }


def effects_of_a_bind() -> tuple[int, int]:
    """Of an open, a BIND and a close: how many effects, and how many of them are BIND and close."""
    machine = Machine()
    process = machine.process("p")
    iommu, dev = process.open("/dev/iommu"), process.open("/dev/vfio/devices/vfio0")
    before = len(machine.engine.micro)
    process.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    process.close(dev)
    pair = len(machine.engine.micro) - before
    before = len(machine.engine.micro)
    process.open("/dev/vfio/devices/vfio0")
    return pair + len(machine.engine.micro) - before, pair


def main() -> None:
    """Print the table."""
    runs: dict[str, Callable[[], int]] = {"bare": run_bare}
    for depth in (5, 10):
        for trace in (False, True):
            runs[f"{'traced' if trace else 'untraced'}, depth {depth}"] = partial(run_effects, trace, depth)
    runs["open+bind+close, untraced"] = lambda: bind_and_close(Machine(trace=False), 300)
    times = fastest(runs)
    effects, pair = effects_of_a_bind()
    print(f"bare generator, a fresh two-field object: {times['bare']:.0f} ns (median/minimum {times['noise']:.2f})")
    for name, nanoseconds in times.items():
        if "depth" in name:
            print(f"effect, {name:20} {nanoseconds:6.0f} ns  {nanoseconds / times['bare']:5.2f} ×")
    each = times["open+bind+close, untraced"]
    print(f"open+bind+close, untraced: {each / 1000:.1f} µs, {effects} effects: {each / effects:.0f} ns an effect")
    print(f"bind+close: {pair} effects (at least 100)")


if __name__ == "__main__":
    main()
