"""Our explorer and SPIN side by side: the same two models at the same granularity, from the question to the verdict.

SPIN's time is that of `spin -a`, `gcc -O2` and the run, with its own partial order reduction; ours that of a whole Python process,
and of the call alone. The models for SPIN are written by `promela.py`, which is not in the time of either. Beside the time on the
clock stands that of the processor, which other programs disturb less.
Goal: at most a quarter of SPIN's time to the verdict. Then: two binds and an open within 0.3 s, three binds within 3 s, for binds
of 100 effects and more: of a physical function with its token, for a VM.
"""

from __future__ import annotations

import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from promela import Model, gathered

from vfiosim import uapi
from vfiosim.explore import Result, explore
from vfiosim.machine import Machine
from vfiosim.museum.machines import CARD
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import GROUP, KVM_VFIO, VM, bind, change_list, give_vm, make, ready_to_bind

ROUNDS = 3


@dataclass(frozen=True)
class Question:
    """One model: the machine, the threads, what must hold, and the protection that can be taken out."""

    factory: Callable[..., Machine]
    programs: dict[str, Any]
    properties: tuple[str, ...]
    protection: str
    never: str  # the same property for SPIN, of cells


def two_programs(trace: bool = True) -> Machine:
    """Two programs that can bind the network card, each of which knows a VM, and one that can open its group."""
    machine = ready_to_bind("one", "two", trace=trace)
    machine.process("opener")
    return machine


def listed(trace: bool = True) -> Machine:
    """A program whose device file is in the list of its VM."""
    machine = ready_to_bind("vmm", trace=trace)
    give_vm(machine.processes["vmm"])
    return make(machine, change_list("vmm", uapi.KVM_DEV_VFIO_FILE_ADD))


NAMES = ("one", "two", "three")
TOKEN_AT = 0x20_0000
MENDED = PUZZLES["R13"].fixes


def for_vms(*names: str, trace: bool = True) -> Machine:
    """Programs that can bind a physical function for a VM each, and one that can open its group."""
    machine = ready_to_bind(*names, topology=CARD, trace=trace)
    for name in names:
        process = machine.processes[name]
        give_vm(process)
        make(machine, change_list(name, uapi.KVM_DEV_VFIO_FILE_ADD))
        process.memory.map(16, b"\x11" * 16, address=TOKEN_AT)
    machine.process("opener")
    return machine


QUESTIONS = {
    "bind | bind | group-open": Question(
        two_programs,
        {"A": [bind("one")], "B": [bind("two")], "C": [("opener", "open", GROUP)]},
        ("group_and_node_exclude_each_other",),
        "group_lock",
        "{vfio_group 1.group_lock} == 0 && {vfio_group 1.opened_file} != 0 && {vfio_group 1.cdev_device_open_cnt} != {=0}",
    ),
    "bind | kvm-del | vm-close": Question(
        listed,
        {
            "A": [bind("vmm")],
            "B": [change_list("vmm", uapi.KVM_DEV_VFIO_FILE_DEL)],
            "C": [("vmm", "close", KVM_VFIO), ("vmm", "close", VM)],
        },
        (),
        "kvm_ref_lock",
        "",
    ),
}


def ask(question: Question, without: tuple[str, ...]) -> Result:
    """Our answer."""
    return explore(question.factory, question.programs, question.properties, without)


def model(question: Question, without: tuple[str, ...]) -> tuple[Model, str]:
    """The model for SPIN."""
    made = gathered(question.factory, question.programs, lambda machine: machine.engine.take_out(*without))
    condition = re.sub(r"\{=(.*?)\}", lambda found: str(made.value(found[1])), question.never)
    parts = [part for part in condition.split(" && ") if part and not any(f".{name}}}" in part for name in without)]
    condition = re.sub(r"\{(.*?)\}", lambda found: made.variable(found[1]), " && ".join(parts))
    return made, made.text(condition)


def of_processor() -> float:
    """Seconds of the processor up to now, of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def spin(text: str) -> tuple[float, dict[str, str]]:
    """Seconds from the model to SPIN's verdict, and what it says."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "model.pml").write_text(text)
        run = partial(subprocess.run, cwd=place, capture_output=True, text=True, check=True)
        started = time.perf_counter()
        run(["spin", "-a", "model.pml"])
        run(["gcc", "-O2", "-DSAFETY", "-o", "pan", "pan.c"])
        said = run(["./pan", "-m100000"]).stdout
        seconds = time.perf_counter() - started
    facts = {
        "errors": r"errors: (\d+)",
        "states": r"(\d+) states, stored",
        "transitions": r"(\d+) transitions",
        "memory": r"([\d.]+)\s+total actual memory",
    }
    found = {name: re.search(pattern, said) for name, pattern in facts.items()}
    if "max search depth too small" in said:
        raise RuntimeError("SPIN did not go to the end of the model")
    return seconds, {name: match[1] if match else "?" for name, match in found.items()}


def process(name: str, without: str) -> tuple[float, float]:
    """Seconds of a whole Python process that asks one question, and the most memory it had, in MB."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "ask", name, without], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, float(done.stdout) / 1024


def compare(name: str, question: Question, without: tuple[str, ...]) -> None:
    """One row of the table."""
    ours, whole, theirs = [], [], []
    our_work, their_work = [], []
    made, text = model(question, without)
    result, memory, facts = ask(question, without), 0.0, dict[str, str]()
    for _ in range(ROUNDS):
        before = of_processor()
        result = ask(question, without)
        our_work.append(of_processor() - before)
        ours.append(result.seconds)
        seconds, memory = process(name, ",".join(without))
        whole.append(seconds)
        if shutil.which("spin"):
            before = of_processor()
            seconds, facts = spin(text)
            their_work.append(of_processor() - before)
            theirs.append(seconds)
    steps = ", ".join(f"{thread} {tree.longest()}" for thread, tree in made.trees.items())
    print(
        f"{name}, {'without ' + ', '.join(without) if without else 'as it is'}; most effects of a thread, ours = SPIN's: {steps}"
    )
    mine, my_work = statistics.median(ours), statistics.median(our_work)
    print(
        f"  ours: {result.verdict:7} {mine:6.3f} s ({my_work:.3f} of the processor), {statistics.median(whole):.3f} s with "
        f"Python's start, {result.schedules} schedules, {result.transitions} transitions, {memory:.0f} MB"
    )
    if theirs:
        his, verdict = statistics.median(theirs), "safe" if facts["errors"] == "0" else "broken"
        work = statistics.median(their_work)
        print(
            f"  SPIN: {verdict:7} {his:6.3f} s ({work:.3f} of the processor), {facts['states']} states, "
            f"{facts['transitions']} transitions, {facts['memory']} MB; ours takes {mine / his:.2f} of its time "
            f"({my_work / work:.2f} of the processor's), {statistics.median(whole) / his:.2f} with Python's start"
        )
        if verdict != result.verdict:
            raise SystemExit("the verdicts differ")


def goals() -> None:
    """How long the two explorations take that have a goal, with all properties."""
    binds: dict[str, Any] = {thread: [bind(name, token=TOKEN_AT)] for thread, name in zip("ABC", NAMES, strict=True)}
    alone = explore(partial(for_vms, "one"), {"A": binds["A"]}, patches=MENDED)
    two = {"A": binds["A"], "B": binds["B"], "C": [("opener", "open", GROUP)]}
    print(f"binds of {alone.transitions} effects, with all properties, in a kernel where R13 is mended:")
    for name, goal, names, programs in (
        ("two binds and an open", 0.3, NAMES[:2], two),
        ("three binds", 3.0, NAMES, binds),
    ):
        results = [explore(partial(for_vms, *names), programs, patches=MENDED) for _ in range(ROUNDS)]
        seconds = statistics.median(result.seconds for result in results)
        print(f"  {name}: {results[0].verdict}, {results[0].schedules} schedules, {seconds:.3f} s (goal {goal} s)")


def main() -> None:
    """Print the table, or ask one question."""
    if sys.argv[1:2] == ["ask"]:
        without = tuple(filter(None, sys.argv[3].split(",")))
        ask(QUESTIONS[sys.argv[2]], without)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    if not shutil.which("spin"):
        print("There is no `spin` here (apt install spin gcc), so only our side is measured.")
    for name, question in QUESTIONS.items():
        for without in ((), (question.protection,)):
            compare(name, question, without)
    goals()


if __name__ == "__main__":
    main()
