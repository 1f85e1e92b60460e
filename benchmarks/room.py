"""Twenty students on one machine, on a real JupyterHub: all log in, all choose "Run All" of notebook 01, then each presses buttons.

Goals: at most 3 CPU seconds a student at "Run All", 256 MiB a student. `--students 5`: fewer. Needs no browser: what a browser
does the students' own computers do. Seconds of a loaded machine mean little; CPU seconds and memory mean more.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hub import Hub, Kernel, running_hub  # noqa: E402

STUDENTS = int(sys.argv[sys.argv.index("--students") + 1]) if "--students" in sys.argv[1:] else 20
NOTEBOOK = "01_one_bind.ipynb"
BENCH = "one_bind.bind()"
PRESSES = ["bind", "GET_INFO", "bind", "Undo", "GET_INFO", "bind"] * 3
THINKS = (1.0, 5.0)  # seconds between two presses of one student

Cost = tuple[float, float]  # CPU seconds, MiB that count for nobody else


def costs(root: int) -> dict[str, Cost]:
    """What the servers and the kernels below a process have cost up to now."""
    parents, found = {}, {"server": (0.0, 0.0), "kernel": (0.0, 0.0)}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(place.name)] = int(_stat(place)[1])
    for pid in [pid for pid in parents if _is_below(pid, root, parents)]:
        place = Path("/proc", str(pid))
        with suppress(OSError):
            command = (place / "cmdline").read_text()
            kind = "kernel" if "ipykernel" in command else "server" if "singleuser" in command else ""
            if kind:
                cpu, memory = found[kind]
                used = sum(map(int, _stat(place)[11:13])) / os.sysconf("SC_CLK_TCK")
                shared = (line for line in (place / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
                found[kind] = cpu + used, memory + int(next(shared).split()[1]) / 1024
    return found


def _stat(place: Path) -> list[str]:
    """What stands behind the name of a process."""
    return (place / "stat").read_text().rpartition(")")[2].split()


def _is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != root:
        pid = parents[pid]
    return pid == root


def told(hub: Hub, title: str, what: Callable[[], object]) -> None:
    """Do it, and say what it has cost each student."""
    before, began = costs(hub.pid), time.monotonic()
    what()
    took, after = time.monotonic() - began, costs(hub.pid)
    parts = [
        f"{kind} {(after[kind][0] - before[kind][0]) / STUDENTS:5.2f} CPU s, then {after[kind][1] / STUDENTS:4.0f} MiB"
        for kind in after
    ]
    print(f"{title:24} {took:6.1f} s for all; a student: {'   '.join(parts)}", flush=True)


def pressed(kernel: Kernel) -> list[float]:
    """Press like a student who looks at what came; how long each press took."""
    times = []
    for name in PRESSES:
        time.sleep(random.uniform(*THINKS))
        began = time.monotonic()
        assert kernel.press(name), f"{name} did nothing"
        times.append(time.monotonic() - began)
    return times


def main() -> None:
    """All of it."""
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    users = [f"student{number}" for number in range(STUDENTS)]
    with (
        running_hub(users, "SimpleLocalProcessSpawner") as hub,
        ThreadPoolExecutor(STUDENTS) as pool,
        ExitStack() as open_,
    ):
        kernels: list[Kernel] = []
        lock = threading.Lock()

        def come(user: str) -> None:
            kernel = open_.enter_context(hub.kernel(user, hub.log_in(user)))
            kernel.run("1")
            with lock:
                kernels.append(kernel)

        def run_all(kernel: Kernel) -> dict[str, str]:
            buttons: dict[str, str] = {}
            for cell in cells:
                assert not kernel.run(cell).endswith("Error"), cell
                buttons = kernel.buttons if BENCH in cell else buttons
            kernel.buttons = buttons
            return buttons

        print(f"{STUDENTS} students, {os.cpu_count()} cores")
        told(hub, "log in, start a kernel", lambda: [*pool.map(come, users)])
        told(hub, f'"Run All" of {NOTEBOOK[:2]}', lambda: [*pool.map(run_all, kernels)])
        times: list[float] = []
        told(hub, f"{len(PRESSES)} presses", lambda: [*map(times.extend, pool.map(pressed, kernels))])
        milliseconds = sorted(1000 * one for one in times)
        p95 = milliseconds[int(len(times) * 0.95)]
        print(f"a press: p50 {statistics.median(milliseconds):.0f} ms, p95 {p95:.0f} ms ({len(times)} presses)")


if __name__ == "__main__":
    main()
