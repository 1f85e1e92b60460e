"""The player as a widget: other code can give it a longer trace, and move it."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Collection, Sequence
from typing import Any

import anywidget
import traitlets

from ..trace import Trace
from .atlas import Atlas
from .one_queue import OneQueue
from .player import LARGE, Data, Player, shown, styles
from .script import script
from .sources import Sources
from .static_output import display_with_static
from .widget_lifetime import note_displayed

MANY = 150  # functions that are kept on the page


class LivePlayer(OneQueue, anywidget.AnyWidget):
    """Shows a trace and stays in touch with the kernel: `step` follows the reader, and moves the picture when it is set.

    `highlight` are names of objects to bring out: one with its arrows, or several with the arrows between them. `picked`
    are the names of the objects that the reader has clicked: one at a time, or while `selecting` several, each click
    (or Enter on a node that has the focus) adds one or takes it away. `shown` are the views that the reader has open, of
    `VIEWS`. Options are those of `show`; without an `atlas` it has a map of its own, so that what stays in the picture when
    another trace comes stays where it is.
    Where no widgets can be shown the output has the player of `show`, a picture and the steps as text.
    """

    _esm = script("widget.js")
    _css = styles()
    # As texts: of a tree each branch would be looked through for what is no JSON, at every press.
    data, lasting, recent, reasons = (
        traitlets.Dict().tag(sync=True, to_json=lambda data, _: json.dumps(data, ensure_ascii=False)) for _ in range(4)
    )
    step = traitlets.Int(0).tag(sync=True)
    highlight = traitlets.List(traitlets.Unicode()).tag(sync=True)
    picked = traitlets.List(traitlets.Unicode()).tag(sync=True)
    selecting = traitlets.Bool(False).tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    itself = traitlets.Unicode().tag(sync=True)  # the name by which the page finds it

    def __init__(self, trace: Trace, *, step: int = 0, atlas: Atlas | None = None, **options: Any) -> None:
        self._atlas = atlas or Atlas()
        self._options = {**options, "atlas": self._atlas}
        self.player = Player(trace, step=step, **self._options)
        self._edition = 0
        self._reserved: Collection[Trace] = ()
        self._unfolded = [*options.get("unfold", ())]
        self._sources = Sources()
        self._kept: Sources | None = None  # whose code the page has
        name = secrets.token_hex(16)
        data, words = self._data()
        super().__init__(
            model_id=name,
            itself=name,
            data=data,
            lasting=self._known(words)[0],
            reasons=self._reasons(),
            step=self.player.step,
            shown=list(self.player.views),
        )
        self.on_msg(self._asked)
        # The page goes on to other messages only after it has read this one, and that only when the player listens: so on a slow
        # machine a player that has just come is not drowned by all that comes after it.
        self.send({})

    def update(self, trace: Trace, step: int | None = -1, reserve: Collection[Trace] = ()) -> None:
        """Show this trace instead, at `step` (counted from 1; -1 is the last, None the last that changes what is drawn).

        Raises IndexError for one not there.

        `reserve`: traces for which a place is kept too, instead of that of the options.
        """
        self._reserved = reserve
        options = {**self._options, "unfold": self._unfolded, **({"reserve": reserve} if reserve else {})}
        before, self.player = shown(self.player.trace), Player(trace, step=-1 if step is None else step, **options)
        if step is None:
            self.player.step = self.player.tells
        with self.hold_sync():
            if "views" not in self._options and tuple(self.shown) == before:  # the reader has opened and closed nothing
                self.shown = list(shown(trace))
            self.data, words = self._data()
            self.step = self.player.step
        sys.stdout.flush()  # a kernel sends in a second thread, which is let run by this: the picture waits for nothing else
        with self.hold_sync():
            self.lasting, self.recent = self._known(words)
            self.reasons = self._reasons()

    def present(self, on: bool) -> None:
        """For a room: what would be too small is folded. On the page letters are large where a notebook is presented."""
        folded = self.player.presenter
        self._options["presenter"] = on
        if folded or (self.player.layout is not None and self.player.layout.scale < LARGE):
            self.update(self.player.trace, self.step, self._reserved)

    def _data(self) -> tuple[Data, Data]:
        """What the script needs, and the words that it explains.

        Its `edition` tells it from what was shown before and is shown after.
        """
        self._edition += 1
        data = {**self.player.data(live=True, sources=self._sources), "edition": self._edition}
        return data, {name: data.pop(name) for name in ("glossary", "fields")}

    def _reasons(self) -> Data:
        """Why things are alive in what is shown now."""
        return {**self.player.reasons(), "edition": self._edition}

    def _known(self, words: Data) -> tuple[Data, Data]:
        """What the page can keep: all code and `words` of this trace and those before it.

        The first part was told once, the second is what has come since then: it is told at each press that brings more, until it is
        a quarter of all.
        """
        told = {name: dict(enumerate(some)) for name, some in self._sources.told().items()} | words
        old, recent = (self.lasting, self.recent) if self._kept is self._sources else ({}, {})
        self._kept = self._sources
        if len(told["functions"]) > MANY:
            self._sources = Sources()  # from the next trace on
        new = {
            name: {**recent.get(name, {}), **{key: what for key, what in some.items() if key not in old.get(name, ())}}
            for name, some in told.items()
        }
        if 4 * len(new["texts"]) < len(old.get("texts", ())):
            return old, new
        return {name: {**old.get(name, {}), **some} for name, some in new.items()}, {}

    def _asked(self, _: object, content: Data, _buffers: object) -> None:
        """The reader wants the text to share, which takes a moment to make; or has clicked a folded box."""
        if isinstance(name := content.get("unfold"), str):
            self._unfolded.append(name)
            self.update(self.player.trace, self.step, self._reserved)
        if content.get("share") == self._edition:
            self.send({"share": self.player.trace.replay, "edition": self._edition})

    def keep(self, names: Collection[str]) -> None:
        """From the next picture on these are in it whatever changes, as in `graph`."""
        self._options["keep"] = names

    def forget(self, kept: Sequence[str] | None = None) -> None:
        """What is shown next need not be like what was shown before; `kept` as in `Atlas`, None: as they were."""
        self._unfolded[:] = self._options.get("unfold", ())
        self._atlas.forget(kept)

    def __repr__(self) -> str:
        return str(self.player)

    def _ipython_display_(self) -> None:
        note_displayed(self)
        display_with_static(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**options) or {}
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, **self.player._repr_mimebundle_()}
