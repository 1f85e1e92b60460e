"""The error numbers of Linux on x86-64, and the exception that stands for a failed system call.

The numbers are written down here because those of the host may be others: a browser has its own.
"""

from enum import IntEnum


class Errno(IntEnum):
    """Why a system call failed: `Errno.EBUSY` is 16, its `sentence` says what that means in general."""

    sentence: str

    def __new__(cls, number: int, sentence: str = "") -> "Errno":
        self = int.__new__(cls, number)
        self._value_ = number
        self.sentence = sentence
        return self

    EPERM = 1, "the caller lacks the right to do this, or somebody else owns the thing"
    ENOENT = 2, "there is nothing under this name, number or address"
    ESRCH = 3, "there is no such process"
    EINTR = 4, "a signal interrupted the call while it waited"
    EIO = 5, "the device or the object behind the file cannot be used from here"
    ENXIO = 6, "there is no such device, address or attribute"
    E2BIG = 7, "the argument is longer than the kernel knows, and what it does not know is not zero"
    EBADF = 9, "this number is not an open file, or the file is not open for such an access"
    ECHILD = 10, "there is no child process to wait for"
    EAGAIN = 11, "there is nothing to do right now; try again later"
    ENOMEM = 12, "there is no memory for it, or a limit on pinned memory is reached"
    EACCES = 13, "the permissions, or a missing token, forbid it"
    EFAULT = 14, "an address in the memory of the caller cannot be read or written"
    EBUSY = 16, "somebody is using it"
    EEXIST = 17, "there is one already"
    EXDEV = 18, "the two things are in different places that cannot be joined"
    ENODEV = 19, "there is no such device, or it is going away, or it cannot do this"
    ENOTDIR = 20, "a part of the path is not a directory"
    EISDIR = 21, "the path is a directory"
    EINVAL = 22, "an argument is not what the call allows, or not in this state"
    ENFILE = 23, "the whole system has too many open files"
    EMFILE = 24, "the process has no free file descriptor"
    ENOTTY = 25, "this file does not know this request"
    ETXTBSY = 26, "the file is being executed"
    EFBIG = 27, "the file would become too big"
    ENOSPC = 28, "there is no room left for it"
    ESPIPE = 29, "the file cannot be read or written in such pieces, or has no position"
    EROFS = 30, "the file system can only be read"
    EPIPE = 32, "nobody reads from the other end"
    EDOM = 33, "the number is outside the domain of the function"
    ERANGE = 34, "the result does not fit in the range it must fit in"
    EDEADLK = 35, "going on would wait for ever"
    ENAMETOOLONG = 36, "the name is too long"
    ENOSYS = 38, "the kernel does not have this call"
    ENOTEMPTY = 39, "the directory is not empty"
    ELOOP = 40, "there are too many symbolic links on the way"
    ENODATA = 61, "there is no such data"
    ETIME = 62, "the time is over"
    EPROTO = 71, "the other side does not keep to the protocol"
    EBADMSG = 74, "the message is malformed"
    EOVERFLOW = 75, "a number or the sum of two is larger than it may be"
    EBADE = 52, "what is there is not what the caller expected"
    EBADFD = 77, "the file is open but of another kind than the call needs"
    ENOTSOCK = 88, "the file is not a socket"
    EMSGSIZE = 90, "the buffer is too short for the answer, or the message too long"
    EOPNOTSUPP = 95, "the call is known, but not this value, flag or feature"
    EADDRINUSE = 98, "the address range collides with one that is in use or reserved"
    ECONNRESET = 104, "the other side closed the connection"
    ENOBUFS = 105, "there is no buffer space left"
    ENOTCONN = 107, "the socket is not connected"
    ETOOMANYREFS = 109, "too many file descriptors are on their way through sockets"
    ETIMEDOUT = 110, "it took too long"
    ECONNREFUSED = 111, "nobody listens there"
    EALREADY = 114, "it has begun already"
    EINPROGRESS = 115, "it has begun and goes on"
    ECANCELED = 125, "it was cancelled"
    EDEADLOCK = EDEADLK  # an older name


_NAMES = {int(member): member.name for member in Errno}


class KernelError(OSError):
    """A system call failed.

    * `errno`: the number of Linux, whatever the host; `name`: its name;
    * `sentence`: why this call failed, in one sentence (by default what the number means in general);
    * `check`: the name of the check that refused, "" when it has none;
    * `where`: the source line that gave up, as "file:line", or None;
    * `kernel`: the kernel function that this line mirrors, with its file and tag, or "".

    Raises ValueError for a number that no call can fail with: it would look like success, or like a pointer (`MAX_ERRNO`).
    """

    errno: int  # type: ignore[mutable-override]  # never None here

    def __init__(self, errno: int, sentence: str = "", *, check: str = "", where: str | None = None) -> None:
        if not 0 < errno < 4096:
            raise ValueError(f"{errno} is no errno: they are numbers from 1 to 4095")
        super().__init__(int(errno), sentence or _general(errno))
        self.check = check
        self.where = where
        self.kernel = ""

    @property
    def name(self) -> str:
        """The name of the error number, as "EINVAL"."""
        return _NAMES.get(self.errno, f"E{self.errno}")

    @property
    def sentence(self) -> str:
        """Why the call failed, in one sentence."""
        return str(self.strerror)

    def __str__(self) -> str:
        details = ", ".join(part for part in (self.check, self.kernel, self.where) if part)
        return f"[{self.name}] {self.sentence}" + (f" ({details})" if details else "")


def _general(number: int) -> str:
    return Errno(number).sentence if number in _NAMES else f"error number {int(number)}"
