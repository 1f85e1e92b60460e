"""Programs of the host run on a simulated machine: unmodified, in any language, without a device, a module or root.

`run(["./my_vmm"])` is the whole of it in Python, `python -m vfiosim run ./my_vmm` on the command line. No sandbox: what a program
does beside VFIO, iommufd and KVM it does to the host.

* `launch.py`, `launcher.py`, `filter.py`: the program is started, and the kernel tells of some of its calls;
* `notices.py`: they are received and answered;
* `traps.py`, `outcomes.py`: what each comes to; `given.py`: what a request is given, as people read it;
* `programs.py`, `files.py`, `memory.py`: the processes, open files and memory of the host;
* `recording.py`: a run as a recording;
* `fuse.py`, `served.py`, `stopped.py`: the files that a program finds where it has a mount namespace of its own;
* `tree.py`: what programs see in /dev and /sys; `supervisor.py` joins all of it; `result.py` is what a run leaves behind.
"""

from typing import TYPE_CHECKING

from ..lazily import lazily
from .filter import CannotRun

if TYPE_CHECKING:
    from .given import ProgramCall
    from .result import ProgramRun, run

__all__ = ["CannotRun", "ProgramCall", "ProgramRun", "run"]


# What runs programs is imported where somebody runs one: other systems lack what it is made of.
__getattr__ = lazily(__name__, given=("ProgramCall",), result=("ProgramRun", "run"))
