"""The questions of the lesson about closing: what a binding ends with. Every answer comes out of an experiment."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Distractor, ExperimentResult, Question, Session, errnos
from ..machine.events import Began, Forked, Killed
from . import misconceptions as M
from .beginnings import DEVICE, bound, opened
from .closing_calls import DRIVER, NIC, mmap, other, passed, unbind
from .experiments import found
from .one_bind import bound_for_a_vm

FILE, CTX, KVM, GPU = "file vfio0#1", "iommufd_ctx 1", "kvm 1", "0000:02:00.0"
WHO = ("thread *", "fds vmm", "fds helper", "fds broker", "file vfio*", "vfio_device_file", "vfio_device vfio0")
ALL = (*WHO, "mm_struct vmm", "mm_struct helper", "file iommu*", "iommufd_ctx", "iommufd_device")
LEFT = (FILE, "vfio_device_file 1", CTX, KVM)


def _who_is_left(closes: tuple[int, ...] = (3, 4)) -> ExperimentResult:
    session = Session(start=bound_for_a_vm)
    for fd in closes:
        session.close(fd)
    alive = tuple(name for name in LEFT if name in session.machine.trace.end.objects)
    paths = (path.words for path in session.machine.why(FILE).paths[:1])
    at, since = ("Descriptor 4 leads nowhere", session.given) if closes else (0, None)
    return found(session, alive, at, *paths, since=since)


def _while_it_waits(start: Callable[[Session], object]) -> Session:
    session = Session(start=start)
    session.do(Began("admin"))
    unbind(session)
    return session


def _given_to_a_helper(session: Session) -> None:
    bound(session)
    session.do(Forked("vmm", "helper"))
    session.close(3)
    session.close(4)


def _unbind() -> ExperimentResult:
    session = _while_it_waits(_given_to_a_helper)
    outcome = session.done[-1].outcome
    alive = "vfio_device_file 1" in session.machine.trace.end.objects
    answer = "waits" if outcome.waits and alive else outcome.result if outcome.refused else "cut"
    return found(session, answer, -1, outcome.evidence, *(path.words for path in session.machine.why(FILE).paths))


def _bind_while_it_waits() -> ExperimentResult:
    session = _while_it_waits(opened)
    return found(session, session.bind(3, iommufd=4).result, "Refused")


def _the_broker_is_left() -> ExperimentResult:
    session = Session(start=passed)
    other(session, "broker", "recvmsg_fds", 6)
    session.do(Killed("vmm"))
    end = session.machine.trace.end.objects
    answer = "ends" if FILE not in end else "lives" if CTX in end and "iommufd_device 1" in end else "half"
    return found(session, answer, 1, *(path.words for path in session.machine.why(CTX).paths[:1]))


def _the_number_again() -> ExperimentResult:
    session = Session(start=opened)
    session.close(3)
    number = session.open("/dev/vfio/devices/vfio1").number
    outcome = session.close(3)
    gone = "file vfio1#1" not in session.machine.trace.end.objects
    answer = "other" if gone and number == 3 else "nothing" if outcome.result == "0" else outcome.result
    return found(session, answer, "Nobody holds file vfio1#1", since=session.given)


def _count() -> ExperimentResult:
    session = Session(start=bound)
    session.dup(3)
    mmap(session)
    session.do(Forked("vmm", "helper"))
    ledger = session.machine.trace.end.objects[FILE].counts["f_ref"]
    lines = (f"{holder}: {reason}" for holder, reason in ledger)
    return found(session, str(sum(ledger.values())), "helper gets", *lines)


def _open_while_it_waits() -> ExperimentResult:
    session = _while_it_waits(bound)
    return found(session, session.open(DEVICE).result, "Refused")


def _which_card() -> ExperimentResult:
    session = Session()
    session.do(Began("admin"))
    for file, address in (("unbind", NIC), ("unbind", GPU), ("bind", GPU), ("bind", NIC)):
        other(session, "admin", "write_file", f"{DRIVER}/{file}", address)
    opened_now = session.open(DEVICE)
    driven = session.state.objects["device gpu"].fields["drvdata"]
    answer = opened_now.result if opened_now.refused else "gpu" if driven == "vfio_device vfio0#2" else "nic"
    paths = (f"{link.holder} → {link.target}" for link in session.state.references() if link.reason == "drvdata")
    return found(session, answer, "takes device gpu", *(path for path in paths if "#2" in path), since=-3)


QUESTIONS: dict[str, Question] = {
    "who is left?": Question(
        "The device (3) is bound to the iommufd (4). A VM (6) has the device's file on the list of its kvm-vfio device (5). The "
        "VMM does <code>close(3)</code>, then <code>close(4)</code>; the VM stays open. Which of these are alive afterwards?",
        _who_is_left,
        "the list of the VM holds the device's file. The file holds the binding, the binding holds the iommufd. Nothing has ended.",
        {name: name for name in LEFT},
        {
            **{
                f"-{name}": Distractor(
                    "close(3) took a descriptor away. The list of the kvm-vfio device holds the same file.",
                    M.ONE_NUMBER_ONE_HOLDER,
                    at="Descriptor 3 leads nowhere",
                )
                for name in LEFT[:2]
            },
            f"-{CTX}": Distractor(
                "close(4) took a descriptor away. The device's file is alive, and the binding holds the iommufd.",
                M.CLOSING_IS_RELEASING,
                at="Descriptor 4 leads nowhere",
            ),
            f"-{KVM}": "Nobody has closed the VM: close(3) and close(4) are about the device and the iommufd.",
        },
        view=(*LEFT, "fds", "file iommu*", "file kvm*", "iommufd_device", "vfio_device vfio0", "kvm_vfio"),
        kind="set",
        before=lambda: _who_is_left(()),
        hints=(
            "Who holds the device's file besides descriptor 3?",
            "The list does. What does the file hold in its turn?",
        ),
    ),
    "unbind": Question(
        "The VMM forked a helper while descriptor 3 was open, and has closed its own descriptors since. An administrator writes "
        "the card's address into <code>/sys/bus/pci/drivers/vfio-pci/unbind</code>. What becomes of the <code>write</code>?",
        _unbind,
        "the helper has a descriptor for the same file. The driver cannot leave a device that somebody has open, so it waits.",
        {
            "waits": "It waits until the last holder of the file lets go",
            "EBUSY": "It is refused with EBUSY: the device is in use",
            "cut": "It takes the device away at once; the helper's next call fails",
        },
        {
            "EBUSY": Distractor(
                "You expected a check. No check asks whether the device is in use: the call goes on, and waits where "
                "the driver needs the last file to be closed."
            ),
            "cut": Distractor(
                "You expected the device to be taken away at once. Then the helper's next call would use what the "
                "driver has freed. So the driver waits for the last file.",
                M.UNBINDING_CUTS,
            ),
        },
    ),
    "BIND meanwhile": Question(
        "A program has opened the card's node, and has not bound it yet. An administrator unbinds the driver: that waits for the "
        "open file. Now the program does BIND. What does BIND answer?",
        _bind_while_it_waits,
        "opening the device includes a reset of the card, and that needs the lock of the device. The unbind has it. "
        "A reset only tries this lock: where it is taken, BIND gives everything back and says EAGAIN, <i>try again</i>.",
        {
            **errnos("0", "EBUSY", "ENODEV", "EAGAIN"),
            "waits": "It waits, too: for a lock that the administrator's call has",
        },
        {
            "0": "The file is open, so BIND begins. But the reset of the card needs the lock of the device: the unbind has it.",
            "EBUSY": "No check of BIND says EBUSY here: the group is not open. What BIND needs is a lock that it only tries.",
            "ENODEV": "The file was opened in time, so the device is still there. What BIND cannot have is the lock of the device.",
            "waits": "Most locks are waited for. This one is only tried. BIND would wait for the unbind, and the unbind for the "
            "file of this very program: neither would end. So the reset refuses with EAGAIN.",
        },
        view=(*ALL, "device nic", "vfio_device_set vfio0"),
        hints=("Opening a device includes a reset of it.", "Two calls that wait for each other would wait for ever."),
        name="05 while it waits",
    ),
    "passed on": Question(
        "The VMM has bound the device (3) to an iommufd (4). It sends descriptor 3, and only that one, over a socket to a broker, "
        "which receives it. Then the VMM is killed. What becomes of the binding?",
        _the_broker_is_left,
        "the binding belongs to the file, and the broker has a descriptor for this file. The binding holds the iommufd, too, to "
        "which no descriptor leads any more. From now on the broker has to close the file.",
        {
            "ends": "It ends with the program that made it",
            "lives": "It lives on, and the iommufd with it",
            "half": "The file lives on, but without the iommufd: nobody has that open",
        },
        {
            "ends": Distractor(
                "You expected the binding to belong to the program. It belongs to the file. The exit of vmm closes "
                "the descriptors of vmm only, and the broker has one, too.",
                M.BOUND_BY_A_PROGRAM,
            ),
            "half": Distractor(
                "The exit of vmm closes its descriptor of the iommufd. That was one holder of it. The binding is another one.",
                M.CLOSING_IS_RELEASING,
            ),
        },
    ),
    "which card?": Question(
        "<code>vfio0</code> is the network card, <code>vfio1</code> the graphics card. An administrator takes the driver "
        "away from both, and gives it back: to the graphics card first. Then a program opens "
        "<code>/dev/vfio/devices/vfio0</code>. Which card is that?",
        _which_card,
        "a device gets its number when the driver takes it: the lowest that is free. So the graphics card has 0 now. A "
        "program that wants <i>this</i> card looks under its address: <code>/sys/bus/pci/devices/0000:01:00.0/vfio-dev</code>.",
        {
            "nic": "The network card: the number belongs to the card",
            "gpu": "The graphics card: it came first",
            "ENOENT": "None: the old numbers are gone for good",
        },
        {
            "nic": Distractor(
                "You expected the card to keep its number. Nobody remembers it: the driver takes the graphics card first, and the "
                "lowest number that is free is 0.",
                M.VFIO0_IS_MY_CARD,
            ),
            "ENOENT": "Numbers that were given back are free: a device that the driver takes gets the lowest.",
        },
        view=("fds vmm", "file vfio*", "device nic", "device gpu", "vfio_device vfio0*", "vfio_device vfio1*"),
    ),
}

CHECK = (
    Question(
        "Descriptor 3 leads to the file of <code>vfio0</code>. A program does <code>close(3)</code>, opens <code>vfio1</code>, and "
        "then its clean-up code does <code>close(3)</code> once more. What does the last call do?",
        _the_number_again,
        "the number 3 was free, so the next open took it. The clean-up code has closed the other device.",
        {
            "EBADF": "It fails with EBADF: 3 is closed already",
            "nothing": "It returns 0, and nothing happens",
            "other": "It returns 0, and the file of vfio1 goes",
        },
        {
            "EBADF": Distractor(
                "You expected 3 to stay closed. open takes the lowest free number, so 3 leads to vfio1 now. After "
                "this close nobody holds the file of vfio1.",
                M.NUMBERS_STAY,
            ),
            "nothing": "It returns 0 because 3 is open: it leads to the file of vfio1, and nobody else holds that one.",
        },
        view=WHO,
        name="05 check: the number again",
    ),
    Question(
        "The device's file has one descriptor. The program does <code>dup(3)</code>, then <code>mmap</code> of a page of the "
        "device, then forks. How many references have to go before an unbind ends?",
        _count,
        "two descriptors and a mapping are three holders; the fork copies table and memory, so the child has three as well.",
        wrong={
            "3": "You counted one program. The fork copies the descriptors and the memory: the child has three holders "
            "of the file, too.",
            "4": "The child has both descriptors, not one, and the mapping, too.",
            "5": "The child gets a copy of the memory, too. A mapping in it holds the file again.",
        },
        otherwise="Two descriptors and a mapping in each of two programs: the child gets all three.",
        kind="number",
        about=("file vfio0#1.f_ref",),
        name="05 check: count",
    ),
    Question(
        "A bound device; an administrator's unbind waits. Now somebody opens <code>/dev/vfio/devices/vfio0</code>. Which errno?",
        _open_while_it_waits,
        "the node goes first, before the wait begins. So nobody new can come, and the number of those to wait for only falls.",
        wrong={
            "0": "You expected that a device with a driver can be opened. The driver takes the node away before it "
            "waits: else new holders could come, and the wait would never end.",
            "EAGAIN": "EAGAIN comes from a tried lock. An open tries no lock: it looks for a path, and here there is "
            "no path any more.",
            "EBUSY": "EBUSY would need a device to look at. The open does not come so far: there is no path any more.",
            "ENODEV": "ENODEV is for an open that found the node in time, before the device went. Here there is no path any more.",
        },
        otherwise="There is no such path any more: the driver has taken its node away before it waits.",
        kind="typed",
        view=WHO,
        name="05 check: a new open",
    ),
)
