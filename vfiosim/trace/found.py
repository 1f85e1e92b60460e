"""What a step that asks has found, once its call goes on: a reader of the run wants the answer and not the question."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# Question → effects in words, as a pattern → what was found by them; "": by all.
FOUND: Final[dict[str, dict[str, str]]] = {
    "is it long enough, is every byte beyond the known ones zero?": {
        "": "it is long enough, and every byte beyond the known ones is zero."
    },
    "is it long enough, are all flags known?": {"": "it is long enough, and all flags are known."},
    "then: is argsz long enough?": {"": "argsz is long enough."},
    "Is the iommufd number possible, are all flags known? And is this a file of a group?": {
        "": "The iommufd number is possible, all flags are known, and this is no file of a group."
    },
    "Is this file bound already?": {"": "This file is not bound yet."},
    "Is this file bound already? And does the driver want a token?": {
        "vf_token → None": "This file is not bound yet, and the driver wants no token.",
        "vf_token → ": "This file is not bound yet, and the driver has got the token that it wants.",
        "": "This file is not bound yet, and its driver knows no tokens.",
    },
    "Does this file belong to a VM? If so, the device holds the VM from now on.": {
        r"\.kvm → None": "This file belongs to no VM, so there is none that the device would have to hold.",
        r"\.kvm → kvm.*\.kvm = kvm": "This file belongs to a VM: the device holds the VM from now on.",
        r"\.kvm → kvm": "This file belongs to a VM that is going already: the device does not hold it.",
    },
    "Is the device open already? Only files of its group may share it.": {
        r"open_count → 0": "The device is not open yet. (Only files of its group may share it.)",
        r"open_count → .*single_open\] passed": "The device is open already, by a file of its group: such files may share it.",
    },
    "is the place free?": {"": "the place is free."},
    "was that the last reference?": {"": "that was the last reference."},
    "How large is the argument, and does this kernel know all of it?": {
        r"copy_from_user (?!4 bytes)": "The argument is copied: it is large enough, and this kernel knows all of it."
    },
}

# What steps say that were to take something and found that there is nothing: they have only looked.
NOTHING: Final = frozenset(
    FOUND["Does this file belong to a VM? If so, the device holds the VM from now on."][mark]
    for mark in (r"\.kvm → None", r"\.kvm → kvm")
)


def found(sentence: str, effects: Iterable[str], passed: bool) -> str:
    """The sentence with what was found in the place of what it asks; as it is where these effects do not tell.

    `passed`: all that it asks about has been looked at, and nothing was refused.
    """
    for question in sorted(FOUND, key=len, reverse=True) if "?" in sentence else ():
        if question in sentence:
            done = "\n".join(effects)
            answers = FOUND[question].items()
            told = (said for mark, said in answers if (re.search(mark, done, re.DOTALL) if mark else passed))
            return sentence.replace(question, next(told, question))
    return sentence
