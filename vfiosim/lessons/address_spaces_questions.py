"""The questions of the lesson about address spaces. Every answer comes out of an experiment."""

from __future__ import annotations

from dataclasses import replace

from ..lab import Distractor, ExperimentResult, Outcome, Question, Session
from ..lab.question import step_saying
from . import misconceptions as M
from .address_spaces_bench import (
    IOVA,
    ONLY,
    PAGE,
    PAGES,
    alloc,
    attach,
    destroy,
    detach,
    enter,
    mapped,
    memory,
    packet,
    sending,
)
from .address_spaces_dma import dma
from .address_spaces_pages import CALLS, small
from .beginnings import CTX, NODES, bound
from .experiments import found, told
from .groups_calls import pair

NOWHERE = 0x5F0000000000  # an address at which no program has memory
VIEW = (*ONLY, "mm_struct vmm")
BLOCKED = "until ATTACH the DMA is blocked"


def _mapped_and_not_attached() -> ExperimentResult:
    session = Session(start=mapped)
    read = dma(session.machine)
    kinds = {"HWPT": "arrives", "none": "blocked", "one ": "kernel"}  # by which table is used
    made = found(session, kinds[read.doors[1].answer[:4]], BLOCKED, *repr(read).splitlines(), since=2)
    return replace(made, trace=made.trace[: session.done[3].steps_before - session.done[2].steps_before])  # the BIND


def nonsense(session: Session, ioas: int) -> Outcome:
    """Map what is no memory."""
    fields = {"ioas_id": ioas, "user_va": NOWHERE, "length": PAGES * PAGE, "iova": IOVA}
    return session.ask(CTX, "IOMMU_IOAS_MAP", flags=7, **fields)


def _memory_that_is_not_there() -> ExperimentResult:
    session = Session(start=bound)
    alloc(session)
    calls = [nonsense(session, 2), attach(session, 2)]
    refused = [name for name, outcome in zip(("map", "attach"), calls, strict=True) if outcome.refused]
    return found(session, (*refused, "dma")[0], "Refused" if refused else -1, *told(*calls), since=-2)


def _destroy_in_use() -> ExperimentResult:
    session = Session(start=sending)
    calls = [destroy(session, 2), detach(session), destroy(session, 3)]
    return found(session, " ".join(one.result for one in calls), "EBUSY", *told(*calls), since=-3)


def _pinned(session: Session) -> int:
    return int(session.process.status()["VmPin"])  # KiB


def _unmapped_by_the_program() -> ExperimentResult:
    session = Session(start=sending)
    before = _pinned(session)
    session.process.munmap(packet(session), PAGES * PAGE)
    after = _pinned(session)
    evidence = (f"VmPin before: {before} KiB", f"VmPin after: {after} KiB", *repr(dma(session.machine)).splitlines())
    return found(session, str(after * 1024 // PAGE), "gets everything", *evidence, since=-1)


def _emulated() -> ExperimentResult:
    session = Session()
    session.open(NODES["vfio4"])
    session.open("/dev/iommu")
    session.bind(3, iommufd=4)
    memory(session)
    alloc(session)
    enter(session, 2)
    outcome = attach(session, 2)
    number = session.steps[step_saying(session.steps, "pt_id = ") - 1].sentence.split()[2]
    evidence = (*told(outcome), f"pt_id = {number}", f"VmPin: {_pinned(session)} KiB")
    return found(session, f"{number} {_pinned(session) * 1024 // PAGE}", "pt_id = ", *evidence)


def _siblings() -> ExperimentResult:
    session = Session(start=pair)
    for fd in (3, 4):
        session.bind(fd, iommufd=5)
    for _ in range(2):
        session.ask(5, "IOMMU_IOAS_ALLOC")
    first, second = (session.ask(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=fd) for fd in (3, 4))
    return found(session, second.result, "Refused", *told(first, second), since=-2)


def _replace_that_fails() -> ExperimentResult:
    session = Session(start=sending)
    alloc(session)
    nonsense(session, 4)
    outcome = attach(session, 4)
    read = dma(session.machine)
    evidence = (*told(outcome), *repr(read).splitlines())
    return found(session, "packet" if read.arrives else "nothing", "Refused", *evidence)


def _over_the_limit() -> ExperimentResult:
    session = Session(start=small)
    calls = [CALLS[name](session) for name in ("map", "map", "map", "attach")]
    refused = [str(number) for number, one in enumerate(calls, start=1) if one.refused]
    return found(session, (*refused, "none")[0], "Refused")


def _ask_an_address_space() -> ExperimentResult:
    session = Session(start=mapped)
    return found(session, session.ask(CTX, "IOMMU_GET_HW_INFO", dev_id=2).result, "Refused")


QUESTIONS: dict[str, Question] = {
    "mapped": Question(
        "The card is bound to the iommufd. The program has allocated an address space, ID 2, and has mapped the packet in it, at "
        "I/O address <code>0x10000</code>. Now the card reads at <code>0x10000</code>. What does it get?",
        _mapped_and_not_attached,
        "BIND gave the DMA to your iommufd, and blocked it. The packet is entered in address space 2, but nobody has told the "
        "IOMMU to use address space 2 for this card. That is what ATTACH does.",
        {
            "blocked": "Nothing: the IOMMU stops the read",
            "arrives": "The packet: the card is bound, and the packet is mapped",
            "kernel": "Whatever the kernel's own table has at 0x10000",
        },
        {
            "arrives": Distractor(
                "The card is bound and the packet is mapped, that is true. But the IOMMU has no page table for this "
                "card: until ATTACH every read is blocked.",
                M.BOUND_IS_READY,
            ),
            "kernel": Distractor(
                "That is how it was before BIND. BIND took the DMA away from the kernel, and blocked it.", at=BLOCKED
            ),
        },
    ),
    "no memory": Question(
        "A program makes a mistake. It maps 16 KiB in address space 2, from an address at which it has no memory at all. Nothing "
        "is attached to the address space yet. Then it attaches the card. What happens?",
        _memory_that_is_not_there,
        "without a page table, MAP only notes what is meant. ATTACH makes a page table, and a table needs real pages: now the "
        "memory is looked up, pinned and entered. A mistake in MAP is told by ATTACH.",
        {
            "map": "MAP is refused with EFAULT",
            "attach": "MAP succeeds, and ATTACH is refused with EFAULT",
            "dma": "Both succeed, and the first read of the card fails",
        },
        {
            "map": Distractor(
                "You expected MAP to look the memory up at once. Without a page table it only notes the addresses. "
                "ATTACH makes a table, looks the memory up, and is refused.",
                M.MAP_PINS,
            ),
            "dma": "That is how a program's own memory works: a page comes when somebody touches it. A card cannot "
            "wait for a page, so all are pinned before the first read.",
        },
        hints=("What does the kernel need to know while nobody can read?",),
    ),
    "three calls": Question(
        "The card is attached to address space 2. For that, ATTACH has made a page table, ID 3. Now three calls: <code>DESTROY "
        "2</code>, then <code>DETACH</code>, then <code>DESTROY 3</code>. How do they end?",
        _destroy_in_use,
        "page table 3 holds address space 2, so that one is busy. ATTACH made the table by itself, so the table goes by itself, "
        "with the last device that leaves it: after DETACH there is no 3.",
        {
            "0 0 0": "0, 0, 0: the address space takes its table along",
            "EBUSY 0 ENOENT": "EBUSY, 0, ENOENT: there is no 3 any more",
            "EBUSY 0 0": "EBUSY, 0, 0: first let go, then destroy",
            "EBUSY 0 EBUSY": "EBUSY, 0, EBUSY: the address space still uses the table",
        },
        {
            "0 0 0": Distractor(
                "You expected DESTROY to take the table away. The table holds the address space, and DESTROY refuses what is held.",
                at="EBUSY",
            ),
            "EBUSY 0 0": Distractor(
                "That would be right for a table that you made yourself. This one was made by ATTACH, and freed by DETACH.",
                at="iommufd_hwpt_paging 3 is freed",
            ),
            "EBUSY 0 EBUSY": Distractor(
                "The other way round: the table holds the address space, and nobody holds the table after DETACH.",
                at="there is no object 3",
            ),
        },
        name="09 busy",
    ),
    "munmap": Question(
        "The card sends; the 4 pages of the packet are pinned for it. Now the <i>program</i> unmaps these pages from its own "
        "memory, with <code>munmap</code>. How many pages are pinned afterwards?",
        _unmapped_by_the_program,
        "there are two maps. <code>munmap</code> changes the program's; the card goes by the page table of the IOMMU, and that "
        "still has the pages. Only UNMAP, DETACH or the end of the table gives them back.",
        {},
        {
            "0": Distractor(
                "You expected the card to lose what the program has unmapped. Its page table still has everything.",
                M.ONE_MAP,
            )
        },
        hints=("Whose map does munmap change?",),
        kind="number",
        otherwise="All four, or none: munmap took all of them out of the program's own map.",
    ),
    "emulated": Question(
        "<code>vfio4</code> is the serial port made of software. It is bound, and it is attached to address space 2, in which 4 "
        "pages are mapped. Which ID does ATTACH write into <code>pt_id</code>, and how many pages are pinned?",
        _emulated,
        "there is no hardware, so there is no page table: the device is attached to the address space itself. Its driver asks "
        "for pages when it needs some, through its <i>access</i>, and pins just those.",
        {
            "2 0": "2, the address space itself; no page is pinned",
            "3 4": "3, a new page table; 4 pages are pinned",
            "3 0": "3, a new page table; no page is pinned",
        },
        {
            "3 4": "That is right for the card, whose IOMMU reads a table. Software has no IOMMU in front of it, so "
            "nobody would read a table.",
            "3 0": "You expected a table that shows no page yet. A table always has its pages pinned, and here is no "
            "table: no IOMMU stands in front of software.",
        },
        view=(
            "thread *",
            "fds vmm",
            "file vfio4#1",
            "vfio_device vfio4",
            "iommufd_access",
            "iommufd_ioas",
            "iopt_area",
            "iopt_pages",
        ),
    ),
    "siblings": Question(
        "A graphics card (<code>vfio1</code>, descriptor 3) and its audio function (<code>vfio2</code>, 4) are one group, "
        "and both are bound to one iommufd. It has two empty address spaces, 3 and 4. The program attaches descriptor 3 to "
        "address space 3: 0. Then it attaches descriptor 4 to address space 4. How does that end?",
        _siblings,
        "the IOMMU cannot tell the two functions apart, so they have one page table. A device may join the table of its group. It "
        "cannot bring another one while somebody else of the group is attached.",
        {
            "0": "0: each device is attached to what it names",
            "EINVAL": "EINVAL: the group uses another page table",
            "EPERM": "EPERM: somebody else owns the DMA of the group",
            "EBUSY": "EBUSY: the group is in use",
        },
        {
            "0": Distractor(
                "You expected each device to have a page table of its own. To the IOMMU both are one.",
                M.NO_GROUPS_ANY_MORE,
            ),
            "EPERM": "EPERM is the answer of BIND to a second <i>owner</i>. Here both devices have the same one, their iommufd.",
            "EBUSY": "EBUSY is about doors: a group's file or a node that shuts the other. Here both devices are bound already.",
        },
        view=(
            "fds vmm",
            "vfio_device vfio1",
            "vfio_device vfio2",
            "iommufd_device",
            "iommufd_group",
            "iommufd_ioas",
            "iommufd_hwpt_paging",
            "iommu_group 2",
        ),
    ),
}

CHECK = (
    Question(
        "The card sends from address space 2. The program attaches it to address space 4, in which it has mapped an address "
        "without memory: EFAULT. What does the card get now, at <code>0x10000</code>?",
        _replace_that_fails,
        "the new table is filled first, and only then does the hardware change over. What fails, fails before.",
        {
            "packet": "Its packet, from address space 2 as before",
            "nothing": "Nothing: it has left 2 and did not reach 4",
        },
        {
            "nothing": "You expected ATTACH to begin with a DETACH. It does not: it fills the new table first. That was "
            "refused, so the card keeps the old table."
        },
        name="09 check: a move that fails",
    ),
    Question(
        "A program may lock 10 pages. Nothing is attached to its address space. It makes four calls: MAP of 4 pages, MAP of 4 "
        "more, MAP of 4 more, ATTACH. Which one is refused with ENOMEM?",
        _over_the_limit,
        "the limit is about pinned pages, and nothing is pinned before there is a table. ATTACH has to pin 12 pages at once.",
        {
            "3": "The third MAP: that makes 12 pages",
            "none": "None: the limit is about memory, not about devices",
            "4": "The ATTACH",
        },
        {
            "3": Distractor(
                "You counted mapped pages. The limit counts pinned pages: after three MAP 12 pages are mapped and 0 "
                "are pinned, for there is no page table yet.",
                M.MAP_PINS,
            ),
            "none": "You expected the limit not to count here. RLIMIT_MEMLOCK limits memory that cannot be taken away, "
            "and pinned pages are such memory.",
        },
        name="09 check: the limit",
    ),
    Question(
        "The device has ID 1, the address space ID 2. The program asks GET_HW_INFO with <code>dev_id = 2</code>. Which errno?",
        _ask_an_address_space,
        "all objects of an iommufd share one row of numbers. An ID is looked up together with its kind: there is a 2, but no "
        "<i>device</i> 2.",
        {},
        {
            "EINVAL": "You expected an errno for “wrong kind”. The kernel looks for a <i>device</i> with ID 2, and there is "
            "none.",
            "EBADF": "EBADF is about descriptors. An ID is no descriptor.",
        },
        otherwise="The kernel looks for a device object with ID 2. There is none: 2 is the address space.",
        name="09 check: an ID",
    ),
)
