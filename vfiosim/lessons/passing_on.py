"""A task of the capstone: a launcher with many rights opens card and iommufd, and a VMM that has few gets them from it."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Bench, Distractor, Exercise, Goal, Outcome, Session, Task
from ..lab import goal as facts
from ..machine.events import Called, Forked
from ..trace import State
from . import misconceptions as M
from .closing_calls import other
from .moves import FILES, fd_of

CARD, SOCKET = "vfio_device vfio0", "socket"
SHOWN = ("thread *", "fds", "file vfio*", "file iommu*", "file socket*", "socket", "message", CARD)


def unprivileged(session: Session) -> None:
    """The VMM has a socket (3) to a launcher (4 there), and has given its rights away: it is user 1000 now."""
    other(session, "vmm", "socketpair")
    session.do(Forked("vmm", "launcher"))
    session.close(4)
    other(session, "launcher", "close", 3)
    session.do(Called("vmm", "setuid", (1000,)))


def _launcher(session: Session, word: str) -> int:
    """The launcher's lowest descriptor of such a file. Raises ValueError where it has none."""
    label = FILES[word][0] if word in FILES else word
    found = [fd for fd, file in session.descriptors("launcher").items() if file.label.startswith(label)]
    if not found:
        raise ValueError(f"the launcher has no descriptor of the {word}")
    return found[0]


def _send(session: Session, word: str) -> Outcome:
    return other(session, "launcher", "sendmsg_fds", _launcher(session, SOCKET), (_launcher(session, word),))


def handed_over(session: Session) -> None:
    """The solution."""
    for word in ("card", "iommufd"):
        for name in ("open", "send", "close"):
            MOVES[f"launcher: {name} {word}"][0](session)
    for name in ("VMM: receive", "VMM: receive", "VMM: BIND"):
        MOVES[name][0](session)


def _bind(session: Session) -> Outcome:
    return session.bind(fd_of(session, FILES["card"][0]), iommufd=fd_of(session, FILES["iommufd"][0]))


def _of_launcher(word: str) -> dict[str, tuple[Callable[[Session], Outcome], str]]:
    return {
        f"launcher: open {word}": (
            lambda session: other(session, "launcher", "open", FILES[word][1]),
            f"the launcher opens the node of the {word}",
        ),
        f"launcher: send {word}": (
            lambda session: _send(session, word),
            f"the launcher sends what its descriptor of the {word} leads to",
        ),
        f"launcher: close {word}": (
            lambda session: other(session, "launcher", "close", _launcher(session, word)),
            f"the launcher gives its descriptor of the {word} back",
        ),
    }


MOVES = {
    **_of_launcher("card"),
    **_of_launcher("iommufd"),
    "VMM: open card": (lambda session: session.open(FILES["card"][1]), "the VMM opens the node of the card itself"),
    "VMM: receive": (lambda session: other(session, "vmm", "recvmsg_fds", 3), "the VMM takes the next message"),
    "VMM: BIND": (_bind, "the VMM binds its card to its iommufd"),
}


def _has(state: State, program: str, word: str) -> bool:
    files = [thing for name, thing in state.objects.items() if name.startswith(f"file {FILES[word][0]}#")]
    return any(holder == f"fds {program}" for file in files for holder, _ in file.counts["f_ref"])


def _fact(program: str, word: str, wanted: bool) -> facts.Fact:
    said = f"the {program} has {'a' if wanted else 'no'} descriptor of the {word}"
    now = "it has none" if wanted else "it has one"
    name = {"VMM": "vmm"}.get(program, program)
    return facts.Fact(said, lambda state: "" if _has(state, name, word) == wanted else now)


def _may_not_open(session: Session) -> bool:
    return any(done.outcome.result == "EACCES" for done in session.done[-1:])


def _kept_by_the_launcher(session: Session) -> bool:
    state = session.state
    bound = state.objects[CARD].fields.get("open_count") == 1 if CARD in state.objects else False
    return bound and any(_has(state, "launcher", word) for word in ("card", "iommufd"))


HANDED_OVER = Task(
    "The VMM runs as user 1000, and the nodes belong to root. A launcher has all rights, and a socket leads from it to the "
    "VMM. Let the VMM have the card, bound to an iommufd. When the VMM closes its descriptors one day, nothing may be left: "
    "so the launcher keeps none.",
    unprivileged,
    Goal(
        _fact("VMM", "card", True),
        _fact("VMM", "iommufd", True),
        facts.value(CARD, "open_count", 1),
        _fact("launcher", "card", False),
        _fact("launcher", "iommufd", False),
    ),
    (
        "Which of the calls asks who you are? Let the launcher make that one, for both files.",
        "A descriptor that was sent is one more holder of its file. Who still has the first one?",
        "Launcher: open, send, close, for card and iommufd. VMM: receive twice, then BIND.",
    ),
    handed_over,
    "Permission is asked for by <code>open</code> only: BIND asks whether the file can be bound, not whose it is. To send a "
    "descriptor makes one more holder and takes none away, so whoever sends has to close.",
    distractors={
        _may_not_open: "EACCES: <code>open</code> looks at user and mode of the node. The VMM is user 1000. A descriptor that it "
        "receives is not asked about again.",
        _kept_by_the_launcher: Distractor(
            "The card works, and the launcher still has what it has sent. When the VMM closes the card, that keeps it bound.",
            M.BOUND_BY_A_PROGRAM,
        ),
    },
    drawn=False,
    name="12 task: handed over",
)


def hand_over() -> Exercise:
    """The task, with the calls of both programs as buttons."""
    return Exercise(
        HANDED_OVER,
        lambda session: Bench(session, show=("why",), more=MOVES, only=SHOWN, keep=("fds", CARD), fields=False),
    )
