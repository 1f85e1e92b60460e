"""The questions of the lesson about virtual machines. Every answer comes out of calls that are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..engine import get
from ..kernel.kvm.vfio import kvm_vfio_file_free
from ..lab import Distractor, ExperimentResult, Question
from ..lab.question import step_saying
from ..machine import Machine
from ..puzzles.changed import changed
from ..puzzles.programs import KVM_VFIO, VM, bind, listed_for_a_vm
from . import misconceptions as M
from .experiments import found
from .vms_strip import ROWS, done, known

VIEW = (
    "thread *",
    "fds",
    "file vfio*",
    "vfio_device_file",
    "vfio_device vfio0",
    "file kvm-*",
    "kvm",
    "kvm_vfio",
    "kvm_device",
)
SAMPLED = "This file belongs to"


def after(*calls: str, shows: str = "") -> ExperimentResult:
    """What the device holds after these calls, with the steps of the last of them; `shows` is said at the one that decides."""
    session = done(*calls)
    said = known(session)
    told = [
        ("the file" if vm else "empty") if row.startswith("list") else vm or "no VM"
        for row, vm in zip(ROWS, said, strict=True)
    ]
    evidence = tuple(map(": ".join, zip(ROWS, told, strict=True)))
    return found(session, said[-1] or "none", shows or -1, *evidence)


def _last_close() -> ExperimentResult:
    calls = ["add 1", "bind", "del 1", "close list 1", "close VM 1", "close device"]
    dies = next(n for n in range(len(calls) + 1) if "kvm 1" not in done(*calls[:n]).machine.trace.end.objects)
    return replace(after(*calls[:dies], shows="is destroyed"), answer=calls[dies - 1])


def _listed_twice() -> ExperimentResult:
    session = done("add 1", "add 1")
    return found(session, session.done[-1].outcome.result, "Refused")


@changed(kvm_vfio_file_free)
def forgets_to_clear() -> None:
    """The list lets go of a file, and the file keeps its pointer to the VM.

    - await kvm_vfio_file_set_kvm(file, None)
    """


def dying(**patches: Any) -> tuple[Machine, int]:
    """The VM's last reference is given back, and before it is freed a BIND finds a pointer to it; where that begins."""
    machine = listed_for_a_vm("vmm", "other")
    machine.patch(kvm_vfio_file_free=forgets_to_clear, **patches)
    vmm = machine.processes["vmm"]
    vmm.close(KVM_VFIO)
    last = vmm.start("close", VM, run=False)
    kvm: Any = machine.engine.objects["kvm 1"]
    while kvm.users_count.value:
        last.step()
    before = len(machine.trace)
    process, call, *arguments = bind("vmm")
    machine.processes[process].start(call, *arguments)
    last.run()
    return machine, before


def _dying() -> ExperimentResult:
    machine, before = dying()
    device = machine.trace.end.objects["vfio_device vfio0"].fields
    answer = "without" if device["kvm"] is None and device["open_count"] == 1 else "other"
    trace = machine.trace[before:]
    harm = dying(kvm_get_kvm_safe=get_anyway)[0].check()[0]
    evidence = (f"the device holds: {device['kvm'] or 'no VM'}", f"if BIND took a reference all the same: {harm}")
    return ExperimentResult(answer, trace, step_saying(trace, SAMPLED), evidence)


async def get_anyway(kvm: Any, holder: Any, reason: str) -> bool:
    """`kvm_get_kvm_safe` as it must not be: it takes a reference whatever the count is."""
    await get(kvm.users_count, holder, reason)
    return True


QUESTIONS: dict[str, Question] = {
    "bind first": Question(
        "The device is bound. <i>Then</i> its file is to come on the list of VM 1: FILE_ADD is called. Which VM does the "
        "device hold now?",
        lambda: after("bind", "add 1", shows="is listed"),
        "FILE_ADD tells the file. The device looks at its file once, inside of BIND, and that is over:",
        {
            "VM 1": "VM 1",
            "none": "none: the file knows VM 1, the device does not",
            "refused": "none: FILE_ADD is refused",
        },
        {
            "VM 1": Distractor(
                "You expected FILE_ADD to tell the device. It tells the file only. The device asked the file in BIND, "
                "when the file was not listed yet, and does not ask again.",
                M.VM_FOLLOWS_THE_LIST,
            ),
            "refused": "You expected FILE_ADD to be refused after BIND. It asks whether the file is listed already, and not "
            "whether it is bound.",
        },
        name="07 too late",
    ),
    "another VM": Question(
        "The file is on the list of VM 1, and the device is bound. Now the file comes on the list of VM 2, too. Which VM does the "
        "device hold?",
        lambda: after("add 1", "bind", "add 2", shows="is listed"),
        "what BIND has taken stays taken, until the device is closed. The file points to VM 2 now, and a later BIND would take "
        "that:",
        {"VM 1": "VM 1", "VM 2": "VM 2", "none": "none: two VMs cannot have one device"},
        {
            "VM 2": Distractor(
                "FILE_ADD makes the file point to VM 2. The device keeps the VM that BIND found in the file: VM 1.",
                M.VM_FOLLOWS_THE_LIST,
            ),
            "none": "You expected the two lists to exclude each other. Each VM has a list of its own, and no list looks "
            "at another one. The device keeps VM 1.",
        },
    ),
    "off one list": Question(
        "Nothing is bound. The file is on the list of VM 1, then on that of VM 2 as well. It is taken off the list of VM 1. VM "
        "2 still lists it. Then comes BIND. Which VM does the device hold?",
        lambda: after("add 1", "add 2", "del 1", "bind", shows=SAMPLED),
        "the file has <i>one</i> pointer for all lists. FILE_DEL clears it, whichever VM it leads to, and nobody looks at the "
        "other list:",
        {"VM 1": "VM 1: it came first", "VM 2": "VM 2: it still lists the file", "none": "none"},
        {
            "VM 1": "You expected the first list to win. But the file has one pointer. The second FILE_ADD wrote VM 2 "
            "over VM 1, and FILE_DEL cleared it.",
            "VM 2": "The list of VM 2 has the file, that is true. But BIND does not look at lists. It asks the file for "
            "its VM, and FILE_DEL has cleared that.",
        },
        hints=("How many VMs can one pointer lead to?", "FILE_DEL is made for a file that is on one list."),
    ),
    "dying": Question(
        "Suppose that one line of the kernel is missing: a list goes, and the file keeps its pointer to the VM. "
        "The VM is just being destroyed: its count is 0, its memory is still there. Then comes BIND. What does BIND do?",
        _dying,
        "it takes a reference only if the count is not zero yet: <code>kvm_get_kvm_safe</code>. From zero there is no way back, "
        "for somebody is freeing already. And a device without a VM is a good device:",
        {
            "without": "it succeeds, and the device holds no VM",
            "takes": "it takes a reference: the count is 1 again, the VM lives on",
            "EINVAL": "it fails: EINVAL",
        },
        {
            "takes": "You expected the count to go from 0 back to 1. At 0 the VM is being freed already, and no new "
            "reference stops that: the device would hold freed memory.",
            "EINVAL": "You expected BIND to need a VM. For BIND this is a file that belongs to no VM, and that is allowed: "
            "not every program has one.",
        },
    ),
}
CHECK = (
    Question(
        "The file is on the list of VM 1, the device is bound. Then: FILE_DEL, close the list, close the VM, close the device. "
        "Which of these destroys the VM?",
        _last_close,
        "the device has held the VM since BIND, so the VM lives as long as the device is open:",
        {
            "del 1": "FILE_DEL",
            "close device": "the close of the device",
            "close list 1": "the close of the list (the kvm-vfio device)",
            "close VM 1": "the close of the VM's descriptor",
        },
        {
            "del 1": "FILE_DEL tells the file to forget the VM. The file's pointer was not counted, so VM 1 is still held.",
            "close list 1": "The list's file was one holder of three. The VM's own file and the device are left.",
            "close VM 1": Distractor(
                "Closing the descriptor takes one holder of the VM away. The device is another one, since BIND.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
        },
        about=("kvm 1",),
        name="07 check: the last one",
    ),
    Question(
        "A list goes with its descriptor. The file is on the list of VM 1; the program closes the list, and then calls BIND. "
        "Which VM does the device hold?",
        lambda: after("add 1", "close list 1", "bind", shows=SAMPLED),
        "a list that goes takes all files off, and each file forgets its VM. Close the list after BIND, or not at all:",
        {"VM 1": "VM 1: it lives, descriptor 6 holds it", "none": "none", "EBADF": "none: BIND fails with EBADF"},
        {
            "VM 1": "VM 1 lives, that is true. But when its list was closed, the file forgot it. So BIND finds a file "
            "that belongs to no VM.",
            "EBADF": "EBADF would mean that the iommufd is not open. BIND is not given the descriptor of a list: it asks "
            "the file for its VM, and finds none.",
        },
        name="07 check: the list goes",
    ),
    Question(
        "FILE_ADD of the same file to the same list, for the second time. What does it say?",
        _listed_twice,
        "a list has a file once.",
        {"0": "0: it succeeds", "EBUSY": "EBUSY", "EEXIST": "EEXIST"},
        {
            "0": "You expected a second entry. FILE_ADD first looks whether the list has the file: with two entries "
            "one FILE_DEL would not be enough.",
            "EBUSY": "EBUSY would mean that somebody else has it in use. Here it is your own entry, which exists already.",
        },
        name="07 check: twice",
    ),
)
