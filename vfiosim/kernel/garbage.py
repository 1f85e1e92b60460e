"""Sockets that only messages hold which nobody can receive any more: they are found, and let go (net/unix/garbage.c, v7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..engine import *
from .fs.file import File, private
from .prototypes import drop_message
from .task import UserStruct

if TYPE_CHECKING:
    from .af_unix import SkBuff, UnixSock

UNIX_INFLIGHT_SANE_USER: Final = 8 * 253  # files in messages from which on a sender has to look for such sockets


@kernel("net/unix/garbage.c")
async def unix_get_socket(file: File) -> UnixSock | None:
    """The socket behind a file; None for files of other kinds."""
    if file.f_op.name != "socket":
        return None
    sock: UnixSock = await private(file)
    return sock


@kernel("net/unix/garbage.c")
async def unix_update_graph(zero: UserStruct, receiver: UnixSock) -> None:
    """A message came to this socket, or left it; if it is in a message itself, there may be a circle now."""
    if await load(receiver.edges):
        await store(zero.unix_graph_cyclic, True)


@kernel("net/unix/garbage.c")
async def unix_add_edges(message: SkBuff, receiver: UnixSock) -> None:
    """A message is on its way: each socket in it is held where only its receiver can get it."""
    files, user = await load(message.files), await load(message.user)
    if user is None:
        return
    zero = user.user_0
    async with zero.unix_gc_lock:
        for file in files:
            sock = await unix_get_socket(file)
            if sock is not None:
                if not await load(sock.edges):
                    await store(zero.unix_vertices, (*await load(zero.unix_vertices), sock))
                await store(sock.edges, (*await load(sock.edges), (file, receiver)))
                await unix_update_graph(zero, receiver)
        await store(user.unix_inflight, await load(user.unix_inflight) + len(files))
    await store(message.receiver, receiver)


@kernel("net/unix/garbage.c")
async def unix_del_edges(message: SkBuff) -> None:
    """It is received, or goes: the sockets in it are held otherwise, or not any more."""
    receiver, user = await load(message.receiver), await load(message.user)
    if receiver is None or user is None:
        return
    files, dead, zero = await load(message.files), await load(message.dead), user.user_0
    async with zero.unix_gc_lock:
        for file in files:
            sock = await unix_get_socket(file)
            if sock is not None:
                if not dead:
                    await unix_update_graph(zero, receiver)
                edges = await load(sock.edges)
                left = list(edges)
                left.remove((file, receiver))
                await store(sock.edges, tuple(left))
                if not left:
                    others = tuple([one for one in await load(zero.unix_vertices) if one is not sock])
                    await store(zero.unix_vertices, others)
        await store(user.unix_inflight, await load(user.unix_inflight) - len(files))
    await store(message.receiver, None)


@kernel("net/unix/garbage.c")
async def unix_scc_dead(circle: list[UnixSock]) -> bool:
    """Can none of them be received but by another of them, and has no program one open (`unix_vertex_dead`)?"""
    for sock in circle:
        ways = await load(sock.edges)
        if [receiver for _, receiver in ways if receiver not in circle]:
            return False
        if await load_count(ways[0][0].f_ref) != len(ways):
            return False
    return True


@kernel("net/unix/garbage.c")
async def unix_walk_scc(zero: UserStruct) -> tuple[SkBuff, ...]:
    """The messages of all circles of sockets that are dead; whether living ones are left is noted."""
    edges: dict[UnixSock, list[UnixSock]] = {}
    for sock in await load(zero.unix_vertices):
        edges[sock] = [receiver for _, receiver in await load(sock.edges)]
    hitlist: list[SkBuff] = []
    seen: list[UnixSock] = []
    cyclic = False
    for sock, receivers in edges.items():
        if sock not in seen:
            circle = circle_of(sock, edges)
            seen += circle
            if await unix_scc_dead(circle):
                for one in circle:
                    async with one.queue_lock:
                        waiting = await exchange(one.queue, ())
                    hitlist += waiting
            else:
                cyclic = cyclic or len(circle) > 1 or sock in receivers
    await store(zero.unix_graph_cyclic, cyclic)
    return tuple(hitlist)


@kernel("net/unix/garbage.c")
async def unix_gc(zero: UserStruct) -> None:
    """Throw away what waits for sockets that nobody can reach: with the messages go the sockets in them, and all else."""
    await store(zero.gc_in_progress, True)
    async with zero.unix_gc_lock:
        hitlist = await unix_walk_scc(zero) if await load(zero.unix_graph_cyclic) else ()
    for message in hitlist:
        await store(message.dead, True)
    for message in hitlist:
        say(Phase.RELEASE, "Nobody can receive {} any more: only what it holds holds its receiver.", message)
        await drop_message(message)
    await store(zero.gc_in_progress, False)


@kernel("net/unix/garbage.c")
async def unix_schedule_gc(zero: UserStruct, user: UserStruct | None = None) -> None:
    """Let a worker look for such sockets, if there may be any: after each socket that goes, and for `user` who sends very much."""
    if not await load(zero.unix_graph_cyclic):
        return
    if user is not None and await load(user.unix_inflight) < UNIX_INFLIGHT_SANE_USER:
        return
    if not await load(zero.gc_in_progress):
        current().engine.spawn(unix_gc(zero), "unix_gc")


def circle_of(sock: UnixSock, edges: dict[UnixSock, list[UnixSock]]) -> list[UnixSock]:
    """The sockets that it leads to, by way of who receives whom, and that lead back to it; itself among them."""
    ahead = ahead_of(sock, edges)
    return [one for one in edges if one is sock or (one in ahead and sock in ahead_of(one, edges))]


def ahead_of(sock: UnixSock, edges: dict[UnixSock, list[UnixSock]]) -> list[UnixSock]:
    """All sockets in messages that can be come to from one."""
    found: list[UnixSock] = []
    todo = [sock]
    while todo:
        for one in edges[todo.pop()]:
            if one in edges and one not in found:
                found.append(one)
                todo.append(one)
    return found
