"""Sockets that carry open files: what two threads may do with them at once, and who is let go when a process is killed."""

from __future__ import annotations

import pytest

from vfiosim import Machine
from vfiosim.explore import explore
from vfiosim.uapi import KernelError


def sockets(trace: bool = True) -> Machine:
    """Two processes that share two sockets; the first descriptor of each leads to one end, the second to the other."""
    machine = Machine(trace=trace)
    machine.process("a").socketpair()
    machine.processes["a"].fork("b")
    return machine


CLOSE = {3: ("close", 3), 4: ("close", 4)}
SEND, RECEIVE = ("sendmsg_fds", 3, (0,)), ("recvmsg_fds", 4)


@pytest.mark.parametrize(
    "threads",
    [
        {"A": [("a", *CLOSE[3]), ("b", *CLOSE[3])], "B": [("a", *CLOSE[4]), ("b", *CLOSE[4])]},
        {"A": [("a", *SEND)], "B": [("a", *CLOSE[4]), ("b", *CLOSE[4])]},
        {"A": [("a", *SEND)], "B": [("b", *SEND)]},
        {"A": [("a", "exit")], "B": [("b", "exit")]},
    ],
    ids=["close and close", "send and close", "send and send", "exit and exit"],
)
def test_whatever_two_threads_do_with_a_pair_of_sockets_nothing_is_broken(threads):
    result = explore(sockets, threads)
    assert result.complete
    assert [one.what for one in result.violations] == []


def test_of_two_messages_that_are_sent_at_once_none_is_lost():
    result = explore(sockets, {"A": [("a", *SEND)], "B": [("b", *SEND)], "C": [("a", *RECEIVE), ("a", *RECEIVE)]})
    assert result.complete
    assert result.violations == []


def test_a_process_that_waits_for_a_message_can_be_killed_and_lets_go_of_its_device():
    machine = Machine()
    p, admin = machine.process("p"), machine.process("admin")
    p.open("/dev/vfio/devices/vfio0")
    first, _ = p.socketpair()
    waiting = p.start("recvmsg_fds", first)
    unbind = admin.start("write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")
    assert (waiting.state, unbind.state) == ("blocked", "blocked")
    p.kill()
    assert not p.task.alive.value
    assert unbind.result == 12
    assert machine.check() == []


def test_whoever_waits_for_a_device_to_be_free_cannot_be_killed():
    machine = Machine()
    p, admin = machine.process("p"), machine.process("admin")
    dev = p.open("/dev/vfio/devices/vfio0")
    unbind = admin.start("write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")
    admin.kill()
    assert (unbind.state, admin.task.alive.value) == ("blocked", True)
    p.close(dev)
    assert not admin.task.alive.value


def test_all_who_wait_for_a_message_learn_that_the_other_end_is_closed():
    machine = sockets()
    a, b = machine.processes["a"], machine.processes["b"]
    b.close(3)
    waiting = [a.start(*RECEIVE), b.start(*RECEIVE)]
    a.close(3)
    assert [(call.state, call.value()) for call in waiting] == [("done", None)] * 2


def test_a_socket_can_be_read_when_a_message_waits_and_when_nothing_comes_any_more():
    p = Machine().process("p")
    first, second = p.socketpair()
    assert (p.poll(second, 1), p.poll(second, 4)) == (0, 4)
    p.sendmsg_fds(first, (0,))
    assert p.poll(second, 1) == 1
    p.recvmsg_fds(second)
    p.close(first)
    assert p.poll(second, 1) == 1 | 16  # POLLIN and, though nobody asked, POLLHUP


def test_whoever_left_messages_unread_is_told_of_once():
    p = Machine().process("p")
    first, second = p.socketpair()
    p.sendmsg_fds(first, (0,))
    p.close(second)
    assert p.poll(first, 1) & 8  # POLLERR
    with pytest.raises(KernelError, match="ECONNRESET"):
        p.recvmsg_fds(first)
    assert p.recvmsg_fds(first) is None


def circle(trace: bool = True) -> Machine:
    """Two processes that share the first of two sockets; the second waits in its own queue, and nobody has it open."""
    machine = sockets(trace)
    machine.processes["a"].sendmsg_fds(3, (4,))
    for name in "ab":
        machine.processes[name].close(4)
    return machine


def test_sockets_that_only_messages_hold_go_with_the_last_socket_whoever_closes_it():
    result = explore(circle, {"A": [("a", *CLOSE[3])], "B": [("b", *CLOSE[3])]})
    assert result.complete
    assert [one.what for one in result.violations] == []
    machine = circle()
    assert "message 1" in machine.engine.objects  # the first one can send to it, but nobody can receive that
    for name in "ab":
        machine.processes[name].close(3)
    assert [oid for oid in machine.engine.objects if oid.startswith(("message", "socket"))] == []
    assert machine.check() == []


def test_a_circle_of_sockets_lives_while_somebody_can_receive_one_of_them():
    machine = circle()
    a, b = machine.processes["a"], machine.processes["b"]
    other, end = a.socketpair()
    a.sendmsg_fds(other, (3,))
    a.close(3)
    b.close(3)
    assert "message 1" in machine.engine.objects
    (first,) = a.recvmsg_fds(end) or ()
    a.close(first)
    assert [oid for oid in machine.engine.objects if oid.startswith("message")] == []
