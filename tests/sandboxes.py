"""Sandboxes, driven through their controls."""

from __future__ import annotations

from vfiosim.lab import Sandbox


def choose(box: Sandbox, fd: int | str, call: str) -> None:
    box.form.fd.value = fd
    box.form.what.value = dict(box.form.what.options)[call]


def call(box: Sandbox, fd: int | str, name: str, **fields: int | str) -> str:
    """Choose a call, put these numbers into its fields, press Call."""
    choose(box, fd, name)
    parts = box.form.buffer.fields if box.form.buffer is not None else box.form.parts
    for field, value in fields.items():
        parts[field].set(value)
    box.call.click()
    return box.message
