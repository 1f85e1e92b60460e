"""What a VMM does, in words: moves that find their descriptors by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..kernel.iommufd.iommufd_private import IommufdCtx, IommufdIoas
from ..kernel.vfio.vfio import VfioDeviceFile
from ..lab import Outcome, Session
from ..machine.events import Forked, Killed
from ..naming import must_be_one_of
from .address_spaces_bench import IOVA, PAGE, PAGES, memory, packet
from .beginnings import IOMMUFD, NODES, leading_to
from .closing_calls import mmap, munmap

Move: TypeAlias = Callable[[Session], Outcome]
Moves: TypeAlias = Mapping[str, tuple[Move, str]]  # by its name, and what it does in a sentence

# By the word for it: how the label of such a file begins, and where it is opened.
FILES = {
    "card": ("vfio0", NODES["vfio0"]),
    "gpu": ("vfio1", NODES["vfio1"]),
    "audio": ("vfio2", NODES["vfio2"]),
    "tty": ("vfio4", NODES["vfio4"]),
    "group": ("group1", "/dev/vfio/1"),
    "iommufd": ("iommu", IOMMUFD),
    "VM": ("kvm-vm", ""),
    "list": ("kvm-vfio", ""),
}


def fd_of(session: Session, label: str) -> int:
    """The lowest descriptor of a file whose label begins so. Raises ValueError where none is open."""
    found = leading_to(session, label)
    if not found:
        raise ValueError(f"the VMM has no descriptor of {label}")
    return found[0]


def opened(session: Session, fd: int) -> bool:
    """Is this descriptor open?"""
    return fd in session.descriptors()


def close(session: Session, fd: int) -> Outcome:
    """Give a descriptor back. Raises ValueError where it is not open: to close it again would be no way on."""
    if not opened(session, fd):
        raise ValueError(f"{fd} is closed already")
    return session.close(fd)


def at(session: Session, fd: int, call: str) -> Outcome:
    """MAP or UNMAP the guest's memory in the newest address space of an iommufd."""
    where = {"ioas_id": space_of(session, fd), "iova": IOVA, "length": PAGES * PAGE}
    more = {"flags": 7, "user_va": packet(session)} if call == "MAP" else {}  # fixed address, writeable, readable
    return session.ask(fd, f"IOMMU_IOAS_{call}", **where, **more)


def space_of(session: Session, fd: int, oldest: bool = False) -> int:
    """The ID of the newest address space of an iommufd, or of the oldest one. Raises ValueError where there is none."""
    if not opened(session, fd):
        raise ValueError(f"{fd} is closed already")
    return _space(session.descriptors()[fd].private_data.value, oldest)


def _space(ctx: object, oldest: bool = False) -> int:
    objects = ctx.objects.slots if isinstance(ctx, IommufdCtx) else {}
    found = [number for number, thing in objects.items() if isinstance(thing, IommufdIoas)]
    if not found:
        raise ValueError("there is no address space yet")
    return int(min(found) if oldest else max(found))


def _iommufd(session: Session) -> int:
    return fd_of(session, "iommu")


def _file(session: Session, word: str) -> int:
    return fd_of(session, FILES[word or "card"][0])


def _attach(session: Session, word: str) -> Outcome:
    card = _file(session, word)
    bound = session.descriptors()[card].private_data.value
    ctx = bound.iommufd.value if isinstance(bound, VfioDeviceFile) else None
    wanted = _space(ctx) if ctx is not None else 1  # whatever it is, the kernel refuses it: the card is not bound
    return session.ask(card, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=wanted)


def _create(session: Session, word: str) -> Outcome:
    return session.create_vm() if word == "VM" else session.create_kvm_vfio(_file(session, "VM"))


def _ask(session: Session, request: str, **fields: int) -> Outcome:
    return session.ask(_iommufd(session), request, **fields)


# What each verb does with a word, which words it takes, and what that is in a sentence.
Verb: TypeAlias = tuple[Callable[[Session, str], Outcome], tuple[str, ...], str]
DEVICES = ("card", "gpu", "audio", "tty")
VERBS: Mapping[str, Verb] = {
    "open": (lambda s, word: s.open(FILES[word][1]), (*DEVICES, "group", "iommufd"), "open the node of the {}"),
    "close": (lambda s, word: s.close(_file(s, word)), tuple(FILES), "give a descriptor of the {} back"),
    "dup": (lambda s, word: s.dup(_file(s, word)), tuple(FILES), "a second descriptor for the same file of the {}"),
    "create": (_create, ("VM", "list"), "make a {}; the list is the VM's kvm-vfio device"),
    "BIND": (
        lambda s, word: s.bind(_file(s, word), iommufd=_iommufd(s)),
        DEVICES,
        "bind the {} to the iommufd",
    ),
    "FILE_ADD": (
        lambda s, word: s.file_add(_file(s, "list"), _file(s, word)),
        DEVICES,
        "put the file of the {} on the list of the VM's kvm-vfio device",
    ),
    "FILE_DEL": (
        lambda s, word: s.file_del(_file(s, "list"), _file(s, word)),
        DEVICES,
        "take the file of the {} off the list of the VM",
    ),
    "ATTACH": (_attach, DEVICES, "let the {} use the newest address space"),
    "DETACH": (
        lambda s, word: s.ask(_file(s, word), "VFIO_DEVICE_DETACH_IOMMUFD_PT"),
        DEVICES,
        "the {} uses no table any more",
    ),
    "IOAS_ALLOC": (lambda s, _: _ask(s, "IOMMU_IOAS_ALLOC"), (), "a new address space"),
    "MAP": (
        lambda s, _: at(s, _iommufd(s), "MAP"),
        (),
        "enter the guest's 16 KiB at 0x10000 in the newest address space",
    ),
    "UNMAP": (
        lambda s, _: at(s, _iommufd(s), "UNMAP"),
        (),
        "take the memory of the guest out of the newest address space",
    ),
    "DESTROY": (
        lambda s, word: _ask(s, "IOMMU_DESTROY", id=space_of(s, _iommufd(s), word == "oldest")),
        ("newest", "oldest"),
        "end the {} address space",
    ),
    "memory": (lambda s, _: memory(s), (), "the guest gets 16 KiB of memory"),
    "mmap": (lambda s, _: mmap(s, _file(s, "card")), (), "map a page of the card's own memory"),
    "munmap": (lambda s, _: munmap(s), (), "unmap that page of the card"),
    "fork": (lambda s, word: s.do(Forked("vmm", word)), ("helper",), "start a {}, which shares every open file"),
    "kill": (lambda s, word: s.do(Killed(word)), ("helper",), "the {} ends, with all that it holds"),
}
NO_DEFAULT = ("open", "close", "dup", "create", "fork", "kill")  # verbs that say nothing without their word


def move(words: str) -> tuple[Move, str]:
    """A move by its words, "open card" or "MAP", with what it does. Raises ValueError for words that are none."""
    verb, _, word = words.strip().partition(" ")
    must_be_one_of(VERBS, verb, "move")
    act, allowed, told = VERBS[verb]
    if word or verb in NO_DEFAULT:
        must_be_one_of(allowed, word, f"word after {verb!r}:")
    return (lambda session: act(session, word)), told.format(word or (allowed[0] if allowed else ""))


def moves(text: str) -> Moves:
    """Moves by their words, with commas between them. Raises ValueError for words that are none."""
    return {words: move(words) for words in split(text)}


def split(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def play(*names: str) -> Callable[[Session], None]:
    """To make these moves on a machine, one after the other. Raises ValueError for words that are no move."""
    acts = [move(name)[0] for name in names]

    def played(session: Session) -> None:
        for act in acts:
            act(session)

    return played


UP = moves("open card, open iommufd, FILE_ADD, BIND, IOAS_ALLOC, MAP, ATTACH")
DOWN = moves("FILE_DEL, UNMAP, DETACH, DESTROY, close card, close iommufd")
