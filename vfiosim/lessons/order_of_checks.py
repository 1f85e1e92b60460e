"""The lesson about the order of checks: which errno wins, how far a refused call got, and how two of one errno are told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from ..lab import Bench, Distractor, Exercise, Judged, Ordering, Parsons, Session, Task
from ..lab.outcome import Done
from ..lab.parsons import InOrder
from ..lab.session import LessonCall
from . import misconceptions as M
from .beginnings import DEVICE, IOMMUFD, NODES, opened
from .lesson import Lesson
from .one_bind import BIND
from .order_of_checks_causes import CAUSES
from .order_of_checks_causes import causes as causes
from .order_of_checks_causes import refused as refused
from .order_of_checks_plot import Ladder, Taken
from .order_of_checks_probes import NAME as TWO_PROBES
from .order_of_checks_probes import Probes
from .order_of_checks_questions import CHECK, QUESTIONS

ladder, taken, probes = Ladder, Taken, Probes


def opened_twice(session: Session) -> None:
    """Jo's program: a bound device (3), an iommufd (4), and a second file of the device (5)."""
    session.open(DEVICE)
    session.open(IOMMUFD)
    session.open(DEVICE)
    session.bind(3, argsz=24, iommufd=4)


def jo() -> Bench:
    """Where Jo's program stands before the BIND that is refused; the fields can be spoiled one after the other."""
    session = Session(start=opened_twice)
    return Bench(session, show=("bind",), only=BIND, reserve=session.machine.trace)


# ---- the first task: the checks in their order

MISTAKES = ("tail", "flags", "group", "token's pointer", "closed", "host driver")
NOT_OF_BIND = "attached"


def _judge(order: Sequence[str]) -> Judged:
    """The first line that is not the next check, and a BIND with both mistakes, which shows that the other one comes first."""
    for place, key in enumerate(order):
        if key == NOT_OF_BIND:
            everything = refused(*MISTAKES)
            return Judged(place, "BIND looks for no such thing.", everything.steps, len(everything.way))
        first = MISTAKES[place]
        if key != first:
            both = refused(key, first)
            said = f"With this and with “{CAUSES[first].says}” in one BIND the kernel says {both.outcome.result}: that comes first."
            return Judged(place, said, both.steps, len(both.way), both.outcome.result)
    if len(order) < len(MISTAKES):
        rest = refused(*MISTAKES[len(order) :])
        return Judged(
            len(order), f"When these are mended the kernel still says {rest.outcome.result}.", rest.steps, len(rest.way)
        )
    good = refused()
    return Judged(None, "Mended in this order, each BIND gets further than the one before.", good.steps, len(good.way))


SIX_MISTAKES = Parsons(
    "Six things are wrong with one BIND, and each answer is another errno. You mend what the kernel complains of, and bind again. "
    "In which order do you meet them? Not every line is needed.",
    {name: CAUSES[name].says for name in MISTAKES},
    _judge,
    "the copy comes first, then the fields. Then the group is blocked. Under the lock come the token and the iommufd. Who "
    "owns the DMA is asked last, for that needs the iommufd. The errnos come as E2BIG, EINVAL, EBUSY, EFAULT, EBADF, EPERM.",
    extra={NOT_OF_BIND: "the device is attached to no address space"},
    distractors={
        "flags": "No field but argsz is known before the struct is copied, and the copy looks at the tail.",
        "group": "A blocked group is shut for other programs, too. So the kernel first looks at the whole struct, and "
        "blocks the group only if the struct is right.",
        "token's pointer": "The driver compares the token, and that is done under the lock of the device set. So it comes after "
        "the fields and the group.",
        "closed": Distractor(
            "Looking the descriptor up takes a reference, and a refused call has to give that back. So it comes "
            "late, behind the checks that take nothing.",
            M.ALL_CHECKS_AT_ONCE,
        ),
        "host driver": "BIND makes the iommufd the owner of the DMA. So the kernel looks up the iommufd first, and asks "
        "after that who owns the DMA now.",
        NOT_OF_BIND: "An attachment comes after BIND, by a request of its own.",
    },
    hints=(
        "What costs nothing is looked at first, what has to be given back on the way out is looked at last.",
        InOrder(
            "The copy, the fields, the group, the lock; and the token comes before the iommufd.",
            *("tail", "flags", "group", "token's pointer", "closed"),
        ),
        InOrder("E2BIG, EINVAL, EBUSY, EFAULT, EBADF, EPERM.", *MISTAKES),
    ),
    seed=3,
    name="03 order: six mistakes",
    view=(*sorted(BIND - {"vfio_device vfio0", "vfio_device_set vfio0"}), "vfio_device vfio3", "iommu_group 3"),
)

order = partial(Ordering, SIX_MISTAKES)


# ---- the second task: refusals with one field changed each

GOOD = {"argsz": 24, "flags": 0, "iommufd": 4, "token_uuid_ptr": 0}
THE_DEVICE = "no field"
TO_MEET = (  # the field that is changed, the errno, and the check
    ("argsz", "EINVAL", "argsz_minimum"),
    ("argsz", "EFAULT", "copy_from_user"),
    ("flags", "EINVAL", "flags_known"),
    ("flags", "EINVAL", "driver_takes_token"),
    ("flags", "EFAULT", "copy_from_user"),
    ("iommufd", "EINVAL", "iommufd_not_negative"),
    ("iommufd", "EBADF", "iommufd_is_open"),
    ("iommufd", "EBADFD", "file_is_iommufd"),
    (THE_DEVICE, "EPERM", "dma_owner_is_same"),
)


def three_devices(session: Session) -> None:
    """A card (3), an iommufd (4), a serial port made of software (5), and a device whose group the host uses, too (6)."""
    opened(session)
    session.open(NODES["vfio4"])
    session.open(NODES["vfio3"])


def changed(done: Done) -> list[str]:
    """The fields of a BIND that are not as in a good one."""
    argument = done.event.argument if isinstance(done.event, LessonCall) else None
    assert argument is not None
    return [name for name, value in GOOD.items() if argument.get(name) != value]


def binds(session: Session) -> list[Done]:
    """The BINDs that were refused."""
    return [done for done in session.done if done.outcome.refused and "BIND" in done.outcome.call]


def unmet(session: Session) -> list[tuple[str, str, str]]:
    """What is still to be met by changing one field."""
    met = set()
    for done in binds(session):
        fields = changed(done) or [THE_DEVICE]
        if len(fields) == 1:
            met.add((fields[0], done.outcome.result, done.outcome.check))
    return [one for one in TO_MEET if one not in met]


def still_to_meet(session: Session) -> list[str]:
    """How many refusals are still to be met, by the field that is changed."""
    left = Counter(field for field, _errno, _check in unmet(session))
    return [
        f"with {name if name == THE_DEVICE else f'only {name}'} changed: {number} more {'refusal' if number == 1 else 'refusals'}"
        for name, number in left.items()
    ]


def meet_them(session: Session) -> None:
    """The solution: each field in turn; the flag of a token on two devices; and a good struct for the third one."""
    for fd, field, value in (
        (3, "argsz", 8),
        (3, "argsz", 4096),
        (3, "flags", 2),
        (5, "flags", 1),
        (3, "flags", 1),
        (3, "iommufd", -1),
        (3, "iommufd", 777),
        (3, "iommufd", 3),
    ):
        session.bind(fd, **{**GOOD, field: value})
    session.bind(6, **GOOD)


def _two_at_once(session: Session) -> bool:
    refusals = binds(session)
    return bool(refusals) and len(changed(refusals[-1])) > 1


def _bound_too_early(session: Session) -> bool:
    files = ("vfio_device_file 1", "vfio_device_file 2")
    return any(session.machine.trace.end.objects[name].value("access_granted") for name in files)


NINE_REFUSALS = Task(
    "Four files are open: a network card (3), an iommufd (4), a serial port made of software (5), and a USB controller (6). Beside "
    "the USB controller, in its group, is a disk that the host uses. A good struct has argsz 24, flags 0, iommufd 4, and no token. "
    "Change <b>one field</b> and bind, on any of the three devices. Meet nine refusals: two with argsz, three with flags, three "
    "with iommufd, one with no field changed. The same errno from another check counts, too.",
    three_devices,
    still_to_meet,
    (
        "A number can be too small or too large. A number can also be right in itself, and lead to the wrong thing.",
        "Flag 1 says that a token is given. What do the card and the serial port say to that? The address of the token is 0.",
        "argsz: 8, 4096. flags: 2 and 1 on descriptor 3, 1 on descriptor 5. iommufd: −1, 777, 3. A good struct for descriptor 6.",
    ),
    meet_them,
    "One field can fail in three ways, and one errno can come from three fields. The flag of a token is known, so it passes "
    "the check of flags. Under the lock the serial port's driver wants no token: EINVAL. The card's driver does, so the "
    "kernel reads the token, at address 0: EFAULT.",
    distractors={
        _two_at_once: Distractor(
            "The last call had two fields changed. Only the first check that failed has answered, so the other field "
            "was not tried.",
            M.ALL_CHECKS_AT_ONCE,
        ),
        _bound_too_early: "A device is bound now, so a flag or a descriptor on it is not looked at any more. "
        "<b>Undo</b> leads back.",
    },
    name="03 task: one field at a time",
)

errors = partial(
    Exercise, NINE_REFUSALS, lambda session: Bench(session, show=("bind",), only=BIND | {"vfio_device vfio3"})
)


# ---- the third task: the smallest program with Jo's line

CANDIDATES = {"not_bound_yet": "one file", "single_open": "two files"}


def not_reproduced(session: Session) -> list[str]:
    """Which of the two late EINVALs was not met yet with a good struct."""
    met = {done.outcome.check for done in binds(session) if not changed(done)}
    late = [name for check, name in CANDIDATES.items() if check not in met]
    return [
        f"a BIND with a good struct that is refused with EINVAL, by a program that has {name} of the device"
        for name in late
    ]


def reproduce(session: Session) -> None:
    """The solution: bind twice, then open once more and bind that."""
    session.bind(3, **GOOD)
    session.bind(3, **GOOD)
    session.open(DEVICE)
    session.bind(5, **GOOD)


def _copied(session: Session) -> bool:
    leading = [file.label for file in session.descriptors().values()]
    return leading.count("vfio0#1") > 1


def _wrong_struct(session: Session) -> bool:
    refusals = binds(session)
    return bool(refusals) and bool(changed(refusals[-1]))


GOOD_STRUCT = Task(
    "The device (3) and an iommufd (4) are open. Write the smallest program whose BIND is refused with EINVAL although the struct "
    "is good (argsz 24, flags 0, iommufd 4, no token). There are two ways: with one file of the device, and with two. Meet both.",
    opened,
    not_reproduced,
    (
        "A good struct passes all checks of fields. What is left is what the file, or the device, has been through before.",
        "One way needs no other call than BIND. The other one needs a second file: how does a program get one?",
        "bind, bind; open device, bind.",
    ),
    reproduce,
    "The second BIND of one file stops at the first check under the lock. A second file passes that check, for it was never bound. "
    "It stops when the device is to be opened: another file has it open. That is what Jo has met. With the group's file each open "
    "was fine. With the node Jo needs a dup, or no second descriptor at all.",
    distractors={
        _copied: Distractor(
            "A dup is another number for the first file, and that file is bound already: the first way again.",
            M.SECOND_OPEN_IS_FINE,
        ),
        _wrong_struct: Distractor(
            "This EINVAL has another cause than Jo's: a field of the struct was wrong. In this task the struct has to be good.",
            M.ERRNO_IS_A_CAUSE,
        ),
    },
    name="03 task: the smallest program",
)


def exercise() -> Exercise:
    """The third task of the lesson."""
    return Exercise(GOOD_STRUCT, lambda session: Bench(session, show=("open", "bind", "descriptor"), only=BIND))


FURTHER = (NINE_REFUSALS.name, "03 what it held", "03 once more", "03 check: behind EBADF")
LESSON = Lesson(
    "03",
    QUESTIONS,
    CHECK,
    {
        TWO_PROBES: "two probes",
        SIX_MISTAKES.name: "six mistakes in their order",
        NINE_REFUSALS.name: "nine refusals",
        GOOD_STRUCT.name: "the smallest program",
    },
    further=FURTHER,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
