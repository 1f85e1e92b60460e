"""The lesson about address spaces: bind, attach and map are three things, and a DMA needs all of them."""

from __future__ import annotations

from functools import partial

from ..lab import Exercise, Fact, Goal, Ordering, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_running
from ..machine import Machine, Process
from ..trace import State
from .address_spaces_bench import (
    ONLY,
    Desk,
    alloc,
    attach,
    destroy,
    detach,
    enter,
    leave,
    mapped,
    nothing_bound,
    packet,
    table,
)
from .address_spaces_bench import sending as _sending
from .address_spaces_dma import dma as dma
from .address_spaces_pages import plot as plot
from .address_spaces_pages import sentence as sentence
from .address_spaces_questions import CHECK, QUESTIONS, VIEW
from .lesson import Lesson

OLD = "iommufd_ioas 2"

GONE = Fact("address space 2 is gone", lambda state: "it is there still" if OLD in state.objects else "")
MAPPED = Fact(
    "the packet is mapped in address space 2", lambda state: "" if _mapped(state) else "nothing is mapped there"
)
NOTHING_PINNED = Fact("VmPin is 0 KiB", lambda state: f"it is {pinned} KiB" if (pinned := _pinned(state)) else "")


def _mapped(state: State) -> bool:
    return OLD in state.objects and bool(state.objects[OLD].tables["areas"])


def _pinned(state: State) -> int:
    return 4 * int(str(state.objects["mm_struct vmm"].value("pinned_vm")))


def sending() -> tuple[Machine, Process, int, int]:
    """A machine on which the card sends, its program, the device's `out_devid`, and the address of the packet in the program.

    Descriptor 3 is the device, 4 the iommufd; the device (1) is attached to address space 2 by way of page table 3.
    """
    session = Session(start=_sending)
    device = session.done[2].outcome.wrote[0].removeprefix("out_devid = ")
    return session.machine, session.process, int(device), packet(session)


def desk() -> Desk:
    """Everything is open, a packet lies in memory, and nothing is bound yet."""
    rehearsed = Session(start=_sending)
    return Desk(Session(start=nothing_bound), reserve=rehearsed.machine.trace)


# ---- the first task: move house, and lose no read


def move(session: Session) -> None:
    """The solution: furnish the new house, move, then pull the old one down."""
    alloc(session)
    enter(session, 4)
    attach(session, 4)
    destroy(session, 2)


def lost(session: Session) -> list[str]:
    """The calls since the beginning after which the card gets nothing."""
    twin, found = Session(start=_sending), []
    for done in session.done[session.given :]:
        twin.do(done.event)
        if not dma(twin.machine).arrives:
            found.append(done.outcome.call)
    return found


def _not_moved(session: Session) -> list[str]:
    missing, reads = Goal(GONE, facts.alive("iommufd_ioas *"))(session), lost(session)
    return [
        *missing,
        *([f"wanted: no read of the card fails; now: it gets nothing after {reads[0]}: Undo"] if reads else []),
    ]


def _let_go(session: Session) -> bool:
    return any("DETACH" in call for call in lost(session))


def _moved_into_an_empty_house(session: Session) -> bool:
    return any("ATTACH" in call for call in lost(session))


def _unmapped(session: Session) -> bool:
    return any("UNMAP" in call for call in lost(session))


MOVE = Task(
    "The card sends from address space 2. Move it to a new one, so that in the end address space 2 is gone. The card does not "
    "pause: it reads at <code>0x10000</code> after each of your calls, and no read may fail.",
    _sending,
    _not_moved,
    (
        "What has to be ready before the card moves?",
        "ATTACH of an attached device is a move from table to table, without a gap. DETACH is a gap.",
        "IOAS_ALLOC gives 4. MAP into 4, ATTACH 4, and then nobody holds 2: DESTROY 2.",
    ),
    move,
    "ATTACH of a device that is attached replaces its table. The new table is filled first, then the IOMMU changes over in one "
    "step. The old table was made by an ATTACH, so it goes with its last device, and with it the holder of address space 2.",
    distractors={
        _let_go: "After DETACH the card has no page table, so a read fails until the next ATTACH. <b>Undo</b> leads back.",
        _unmapped: "You unmapped the packet while the card still reads by the old table. So a read failed.",
        _moved_into_an_empty_house: "You attached the card to an address space with nothing at 0x10000. MAP there first.",
    },
    drawn=False,
    name="09 task: move",
)

exercise = partial(Exercise, MOVE, Desk)


# ---- the second task: a tear-down in its order


def by_hand(session: Session) -> None:
    """The card (1) is attached to a page table (3) that the program has made itself from address space 2."""
    mapped(session)
    table(session, 1, 2)
    attach(session, 3)


TIDY_UP = Parsons(
    "This time the program has made the page table itself, with HWPT_ALLOC: 1 is the device, 2 the address space with the packet, "
    "3 the page table, and the card is attached to 3. Put calls into an order that ends 2 and 3. The device stays bound. Not every "
    "line is needed.",
    {"detach": "DETACH", "destroy 3": "DESTROY 3, the page table", "destroy 2": "DESTROY 2, the address space"},
    by_running(
        by_hand,
        {
            "detach": detach,
            "destroy 3": lambda session: destroy(session, 3),
            "destroy 2": lambda session: destroy(session, 2),
            "destroy 1": lambda session: destroy(session, 1),
            "unmap": lambda session: leave(session, 2),
        },
        Goal(GONE, facts.gone("iommufd_hwpt_paging 3"), NOTHING_PINNED),
    ),
    "the device holds the table, and the table holds the address space: let go from the outside to the inside. What is still "
    "mapped goes with the address space; an UNMAP is no mistake as long as there is something to unmap.",
    extra={"destroy 1": "DESTROY 1, the device", "unmap": "UNMAP the packet in 2"},
    distractors={
        "destroy 2 EBUSY": "Page table 3 shows address space 2, and holds it.",
        "destroy 3 EBUSY": "The card is attached to table 3. A table that you have made stays until you destroy it.",
        "destroy 1 EBUSY": "The driver holds the object of the device. It ends when the device's file ends, and not before.",
        "unmap ENOENT": "There is no address space 2 any more; what was mapped in it went with it.",
    },
    hints=(
        "Who uses whom? Device, table, address space.",
        "After DETACH nobody uses the table.",
        InOrder("DETACH, DESTROY 3, DESTROY 2; the rest is not needed.", "detach", "destroy 3", "destroy 2"),
    ),
    seed=3,
    name="09 order: tidy up",
    view=ONLY,
)

order = partial(Ordering, TIDY_UP)


# ---- the third task: who pins this?


def left_over(session: Session) -> None:
    """As before; then the device's file is closed."""
    by_hand(session)
    session.close(3)


def _mapping_lost(session: Session) -> bool:
    return not _mapped(session.state)


def _space_is_held(session: Session) -> bool:
    return any(done.outcome.result == "EBUSY" for done in session.done)


PINNED = Task(
    "The card is gone: its file is closed, and nothing is attached to anything. But <code>/proc/self/status</code> still says "
    "<code>VmPin: 16 kB</code> (what it calls kB is KiB). Bring it to 0. The mapping in address space 2 has to stay: another card "
    "will come for it.",
    left_over,
    Goal(
        NOTHING_PINNED,
        MAPPED,
        facts.descriptor("iommu*", "an iommufd"),
    ),
    (
        "Look at the IDs below the way of the read. Which of these objects needs real pages?",
        "A mapping pins nothing by itself. A page table does, with a device or without.",
        "DESTROY 3: one call.",
    ),
    lambda session: destroy(session, 3),
    "A table that was made by hand does not go with its last device, and as long as it is there, it shows every mapping of its "
    "address space, with pages that are pinned. When the table goes, the mapping stays: as a note, which costs nothing.",
    distractors={
        _mapping_lost: "The pages are free, and the mapping is lost, too: the next card finds nothing. <b>Undo</b>. "
        "It is not the mapping that pins.",
        _space_is_held: "EBUSY: somebody holds this address space, and it is not the card. With the address space its mapping "
        "would go, too. Who holds it, and needs real pages for that?",
    },
    drawn=False,
    name="09 task: who pins this?",
)

free_it = partial(Exercise, PINNED, Desk)

FURTHER = ("09 siblings", "09 emulated", TIDY_UP.name)
LESSON = Lesson(
    "09",
    QUESTIONS,
    CHECK,
    {MOVE.name: "move the card", TIDY_UP.name: "take everything apart", PINNED.name: "the report from a real machine"},
    VIEW,
    FURTHER,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
