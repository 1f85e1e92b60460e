"""The questions of the capstone: what a VMM has to know of the order of its calls. Every answer comes out of an experiment."""

from __future__ import annotations

from ..lab import Distractor, ExperimentResult, Question, Session
from ..machine.events import Killed
from . import misconceptions as M
from .address_spaces_bench import PAGE, memory
from .address_spaces_dma import dma
from .address_spaces_pages import limit
from .beginnings import NODES
from .experiments import found, told
from .groups_calls import OLD, enter, get_device, owner, set_iommu
from .moves import UP, fd_of, play

VM, CARD, CTX = "kvm 1", "vfio_device vfio0", "iommufd_ctx 1"
VIEW = ("fds vmm", "file vfio*", CARD, "file iommu*", "iommufd_device", "iommufd_hwpt_paging", "file kvm-vfio*", "kvm")


def guest(session: Session) -> None:
    """A VM runs, with a kvm-vfio device (descriptor 3) and 16 KiB of memory; no card yet."""
    vm = int(session.create_vm().result)
    session.create_kvm_vfio(vm)
    memory(session)


def with_card(session: Session) -> None:
    """The VM has the card, and the card reads the guest's memory."""
    guest(session)
    play(*UP)(session)


def holds_vm(session: Session) -> bool:
    """Does the card hold the VM?"""
    links = session.machine.trace.end.references("counted")
    return any((link.holder, link.target) == (CARD, VM) for link in links)


def _list_after_bind() -> ExperimentResult:
    session = Session(start=guest)
    play("open card", "open iommufd", "BIND", "FILE_ADD")(session)
    first, last = (done.outcome for done in session.done[-2:])
    answer = last.result if last.refused else str(holds_vm(session))
    ledger = session.machine.trace.end.objects[VM].counts["users_count"]
    holders = f"who holds {VM} then: {', '.join(holder for holder, _ in ledger)}"
    return found(session, answer, "This file belongs to", *told(first, last), holders, since=-2)


def _which_way() -> ExperimentResult:
    session = Session()
    enter(session, 1, OLD)
    set_iommu(session)
    get_device(session, "0000:01:00.0")
    return found(session, owner(session, 1)[0] or "nobody", "becomes the one owner", since=2)  # from SET_CONTAINER on


def _a_second_card() -> ExperimentResult:
    session = Session(start=with_card)
    iommu = fd_of(session, "iommu")
    second = int(session.open(NODES["vfio1"]).result)
    session.bind(second, iommufd=iommu)
    outcome = session.ask(second, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=2)
    pinned = session.process.status()["VmPin"]
    read = (
        repr(dma(session.machine, "gpu"))
        .splitlines()[-1]
        .replace("It gets", "The second card reads the guest's memory. It gets")
    )
    evidence = (*told(outcome), f"VmPin: {pinned} KiB", read)
    return found(session, str(pinned * 1024 // PAGE), "of its page tables is tried", *evidence)


def _killed() -> ExperimentResult:
    session = Session(start=with_card)
    session.do(Killed("vmm"))
    left = [name for name in (VM, CTX) if name in session.machine.trace.end.objects]
    answer = "nothing" if not left else "vm" if VM in left else "iommufd"
    return found(session, answer, "iommufd_ctx 1 is freed", f"alive of {VM} and {CTX}: {', '.join(left) or 'none'}")


def _memory_grows() -> ExperimentResult:
    session = Session()
    limit(session, 4)
    with_card(session)
    place = session.machine.processes["vmm"].memory.map(4 * PAGE)
    fields = {"ioas_id": 2, "user_va": place, "length": 4 * PAGE, "iova": 0x20000}
    return found(session, session.ask(fd_of(session, "iommu"), "IOMMU_IOAS_MAP", flags=7, **fields).result, "Refused")


def _iommufd_closed() -> ExperimentResult:
    session = Session(start=with_card)
    session.close(fd_of(session, "iommu"))
    read = dma(session.machine)
    paths = (path.words for path in session.machine.why(CTX).paths[:1])
    return found(session, "goes on" if read.arrives else "stops", -1, *paths, repr(read).splitlines()[-1])


QUESTIONS: dict[str, Question] = {
    "list": Question(
        "A VMM is in a hurry. It binds the card first, and puts the card's file on the list of the VM "
        "(FILE_ADD) afterwards. Both calls succeed. Does the device hold the VM now?",
        _list_after_bind,
        "BIND looks for the VM once, on its way, and never again. A VMM that adds the file too late gets no error: a device whose "
        "driver needs the VM simply has none. QEMU adds the file first, and says so in a comment.",
        {
            "True": "Yes: the file is on the list, and the device is bound",
            "EBUSY": "It cannot: FILE_ADD of a bound file is refused",
            "False": "No, and nobody says so",
        },
        {
            "True": "You expected the device to learn of the VM later. BIND asks once whether the file belongs to a VM, "
            "and at that moment it did not.",
            "EBUSY": "FILE_ADD looks whether the file is one of VFIO. It does not ask whether the file belongs to a bound device.",
        },
    ),
    "second card": Question(
        "The VM has a card, and 4 pages of the guest are pinned for it. Now it gets a graphics card, too: the VMM binds that to "
        "the same iommufd, and attaches it to the same address space. How many pages are pinned then?",
        _a_second_card,
        "the address space has a page table that fits, so the second card gets that one: one table, one pin, two readers. "
        "So a VMM has one iommufd and one address space for all cards of its guest.",
        wrong={
            "8": "You expected each card to bring a page table of its own. ATTACH looks first which of its page tables fits.",
            "0": "The first card still reads by its page table. What that shows stays pinned.",
        },
        otherwise="The address space has one page table that both cards read by. It shows 4 pages, and each is pinned once.",
        kind="number",
        hints=("How many page tables are there?",),
    ),
    "killed": Question(
        "The VMM is killed, in the middle of everything: VM, card, iommufd, mapped memory. No line of its clean-up ever runs. What "
        "is left in the kernel?",
        _killed,
        "the end of a process closes its descriptors, and each last holder frees what it held: binding, page table, address space, "
        "pins, iommufd, VM. So a VMM that ends needs no tear-down: its clean-up code is for cards that leave a VM that lives on.",
        {
            "vm": "The VM: the device held it, and nobody has unbound the device",
            "nothing": "Nothing of all that",
            "iommufd": "The iommufd with its pinned pages: nobody has unmapped them",
        },
        {
            "vm": Distractor(
                "You expected that somebody has to unbind. The end of the process closed the device's file, and when "
                "that was freed, its binding gave the VM back.",
                at="iommufd_ctx 1 is freed",
            ),
            "iommufd": "The pages are unpinned when the page table goes, and that goes before iommufd_ctx 1 is freed.",
        },
    ),
    "no descriptor": Question(
        "A VMM closes its descriptor of the iommufd while the card is attached. What becomes of the card's reads?",
        _iommufd_closed,
        "the binding holds the file of the iommufd. But the VMM can map and unmap nothing any more: it has no descriptor for it.",
        {"goes on": "They go on", "stops": "They are blocked"},
        {
            "stops": Distractor(
                "close(6) took one holder of the iommufd away. The binding holds it, too: the page table stays, and "
                "the reads go on.",
                M.CLOSING_IS_RELEASING,
                at="Descriptor 6 leads nowhere",
            )
        },
        name="12 check: no descriptor",
    ),
    "more memory": Question(
        "The card of the VM reads. Now the guest gets 4 more pages, and the VMM maps them. It may lock 4 pages in all, and those "
        "are used. Which errno does MAP give?",
        _memory_grows,
        "the address space has a page table, so MAP pins at once, and the limit is reached.",
        wrong={
            "0": "You expected MAP to write down a line and no more. That is right while nothing is attached. Here a "
            "card is: MAP has to pin, and was refused.",
            "EFAULT": "The memory is there. There is too much of it: MAP was refused for the limit.",
        },
        otherwise="Think of RLIMIT_MEMLOCK: MAP was refused because more was asked for than may be locked.",
        name="12 check: more memory",
    ),
}

CHECK = (
    Question(
        "A VMM was started with <code>iommufd=on</code>. Its descriptors lead to <code>/dev/vfio/1</code>, "
        "<code>/dev/vfio/vfio</code> and <code>anon_inode:[vfio-device]</code>. Who owns the DMA of the card's group?",
        _which_way,
        "a group's file that was put into a container, and a device that came out of it: that is the old way, whatever the VMM "
        "was told. On the new way the list has <code>/dev/iommu</code> and a node under <code>/dev/vfio/devices</code>.",
        {
            "vfio_group 1": "The group itself, for its container",
            "iommufd_ctx 1": "An iommufd: the VMM was told so",
            "nobody": "Nobody yet: no device was bound",
        },
        {
            "iommufd_ctx 1": Distractor(
                "No descriptor leads to an iommufd. The group itself has become the owner.", M.TOLD_IS_DONE
            ),
            "nobody": "You looked for a BIND. On the old way there is none: the group has become the owner when it was put "
            "into the container.",
        },
        view=("fds vmm", "file group*", "file vfio*", "vfio_group 1", "iommu_group 1", CARD),
        name="12 check: which way",
    ),
)
