"""The free sandbox: every call of the simulator, on a machine of your choice, at once or interleaved by hand.

`actions` is what can be done, as data; `run` does it, takes it back, does it again; `retell` finds it in a shared run; `acquired`
tells what a call has in its hands. The rest are widgets; `sandbox` puts them together.
"""

from .actions import Action, Began, Called, Killed, Mapped, Moved, Setup, Slept
from .run import Run
from .sandbox import Sandbox
from .told import Done, Told

__all__ = ["Action", "Began", "Called", "Done", "Killed", "Mapped", "Moved", "Run", "Sandbox", "Setup", "Slept", "Told"]
