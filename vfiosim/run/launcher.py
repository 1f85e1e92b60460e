"""Becomes the program that is to be run, once the kernel tells the supervisor of its calls.

Run as a file, by an interpreter of its own: between fork and exec of a program with threads nothing else is safe.
Arguments: the socket to the supervisor, the number of seccomp(2), the filter in hexadecimal, the program and its arguments.
"""

import array
import ctypes
import errno
import os
import signal
import socket
import struct
import sys

_NO_NEW_PRIVS, _SET_MODE_FILTER = 38, 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5


def main() -> None:
    """Ask for the filter, hand its listener over, become the program; what fails is told over the socket."""
    to_supervisor = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(to_supervisor.fileno(), False)
    code, command = bytes.fromhex(sys.argv[3]), sys.argv[4:]
    folders = (
        [""] if "/" in command[0] else os.get_exec_path()
    )  # looked for before anything is told: it is not the program's doing
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    buffer = ctypes.create_string_buffer(code)
    whole = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    listener = libc.syscall(int(sys.argv[2]), _SET_MODE_FILTER, flags, whole)
    if listener < 0:
        to_supervisor.send(b"filter %d" % ctypes.get_errno())
        os._exit(127)
    to_supervisor.sendmsg([b"listener"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    os.close(listener)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    why = errno.ENOENT
    for folder in folders:
        try:
            os.execv(os.path.join(folder, command[0]), command)
        except OSError as error:
            why = why if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.errno or why
    to_supervisor.send(f"exec {why}".encode())
    os._exit(127)


if __name__ == "__main__":
    main()
