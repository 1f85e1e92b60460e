"""What the model says where the real kernel would answer and it cannot."""

from ..uapi import Errno, KernelError


class Unsupported(KernelError):
    """The kernel answers this; the model does not know the answer. Behaves as a refused call, so that nothing is left behind."""

    def __init__(self, what: str) -> None:
        super().__init__(Errno.ENOSYS, f"{what} is not modelled", check="unsupported")

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.sentence.removesuffix(" is not modelled"),)
