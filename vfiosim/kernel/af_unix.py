"""Sockets that carry open files from one process to another (net/unix/af_unix.c, net/core/scm.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ..engine import *
from ..uapi import Errno, KernelError
from .fs.eventfd import POLLHUP, POLLIN, POLLOUT
from .fs.file import (
    O_RDWR,
    File,
    FileOperations,
    current_files,
    fd_install,
    fget,
    fput,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from .fs.read_write import wait_for_readable
from .fs.syscalls import alloc_file, drop_file
from .garbage import unix_add_edges, unix_del_edges, unix_schedule_gc
from .task import UserStruct, capable, current_task, free_uid

POLLERR: Final = 8
READABLE, WRITABLE, POLLRDHUP = POLLIN | 0x40, POLLOUT | 0x300, 0x2000  # with POLLRDNORM, POLLWRNORM, POLLWRBAND
IN_FLIGHT, ITS_FILE, ITS_PEER, SENT_IT = "in flight", "its file", "its other end", "sent it"
SCM_MAX_FD: Final = 253


class SkBuff(KObject):
    """A message that has been sent and not received: it holds the files that travel with it, and the user who sent them.

    * born by sendmsg; waits in the queue of the other socket, and nothing else knows it;
    * dies when it is received, with the socket, or when nobody can receive it any more (`dead`).
    """

    kind = "message"
    files: Field[tuple[File, ...]] = field(())
    user: Field[UserStruct | None] = field(None)
    receiver: Field[UnixSock | None] = field(None, link="weak")
    dead: Field[bool] = field(False)


class UnixSock(KObject):
    """One end of a socketpair.

    * held by its file, and by the other end, which sends into its queue (`sk_refcnt`); dies when both are gone;
    * `queue`: messages for it, oldest first; `edges`: its file for each message that it is in, with who can receive that;
    * `dead`: its file is gone; `shutdown`: nothing comes or goes any more;
    * `reset`: its other end was closed before it had received everything, and nobody has been told so (`sk_err`).
    """

    kind = "socket"
    sk_refcnt: Count = count()
    lock: Lock = spinlock()  # unix_state_lock
    iolock: Lock = mutex()  # one reader at a time
    readable: Completion = completion()
    queue_lock: Lock = spinlock()  # sk_receive_queue.lock
    queue: Field[tuple[SkBuff, ...]] = field((), guard="queue_lock", link="owns")
    edges: Field[tuple[tuple[File, UnixSock], ...]] = field((), link="weak")
    peer: Field[UnixSock | None] = field(None, link="weak")
    dead: Field[bool] = field(False, guard="lock")
    shutdown: Field[bool] = field(False, guard="lock")
    reset: Field[bool] = field(False, guard="lock")

    def __init__(self, engine: Engine, zero: UserStruct) -> None:
        super().__init__(engine)
        self.zero = zero


@kernel("net/socket.c")
async def sys_socketpair() -> tuple[int, int]:
    """Two sockets; what is sent into one comes out of the other. EMFILE."""
    numbers: list[int] = []
    try:
        for _ in range(2):
            numbers.append(await get_unused_fd_flags())
        first, second = await pair_of_sockets()
    except KernelError:
        for number in numbers:
            await put_unused_fd(number)
        raise
    await fd_install(numbers[0], first)
    await fd_install(numbers[1], second)
    return numbers[0], numbers[1]


async def pair_of_sockets() -> tuple[File, File]:
    """The middle of it: the sockets, each with its file."""
    sockets: list[UnixSock] = []
    files: list[File] = []
    user = await load(current_task().user)
    try:
        for _ in range(2):
            sockets.append(await alloc(UnixSock, user.user_0))
        for _ in range(2):
            files.append(await alloc_file("socket", unix_fops, O_RDWR))
    except KernelError:
        for file in files:
            await drop_file(file)
        for sock in sockets:
            await free(sock)
        raise
    for sock, peer, file in zip(sockets, reversed(sockets), files, strict=True):
        await get(sock.sk_refcnt, file, ITS_FILE)
        await get(peer.sk_refcnt, sock, ITS_PEER)
        await store(sock.peer, peer)
        await store(file.private_data, sock)
    return files[0], files[1]


@kernel("net/unix/af_unix.c")
async def unix_release(file: File) -> None:
    """The file of a socket is gone (`unix_release_sock`): the other end learns it, and what was never received is dropped."""
    sock: UnixSock = await private(file)
    async with sock.lock:
        await store(sock.dead, True)
        await store(sock.shutdown, True)
        peer = await exchange(sock.peer, None)
    if peer is not None:
        unread = await load(sock.queue)
        async with peer.lock:
            await store(peer.shutdown, True)
            if unread:
                await store(peer.reset, True)
        await complete(peer.readable)
        await sock_put(peer, sock, ITS_PEER)
    async with sock.queue_lock:
        unread = await exchange(sock.queue, ())
    for message in unread:
        await drop_message(message)
    zero = sock.zero
    await sock_put(sock, file, ITS_FILE)
    await unix_schedule_gc(zero)


@kernel("include/net/sock.h")
async def sock_put(sock: UnixSock, holder: KObject, reason: str) -> None:
    """Let go of a socket; it goes with the last reference."""
    if await put(sock.sk_refcnt, holder, reason):
        await free(sock)


async def socket_of(number: int) -> tuple[File, UnixSock]:
    """The socket behind a descriptor, held by the running call. EBADF, ENOTSOCK."""
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    if file.f_op is not unix_fops:
        await fput(file)
    await refuse_if(file.f_op is not unix_fops, Errno.ENOTSOCK, "file_is_socket", f"{file.label} is no socket")
    return file, await private(file)


@kernel("net/unix/af_unix.c")
async def too_many_unix_fds(user: UserStruct) -> None:
    """ETOOMANYREFS: more files of this user are in messages than one process may have open, and it has no capability for that."""
    many, most = await load(user.unix_inflight), await load(current_files().limit)
    if many > most and not (await capable("CAP_SYS_RESOURCE") or await capable("CAP_SYS_ADMIN")):
        why = f"{many} files of this user are in messages, and a process may have {most} open"
        await refuse_if(True, Errno.ETOOMANYREFS, "few_files_in_flight", why)


@kernel("net/unix/af_unix.c")
async def drop_message(message: SkBuff) -> None:
    """A message goes, and lets go of its files, and of who sent them (`unix_destruct_scm`)."""
    await unix_del_edges(message)
    for file in await load(message.files):
        await fput(file, message, IN_FLIGHT)
    user = await load(message.user)
    if user is not None:
        await free_uid(user, message, SENT_IT)
    await free(message)


@kernel("net/unix/af_unix.c")
async def unix_stream_sendmsg(number: int, numbers: tuple[int, ...]) -> int:
    """Send one byte and some open files: EINVAL for too many, EBADF if one of them is none, EPIPE if nobody is at the other end.

    ETOOMANYREFS once the user has more on their way than a process of it may have open.
    """
    file, sock = await socket_of(number)
    async with on_failure(fput, file):
        message = await alloc(SkBuff)
        async with on_failure(drop_message, message):
            await scm_fp_copy(message, numbers)
            peer = await unix_peer_to_send(sock, message)
    await complete(peer.readable)
    await fput(file)
    return 1


async def unix_peer_to_send(sock: UnixSock, message: SkBuff) -> UnixSock:
    """The other end, with the message in its queue. EPIPE if it is closed, ETOOMANYREFS."""
    closed = await load(sock.shutdown)
    found = None if closed else await load(sock.peer)
    peer = await require(found, Errno.EPIPE, "somebody_listens", "the other end is closed")
    user = await load(message.user)
    if user is not None:
        await too_many_unix_fds(user)
        await unix_schedule_gc(sock.zero, user)
    async with peer.lock:
        closed = await load(peer.dead)
        await refuse_if(closed, Errno.EPIPE, "somebody_listens", "the other end is closed")
        say(Phase.PUBLISH, "{} is sent: it holds the files in it until it is received.", message)
        await unix_add_edges(message, peer)
        async with peer.queue_lock:
            await store(peer.queue, (*await load(peer.queue), message))
    return peer


@kernel("net/unix/af_unix.c")
async def unix_stream_read_generic(sock: UnixSock) -> SkBuff | None:
    """The oldest message, taken out of the queue; None once nothing comes any more. EINTR; once ECONNRESET.

    That tells that the other end was closed before it had received all that was sent to it.
    """
    while True:
        async with sock.iolock:
            async with sock.lock:
                async with sock.queue_lock:
                    waiting = await load(sock.queue)
                    await store(sock.queue, waiting[1:])
                ended = await load(sock.shutdown)
                reset = ended and not waiting and await exchange(sock.reset, False)
                await refuse_if(
                    reset, Errno.ECONNRESET, "all_was_received", "the other end was closed with messages unread"
                )
            if waiting:
                await unix_del_edges(waiting[0])
        if ended:
            await complete(sock.readable)  # the end stays the end, for everybody who waits
        if waiting or ended:
            return waiting[0] if waiting else None
        woken = await wait_for_killable(sock.readable)
        await refuse_if(not woken, Errno.EINTR, "process_lives", "the process is killed, so it waits no longer")


@kernel("net/core/scm.c")
async def scm_fp_copy(message: SkBuff, numbers: tuple[int, ...]) -> None:
    """The message takes a reference on each file, and on the user. EINVAL for too many, EBADF."""
    many = len(numbers) > SCM_MAX_FD
    await refuse_if(many, Errno.EINVAL, "files_fit", f"a message takes {SCM_MAX_FD} files at most")
    for number in numbers:
        file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
        await hand_over(file.f_ref, (current(), "running call"), (message, IN_FLIGHT))
        await store(message.files, (*await load(message.files), file))
    if numbers:
        user = await load(current_task().user)
        await get(user.refs, message, SENT_IT)
        await store(message.user, user)


@kernel("net/unix/af_unix.c")
async def unix_stream_recvmsg(number: int) -> tuple[int, ...] | None:
    """Receive a message, waiting for one; its files get the lowest free numbers. None once the other end is closed.

    EINTR if the process is killed meanwhile.
    """
    file, sock = await socket_of(number)
    async with on_failure(fput, file):
        message = await unix_stream_read_generic(sock)
    got = await scm_detach_fds(message) if message is not None else None
    await fput(file)
    return got


@kernel("net/core/scm.c")
async def scm_detach_fds(message: SkBuff) -> tuple[int, ...]:
    """The files of a message become descriptors, as many as there is room for; then the message goes."""
    numbers: list[int] = []
    for file in await load(message.files):
        try:
            number = await get_unused_fd_flags()
        except KernelError:
            break  # the table is full: the rest is lost
        files = current_files()
        say(Phase.PUBLISH, "Descriptor {} now leads to {}.", number, file)
        await get(file.f_ref, files, f"fd {number}")
        await xa_store(files.fd, number, file)
        numbers.append(number)
    await drop_message(message)
    return tuple(numbers)


@kernel("net/unix/af_unix.c")
async def unix_poll(file: File) -> int:
    """Can anything be received, or comes nothing any more? Sending never waits."""
    sock: UnixSock = await private(file)
    ended = await load(sock.shutdown)
    waiting = await load(sock.queue)
    reset = ended and await load(sock.reset)
    return POLLERR * reset | WRITABLE | READABLE * (ended or bool(waiting)) | (POLLHUP | POLLRDHUP) * ended


async def unix_wait(file: File, timeout: int) -> bool:
    """Until something is sent, or the other end is closed."""
    sock: UnixSock = await private(file)
    return await wait_for_readable(file, sock.readable, timeout)


unix_fops = FileOperations("socket", release=unix_release, poll=unix_poll, wait=unix_wait, stream=True)
