"""What does a press in the sandbox cost when much was done before it, and what does it cost to take it back?

Goals: a press after 120 earlier ones costs what it costs after 5, and Undo after 200 calls takes at most 300 ms. The baseline is a
program that makes the same 200 calls itself and looks at the trace once, in the same run. Drawing the picture is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice

from vfiosim import Machine, uapi
from vfiosim.lab.sandbox import Run, Setup
from vfiosim.machine.events import Called
from vfiosim.topology import Topology

CALLS = 200
BIND = bytes(uapi.VfioDeviceBindIommufd(iommufd=4))
ROUND = (
    Called("vmm", "open", ("/dev/vfio/devices/vfio0", 2)),
    Called("vmm", "open", ("/dev/iommu", 2)),
    Called("vmm", "ioctl", (3, uapi.VFIO_DEVICE_BIND_IOMMUFD, BIND)),
    Called("vmm", "close", (3,)),
    Called("vmm", "close", (4,)),
)


def milliseconds(what: Callable[[], object]) -> float:
    """The CPU time that something takes."""
    start = time.process_time()
    what()
    return (time.process_time() - start) * 1000


def by_itself() -> None:
    """The same calls by a program."""
    machine = Machine()
    process = machine.process("vmm")
    for call in islice(cycle(ROUND), CALLS):
        process.start(call.name, *(bytearray(each) if isinstance(each, bytes) else each for each in call.arguments))
    assert len(machine.trace)


def main() -> None:
    """Print the table."""
    run = Run(Setup(Topology.named("small")))

    def press(call: Called) -> None:
        run.do(call)
        len(run.steps)
        run.machine.check()

    took = [milliseconds(lambda call=call: press(call)) for call in islice(cycle(ROUND), CALLS)]  # type: ignore[misc]
    for before in (5, 50, 120, 195):
        print(f"a press after {before:3} earlier ones {sum(took[before : before + 5]) / 5:8.1f} ms")
    print(f"the text to share, when asked  {milliseconds(lambda: run.machine.trace.replay):8.1f} ms")
    undo = min(milliseconds(lambda: (run.undo(), run.steps)) for _ in range(3))
    print(f"Undo after {CALLS} calls           {undo:8.1f} ms (at most 300)")
    print(f"the {CALLS} calls by a program     {min(milliseconds(by_itself) for _ in range(3)):8.1f} ms")


if __name__ == "__main__":
    main()
