"""How each notebook ends: what its reader can do then, and which one is next."""

from __future__ import annotations

ENDS: dict[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "00": (
        ("follow a call of the kernel, step by step and back;", "read from the picture what holds a file open."),
        ("01_one_bind.ipynb", "you make every call yourself."),
    ),
    "01": (
        (
            "say what BIND does, from its first check to its last step;",
            "say which error comes back when two things are wrong;",
            "say what a BIND takes on its way, and what it gives back when it is refused.",
        ),
        ("02_who_holds_whom.ipynb", "find the holder that still keeps it."),
    ),
    "02": (
        (
            "distinguish what keeps an object alive from what only knows where it is;",
            "count the holders of a file in your head;",
            "find the last holder of a device that hangs.",
        ),
        ("03_order_of_checks.ipynb", "one line in a log, nine causes."),
    ),
    "03": (
        (
            "say which errno wins when several things are wrong;",
            "repair a call that is refused again and again;",
            "find the cause of an errno with a second mistake.",
        ),
        ("04_unwinding.ipynb", "a refused call lets go of everything: in which order, and what if it forgets one?"),
    ),
    "04": (
        (
            "read the way out of a kernel function, and say what a failure enters and what it skips;",
            "say at which failures a forgotten line shows, and at which it does not;",
            "write a way out, and try it by letting everything fail once.",
        ),
        ("05_closing_in_any_order.ipynb", "close everything in any order, and take a driver away meanwhile."),
    ),
    "05": (
        (
            "close device, iommufd and VM in any order, and say what lives until when;",
            "say why an unbind waits, and whom it waits for;",
            "find a holder that no descriptor shows.",
        ),
        ("06_groups_and_cdevs.ipynb", "a release note says that groups are gone; is it true?"),
    ),
    "06": (
        (
            "say which of two ways to a device shuts the other, and when;",
            "name the device that is in the way of yours;",
            "say who owns the DMA of a group, and share it.",
        ),
        ("07_kvm.ipynb", "the card is yours; which VM does it work for?"),
    ),
    "07": (
        (
            "say which VM a device holds, from the order of the calls;",
            "tell what a file knows from what a device holds;",
            "repair a device that was bound before its VM was known.",
        ),
        ("08_no_dma.ipynb", "a device that does no DMA: may it be bound at all?"),
    ),
    "08": (
        (
            "read a patch with a reviewer's eyes, and try both answers to a question;",
            "say what an ID from BIND is good for, and why 0 is none;",
            "say what became of devices without DMA, and of cards without an IOMMU.",
        ),
        ("09_address_spaces.ipynb", "the card is bound; can it read a byte of memory?"),
    ),
    "09": (
        (
            "say which of three calls a device is waiting for when its DMA does not arrive;",
            "move a device to another address space while it sends;",
            "say who pins memory, and who is charged for it.",
        ),
        ("10_races.ipynb", "here everything is freed in the right order; there it is freed at the wrong moment."),
    ),
    "10": (
        (
            "say how two calls that run at the same time can end;",
            "make the worst order happen by hand;",
            "say which orders of turns a lock forbids, and which data it guards.",
        ),
        ("11_museum.ipynb", "eleven real bugs, six of them in Linux 7.2 today: find one, mend it, prove it."),
    ),
    "11": (
        (
            "write the smallest program that shows a bug;",
            "ask how large a bug is, before you mend it;",
            "mend a bug that is in Linux today, and prove it.",
        ),
        ("12_a_vmm.ipynb", "all calls together, in the order of a real program."),
    ),
    "12": (
        (
            "give a card to a guest, and say what each call needs from the one before;",
            "take the card back with the fewest calls while the guest lives;",
            "find from a list of descriptors why a card is dead.",
        ),
        ("13_levels.ipynb", "twelve levels, each with as few calls as it takes."),
    ),
    "13": (
        (
            "see from two pictures which calls lie between them;",
            "say why there is no shorter way;",
            "design a level, and let a search judge it.",
        ),
        ("20_your_own_program.ipynb", "a program of your own, in C, makes the calls."),
    ),
    "20": (
        (
            "write a small VMM in C, and mend it with what the log says;",
            "let a call fail on purpose, and see what a program makes of it;",
            "say what a program leaves behind.",
        ),
        ("90_sandbox.ipynb", "every call and every device, and nobody asks you anything."),
    ),
}
