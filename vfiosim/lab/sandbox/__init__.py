"""The free sandbox: every call of the simulator, on a machine of your choice, at once or interleaved by hand.

What can be done are the events of `vfiosim.machine`. `run` does them, takes them back and does them again; `setup` is the machine
before, and finds both in a shared run; `presets` are machines to begin with; `acquired` tells what a call has in its hands. Of a
race that is moved by hand, `rehearsal` knows how it can go, `standing` where each call stands, `board` writes both as HTML. The
rest are widgets (`devices` is the drawn editor of a machine); `sandbox` puts them together.
"""

from .run import Run
from .sandbox import Sandbox
from .setup import Setup
from .told import Done, Told

__all__ = ["Done", "Run", "Sandbox", "Setup", "Told"]
