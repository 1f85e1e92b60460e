"""The keys of a scheduler: the letter of a thread is one effect of it, with Shift up to something shared, with Alt to its end."""

from __future__ import annotations

from collections.abc import Iterable

from .. import controls as widgets

TAKEN = ("u", "r")  # undo, redo


def said(threads: Iterable[str]) -> str:
    """What the keys do, of which each moves one of these threads."""
    named = "; ".join(f"{key_of(thread)} is 1 effect of {thread}" for thread in threads if key_of(thread))
    return (
        f"Keys: {named}; with Shift to shared, with Alt to the end; u Undo, r Redo."
        if named
        else "Keys: u Undo, r Redo."
    )


def key_of(thread: str) -> str:
    """The key of a thread: the first letter of its name in small, "" where another button has it."""
    letter = thread[:1].lower()
    return letter if letter.isascii() and letter.isalnum() and letter not in TAKEN else ""


def with_key(made: widgets.Button, key: str) -> widgets.Button:
    """The button that this key presses, with or without what is held down beside it: "u", "shifta"."""
    made.add_class(f"vfiosim-key-{key}")
    return made
