"""What a reader does on a page is done in the order in which the reader did it.

JupyterLab (seen with 4.6) sends what widgets tell to a second thread of the kernel, and ipykernel (7.4) gives it to that thread or
to the first one, by who had told this widget something last. So a button acted in one thread while the number typed before it was
on its way in the other: it acted with the old number, and the new one was lost. Here all goes to the thread in which cells run.
"""

from __future__ import annotations

from typing import Any


class OneQueue:
    """To be named before the class of ipywidgets or anywidget that a widget of ours is made of."""

    comm: Any

    def open(self) -> None:
        """Begin to listen to the page."""
        super().open()  # type: ignore[misc]
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _data, _subshell: None
