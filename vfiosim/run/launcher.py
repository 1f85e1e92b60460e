"""Becomes the program that is to be run, once the kernel tells the supervisor of its calls.

Run as a file, by an interpreter of its own: between fork and exec of a program with threads nothing else is safe.
Arguments: the socket to the supervisor, the number of seccomp(2), the filter in hexadecimal, what is to be mounted (lines: a
folder that is served, the folders that it covers, what stays beside ours; or nothing), the program and its arguments.
"""

import array
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
from contextlib import suppress

_NO_NEW_PRIVS, _SET_MODE_FILTER = 38, 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
_NO_SETUID, _NO_DEVICES, _RECURSIVE, _SLAVE, _DETACH = 2, 4, 1 << 14, 1 << 19, 2
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # on every processor
_HERE, _EMPTY_PATH, _CLONE, _TREE = -100, 4, 1, 0x8000


class Mounts:
    """What the program shall see in /dev and /sys, in a mount namespace that begins here. Raises OSError where that cannot be."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.others = ",allow_other"  # who is another user uses the files, too; in a user namespace there is none

    def do(self, answer: int) -> int:
        """What the kernel has answered. Raises OSError."""
        if answer < 0:
            raise OSError(ctypes.get_errno(), "")
        return answer

    def begin(self) -> None:
        """A namespace; whoever may make none gets one in which he may, under the same numbers."""
        user, group = os.geteuid(), os.getegid()
        if self.libc.unshare(_NEW_MOUNTS) < 0:
            self.others = ""
            self.do(self.libc.unshare(_NEW_MOUNTS | _NEW_USERS))
            ids = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
            for name, text in ids.items():
                file = os.open(f"/proc/self/{name}", os.O_WRONLY)
                os.write(file, text.encode())
                os.close(file)
        self.do(self.libc.mount(None, b"/", None, _RECURSIVE | _SLAVE, None))

    def taken(self, path: str, more: int = 0) -> int:
        """What is at a place now, to be put elsewhere."""
        flags = _CLONE | more | os.O_CLOEXEC
        return self.do(self.libc.syscall(_OPEN_TREE, _HERE, os.fsencode(path), flags))

    def put(self, tree: int, path: str) -> None:
        """Let this be what is at a place."""
        self.do(self.libc.syscall(_MOVE_MOUNT, tree, b"", _HERE, os.fsencode(path), _EMPTY_PATH))
        os.close(tree)

    def serve(self, root: str) -> int:
        """Let the folder be served by whoever reads what is answered here."""
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={fuse},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}{self.others}"
        self.do(self.libc.mount(b"vfiosim", os.fsencode(root), b"fuse", _NO_SETUID | _NO_DEVICES, options.encode()))
        return fuse


def mount(root: str, covered: list[str], beside: list[str], to_supervisor: socket.socket) -> None:
    """Let the folders `covered` be those below `root`, with `beside` as the host has it. Raises OSError."""
    mounts = Mounts()
    mounts.begin()
    kept = []
    for path in beside:
        with suppress(OSError):  # gone meanwhile, or nothing that this user may see
            kept.append((mounts.taken(path, _TREE), path))
    give(to_supervisor, b"files", mounts.serve(root))
    give(to_supervisor, b"root", os.open(root, os.O_PATH | os.O_DIRECTORY))
    trees = [(mounts.taken(root + path), path) for path in covered]
    mounts.do(mounts.libc.umount2(os.fsencode(root), _DETACH))  # before its path leads elsewhere
    for tree, path in trees:
        mounts.put(tree, path)
    for tree, path in kept:
        mounts.put(tree, path)
    os.chdir(os.getcwd())  # which may be another one now


def give(to_supervisor: socket.socket, what: bytes, fd: int) -> None:
    """Hand a descriptor over."""
    to_supervisor.sendmsg([what], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)


def main() -> None:
    """Ask for the filter, hand its listener over, become the program; what fails is told over the socket."""
    to_supervisor = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(to_supervisor.fileno(), False)
    code, command = bytes.fromhex(sys.argv[3]), sys.argv[5:]
    if sys.argv[4]:
        try:
            root, covered, *beside = sys.argv[4].split("\n")
            mount(root, covered.split(), beside, to_supervisor)
        except OSError as error:
            to_supervisor.send(b"mount %d" % (error.errno or 0))
            os._exit(127)
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
    give(to_supervisor, b"listener", listener)
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
