"""The free sandbox: every call of the simulator, on a machine of your choice, at once or interleaved by hand.

What can be done are the events of `vfiosim.machine`; `lab.run` does them, takes them back and does them again. `presets` are
machines to begin with. Of a race that is moved by hand, `lab.rehearsal` knows how it can go, `standing` where each call stands,
`board` writes both as HTML. The rest are widgets (`devices` is the drawn editor of a machine); `sandbox` puts them together.
"""

from ..run import Run
from ..setup import Setup
from .sandbox import Sandbox

__all__ = ["Run", "Sandbox", "Setup"]
