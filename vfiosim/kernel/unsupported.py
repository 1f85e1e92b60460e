"""What the model says where the real kernel would answer and it cannot."""

from ..engine.functions import running
from ..uapi import Errno, KernelError


class Unsupported(KernelError):
    """The kernel answers this; the model does not know the answer. Behaves as a refused call, so that nothing is left behind.

    The engine takes note of it, for whoever must not mistake it for an answer, even where kernel code goes on after it.
    """

    def __init__(self, what: str) -> None:
        super().__init__(Errno.ENOSYS, f"{what} is not modelled", check="unsupported")
        if (thread := running.thread) is not None:
            thread.engine.unmodelled[thread.label, self.sentence] = None

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.sentence.removesuffix(" is not modelled"),)
