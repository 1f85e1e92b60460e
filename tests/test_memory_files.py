"""What is in a memory file: whoever maps it, forks, or lets a device write has the same bytes, and so has every copy of the run.

That it answers as a real kernel does is compared in `test_conformance.py` (`f-memfd-*`, `f-dma-file`).
"""

from __future__ import annotations

from tests.calls import PAGE, Space
from tests.edu import BUFFER, COMMAND, MASTER, MEMORY, copy, put
from vfiosim import Machine, Process
from vfiosim.machine import decode, encode


def run() -> tuple[Machine, int, int]:
    """A device has written into a memory file that a program has mapped: the machine, the file, where it is mapped."""
    s = Space(Machine("lab").process("vmm"))
    file = s.p.memfd(4 * PAGE)
    s.p.pwrite(file, b"secret!!", PAGE)
    address = s.p.mmap(4 * PAGE, fd=file)
    s.attach()
    place = s.map_file(file, 2 * PAGE, PAGE)
    put(s.p, s.dev, COMMAND, MEMORY | MASTER, 2)
    copy(s.p, s.dev, place, BUFFER)
    copy(s.p, s.dev, BUFFER, place + PAGE)
    return s.p.machine, file, address


def content(p: Process, file: int, address: int) -> tuple[bytes, bytes]:
    """What is there, by the descriptor and by the mapping."""
    return p.pread(file, 8, 2 * PAGE), p.memory.read(address + 2 * PAGE, 8)


def test_what_a_device_writes_into_a_file_is_read_and_seen_by_all_who_map_it_and_in_every_copy_of_the_run() -> None:
    m, file, address = run()
    kid = m.processes["vmm"].fork("kid")
    for machine in (m, m.branch(-1), decode(encode(m))[0]):
        for name in ("vmm", kid.name):
            assert content(machine.processes[name], file, address) == (b"secret!!", b"secret!!")


def test_a_child_and_its_parent_share_what_is_mapped_shared_and_nothing_else() -> None:
    m, file, shared = run()
    p = m.processes["vmm"]
    private = p.mmap(PAGE, fd=file, flags=2)
    kid = p.fork("kid")
    p.memory.write(shared, b"by parent")
    p.memory.write(private, b"alone")
    assert kid.memory.read(shared, 9) == b"by parent"
    assert kid.memory.read(private, 5) == b"by pa"  # not written there as yet, so still what the file has
    assert p.memory.read(private, 5) == b"alone"
