"""Runs as short texts: the same machine comes of them, and whatever is wrong with one is told in a sentence."""

import base64
import cProfile
import json
import re
import tracemalloc
import zlib

import pytest

from tests.reused_names import MACHINES, PATCHES, ended
from vfiosim import Blocked, DeviceSpec, KernelError, Machine, Process, Topology, Unsupported, replay, uapi
from vfiosim.engine import KernelOops, refuse_if
from vfiosim.lab.sandbox import Run, Setup
from vfiosim.machine import PREFIX, decode, encode
from vfiosim.machine.events import Began, Called, Killed
from vfiosim.machine.sharing import _COMMON
from vfiosim.puzzles import PUZZLES
from vfiosim.uapi import Errno

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD


def bound(**options):
    m = Machine(**options)
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    p.ioctl(dev, m.variant.bind_request, m.variant.layout(iommufd=ctx))
    return m, p


def same(m, patches=None):
    """The machine that comes out of its own text has done the same and stands where it stands."""
    twin, step = decode(encode(m), patches)
    assert twin.trace == m.trace
    assert [(str(call), call.state, call.result) for call in twin.calls] == [
        (str(call), call.state, call.result) for call in m.calls
    ]
    assert encode(twin) == encode(m)
    return step is None


def content(text):
    data = base64.b64decode(text.removeprefix(PREFIX) + "==", altchars=b"-_")
    return json.loads(zlib.decompressobj(zdict=_COMMON).decompress(data))


def packed(data):
    packer = zlib.compressobj(9, zdict=_COMMON)
    return PREFIX + base64.urlsafe_b64encode(packer.compress(json.dumps(data).encode()) + packer.flush()).decode()


# ---- what comes out is what went in


def test_a_bind_is_shared_in_fewer_than_a_hundred_letters():
    m, _ = bound()
    assert same(m)
    assert len(encode(m)) < 100
    assert encode(m).isascii()


@pytest.mark.parametrize("kernel", ["v7.2", "v6.6"])
@pytest.mark.parametrize("topology", ["small", "lab", "versions"])
def test_every_topology_and_version_can_be_shared(topology, kernel):
    m = Machine(topology, kernel)
    p = m.process("vmm")
    p.open(IOMMU)
    assert same(m)
    assert decode(encode(m))[0].kernel == kernel
    assert decode(encode(m))[0].topology == m.topology


def test_a_topology_of_ones_own_is_told_device_by_device():
    mine = Topology("mine", (DeviceSpec("card", "0000:09:00.0", 9, model="mine", can_reset=True),))
    m, _ = bound(topology=mine)
    assert same(m)
    assert decode(encode(m))[0].topology == mine


def test_a_refused_call_memory_time_and_a_fork_are_shared(request):
    m, p = bound()
    with pytest.raises(KernelError):
        p.open("/dev/vfio/1")
    address = p.mmap(4096)
    p.memory.write(address, b"hello")
    p.mprotect(address, 4096, 1)
    m.sleep(250)
    child = p.fork("child")
    child.close(3)
    p.setuid(1000)
    p.exit()
    assert same(m)
    assert decode(encode(m))[0].engine.clock == 250


def test_rights_that_are_not_all_of_them_are_shared():
    m = Machine()
    m.process("weak", caps=()).open(IOMMU)
    twin, _ = decode(encode(m))
    assert twin.processes["weak"].task.caps.value == ()


def test_two_calls_half_way_are_shared_with_every_turn():
    m = Machine()
    a, b = m.process("a"), m.process("b")
    dev, ctx = a.open(NODE), a.open(IOMMU)
    binding = a.start("ioctl", dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx), run=False, thread="A")
    opening = b.start("open", "/dev/vfio/1", run=False, thread="B")
    for turn in range(20):
        (binding if turn % 3 else opening).step()
    assert same(m)
    twin, _ = decode(encode(m))
    twin.calls[2].run()
    binding.run()
    assert twin.calls[2].result == binding.result
    assert twin.trace.end == m.trace.end


def test_a_call_that_waits_goes_on_waiting_and_its_time_runs_out_at_the_same_moment():
    m, p = bound()
    root = m.process("root")
    waiting = root.start("write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")
    assert waiting.state == "blocked"
    m.sleep(4000)
    m.sleep(7000)
    assert same(m)
    p.exit()
    assert waiting.state == "done"
    assert same(m)
    assert m.branch(-1).trace.end == m.trace.end


def test_an_oops_and_the_end_of_its_process_are_shared():
    async def broken(df):
        await refuse_if(False, Errno.EINVAL, "never", "never")
        raise KernelOops("BUG: the driver went wrong")

    m = Machine()
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    with m.patched(vfio_df_open=broken), pytest.raises(KernelOops):
        p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    assert same(m, {"vfio_df_open": broken})


def test_protections_that_were_taken_out_are_shared_and_branched():
    m = Machine()
    m.take_out("group_is_closed", "no_device_bound")
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    p.open("/dev/vfio/1")
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    assert same(m)
    assert m.branch(-1).trace == m.trace


def test_a_text_that_takes_out_a_check_by_the_name_that_it_once_had_opens():
    old = "vfiosim1:ePl2Z5FlQ4QOPMyQIiuzOB7iRqU8YCyB3RaflF-alwLRWoASyUhOJM9jmLoM4SpjdYwNTQ1MTY3MLUxiATvkNrc"
    assert {*decode(old)[0].taken_out.names} == {"group_is_closed", "no_device_bound"}


def test_nothing_is_taken_out_while_a_call_is_under_way():
    m = Machine()
    m.process("vmm").start("open", NODE, run=False)
    with pytest.raises(ValueError, match="before a call begins"):
        m.take_out("group_lock")


# ---- a name that is used again


@pytest.mark.parametrize("made", MACHINES.values(), ids=MACHINES)
def test_a_run_in_which_the_name_of_a_process_is_used_again_is_shared_and_branched(made):
    m = made()
    assert same(m, PATCHES)
    assert m.trace.replay == encode(m)
    twin = m.branch(-1)
    assert twin.trace == m.trace
    assert encode(twin) == encode(m)


def test_the_sandbox_saves_loads_and_takes_back_a_process_whose_name_is_used_again():
    run = Run(Setup(Topology.named("small"), processes=("q",)))
    for action in (Killed("q"), Began("q"), Called("q", "open", (IOMMU, 2)), Called("q", "exit"), Began("q")):
        run.do(action)
    done, trace, text = [one.event for one in run.done], run.machine.trace, run.save()
    run.undo()
    run.redo()
    assert run.machine.trace == trace
    run.load(text)
    assert [one.event for one in run.done] == done
    assert run.machine.trace == trace


@pytest.mark.parametrize(
    "late",
    [
        Process.fork,
        lambda process, name: process.memory.write(0x10000, name.encode()),
        lambda process, name: process.memory.map(4096),
    ],
)
def test_what_is_asked_of_a_process_that_has_ended_is_refused_and_reaches_nobody_of_its_name(late):
    m, first, _ = ended(Process.exit)
    before = len(m.history), [*m.processes], m.trace
    with pytest.raises(ValueError, match="the process 'q' has ended"):
        late(first, "child")
    assert (len(m.history), [*m.processes], m.trace) == before


def test_a_process_that_ends_twice_does_not_end_the_next_one_of_its_name():
    m, first, second = ended(Process.exit)
    first.exit()
    second.close(3)
    assert second.task.alive.value
    assert same(m)


# ---- texts of the first edition


# A run in which memory changes, a call fails on purpose, a process forks and ends, time passes: a child was told of twice then.
FIRST_EDITION = (
    "vfiosim1:"
    "ePl2Z5FltVTLDoIwEPwXzz2UQrv0aPTiQWPCyRBCDGJiFCSI-vuWLdgWiCYmhgvQme5jdtZ0x-3ZWzor8G_pOqxRLwoD1PIE"
    "VIquJBEKaUQZwnEU1afnS-GDBAEMOGcdF0JV4pBS1dcmz5oJEkb1RoR7qZOagmswzggm2GX5SSv2k1aOWv-8G4U_n1qfv-U_"
    "mnjticlB41ybkJgraXGoZu17nEzsAqsCXBcKpbmCMCCccGmSeeZ7tVawu91dmfn9ZbL0BcwKqj5UzEdeNsdDH9Y97GeqNxX1"
    "3GcoBJJueVNfTgWWEhJK6AQm21cKhvZazLdptIvS-XK92uCSs5yA4JERbBMkhAUBSAnUh-QFsQT-gg"
)


def test_a_text_of_the_first_edition_is_done_again_and_says_where_that_is_not_what_happened_then():
    assert "does other things than it did then" in str(replay(FIRST_EDITION))
    run = Run(Setup(Topology.named("small")))
    assert "does other things than it did then" in run.load(FIRST_EDITION)
    assert "older edition" not in str(replay(encode(bound()[0])))


def test_a_text_of_the_first_edition_is_still_read():
    m, _ = decode(FIRST_EDITION)
    assert [*m.processes] == ["vmm", "kid", "weak", "w2"]
    assert sum(call.name == "fork" for call in m.calls) == 1
    assert [call.error.name for call in m.calls if isinstance(call.error, KernelError)] == ["ENODEV"]
    assert same(m)


# ---- from a trace, and with a step


def test_a_trace_and_every_part_of_it_know_the_text_of_the_whole_run():
    m, p = bound()
    trace, text = m.trace, encode(m)
    p.close(3)
    assert trace.replay == trace[2:5].replay == trace[len(trace) :].replay == text
    assert m.trace.replay != text
    assert replay(text).trace == trace


def test_a_trace_of_what_cannot_be_shared_has_no_text():
    m, _ = bound()
    m.history.clear()
    assert m.trace.replay == ""


def test_a_step_is_named_in_the_text_or_behind_it():
    m, _ = bound()
    assert decode(encode(m, 3))[1] == decode(encode(m) + "@3")[1] == 3
    assert decode(encode(m, -1))[1] == len(m.trace)
    with pytest.raises(IndexError, match="no step 999"):
        encode(m, 999)
    with pytest.raises(ValueError, match="there is no step 999 in this run"):
        replay(encode(m) + "@999")


def test_a_replay_tells_what_happened_and_is_a_player_at_its_step():
    m, _ = bound()
    shown = replay(encode(m, 7))
    assert "ioctl(3, VFIO_DEVICE_BIND_IOMMUFD" in str(shown)
    assert f"Step 7: {m.trace[6].sentence}" in repr(shown)
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == str(shown)
    assert re.search(r'"step": ?7\b', unpacked(bundle["text/html"]))


def unpacked(html):
    """The program that a player's page unpacks itself."""
    packed = max(re.findall(r"[A-Za-z0-9+/=]{100,}", html), key=len)
    return zlib.decompress(base64.b64decode(packed), wbits=-15).decode()


# ---- what cannot be shared


def test_functions_of_ones_own_are_named_and_handed_in():
    async def mine(df):
        await refuse_if(True, Errno.EPERM, "mine", "nobody may")

    m = Machine()
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    with m.patched(vfio_df_open=mine), pytest.raises(KernelError, match="nobody may"):
        p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    text = encode(m)
    with pytest.raises(ValueError, match=r"took the place of vfio_df_open; hand it in: patches=\{'vfio_df_open': …\}"):
        replay(text)
    assert replay(text, {"vfio_df_open": mine}).trace == m.trace


def test_a_machine_without_a_trace_cannot_be_shared():
    with pytest.raises(ValueError, match="trace=False"):
        encode(Machine(trace=False))


def test_what_was_done_behind_the_back_of_the_machine_cannot_be_shared():
    m = Machine()
    p = m.process("vmm")
    m.engine.take_out("iommufd_lock", "group_lock")
    with m.engine.patched():
        p.open("/dev/vfio/1")
    with pytest.raises(ValueError, match="does not repeat"):
        encode(m)


# ---- what is wrong with a text


@pytest.mark.parametrize("text", ["", "hello", "vfiosim0:abc", "R1", "R1 without group_lock", PREFIX])
def test_a_text_from_elsewhere_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        replay(text)


def test_a_text_with_a_letter_missing_or_changed_anywhere_is_refused():
    text = encode(bound()[0])
    for at in range(len(PREFIX), len(text)):
        other = "A" if text[at] != "A" else "B"
        for wrong in (text[:at], text[:at] + text[at + 1 :], text[:at] + other + text[at + 1 :], text[:at] + "é"):
            if wrong.rstrip("=")[:-1] == text[:-1] and at == len(text) - 1:
                continue  # the last letter has bits to spare
            with pytest.raises(ValueError, match=r"damaged|missing|repeat"):
                decode(wrong)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[:3], "damaged"),
        (lambda data: {}, "damaged"),
        (lambda data: ["no_such", *data[1:]], "no topology"),
        (lambda data: [data[0], "v9", *data[2:]], "does not repeat"),
        (lambda data: [*data[:2], data[2][:-1], data[3]], "does not repeat"),
        (lambda data: [*data[:3], data[3] + 1], "does not repeat"),
        (lambda data: [*data[:2], [["c", ["vmm", "import_fd", [3], ""]]], 0], "cannot be shared"),
        (lambda data: [*data[:2], [["p", ["vmm"]], ["m", ["vmm", "__init__", []]]], 0], "cannot be shared"),
        (lambda data: [*data[:2], [["p", ["vmm"]], ["c", ["vmm", "open", []]]], 0], "does not repeat"),
        (lambda data: [*data[:2], [["p", ["vmm"]], ["c", ["vmm", "open", ["/"]], [7, 1]]], 0], "does not repeat"),
        (lambda data: [*data[:2], [["c", ["nobody", "eventfd", [], ""]]], 0], "does not repeat"),
        (lambda data: [*data[:2], [["s", [{"x": 1}, []]]], 0], "does not repeat"),
    ],
)
def test_a_text_that_somebody_has_tampered_with_is_refused(damage, told):
    with pytest.raises(ValueError, match=told):
        decode(packed(damage(content(encode(bound()[0])))))


def test_a_text_that_would_fill_the_memory_is_refused():
    packer = zlib.compressobj(9, zdict=_COMMON)
    bomb = packer.compress(b"[" * (1 << 25)) + packer.flush()
    with pytest.raises(ValueError, match="damaged"):
        decode(PREFIX + base64.urlsafe_b64encode(bomb).decode())


def everything_in_it(data, path=()):
    """Where there is anything in such data, as the way to it."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    yield path
    for key, value in inside:
        yield from everything_in_it(value, (*path, key))


@pytest.mark.parametrize("wrong", [None, -1, 1 << 70, "", "x", [], {}, {"b": "zz"}, [[]], True])
def test_a_text_with_something_else_anywhere_in_it_is_refused_in_one_sentence_or_is_a_run(wrong):
    whole = content(encode(bound()[0]))
    for path in everything_in_it(whole):
        data = json.loads(json.dumps(whole))
        inside = data
        for key in path[:-1]:
            inside = inside[key]
        if path:
            inside[path[-1]] = wrong
        assert "\n" not in said_of(packed(data if path else wrong))


def said_of(text: str) -> str:
    """How a text is refused; "" if it is a run."""
    try:
        decode(text)
    except ValueError as told:
        return str(told)
    return ""


@pytest.mark.parametrize("length", [1 << 30, 1 << 39])
def test_a_short_text_that_maps_much_memory_takes_none_of_this_computer(length):
    machine = Machine()
    p = machine.process("p")
    address = p.memory.map(length)
    p.memory.write(address + length - 3, b"end")
    child = p.fork("child")
    text = encode(machine)
    tracemalloc.start()
    again, _ = decode(text)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    for process in (again.processes["child"], child):
        assert process.memory.read(address + length - 5, 5) == b"\0\0end"


def test_more_than_ten_thousand_things_are_not_done_again():
    data = content(encode(bound()[0]))
    with pytest.raises(ValueError, match="10,001 things are done"):
        decode(packed([*data[:2], [["s", [1, []]]] * 10_001, 0]))


def test_what_a_call_costs_that_has_not_begun_does_not_depend_on_how_many_there_are():
    def asked(number: int) -> int:
        machine = Machine()
        p = machine.process("p")
        for _ in range(number):
            p.start("eventfd", run=False)
        data = content(encode(machine))
        profile = cProfile.Profile()
        profile.runcall(decode, packed(data))
        return sum(entry.callcount for entry in profile.getstats())

    few, many = asked(100), asked(400)
    assert many < 4 * few


def test_a_line_of_a_puzzle_with_more_effects_than_any_run_is_refused():
    with pytest.raises(ValueError, match="no run of a puzzle has more than 100,000 effects"):
        replay(f"R1: {'A99999 ' * 1000}")


# ---- puzzles


def test_a_puzzle_is_replayed_from_a_line_that_can_be_read():
    shown = replay("R1 without group_lock: A20 B18 A1@7")
    assert shown.step == 7
    assert len(shown.trace.micro) == 39
    assert any(PUZZLES["R1"].happens in what for what in shown.machine.check())
    assert replay(shown.trace.replay).machine.trace.end == shown.machine.trace.end


def test_a_name_that_no_call_came_by_is_told():
    assert "no call used 'group_luck'" in str(replay("R1 without group_luck: A20"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("R99: A1", "no puzzle 'R99'"),
        ("R1: C1", "'C1' is not a thread"),
        ("R1: A", "'A' is not a thread"),
        ("R1: A9999", "A cannot go on"),
        ("R1: A20 B40", "B cannot go on"),
        ("R1 faulty: A1", "no functions that are faulty"),
        ("R1: A3@9", "no step 9"),
        ("R1 without group_luck: A20 B18 A1", "never use 'group_luck'"),
    ],
)
def test_what_is_wrong_with_the_line_of_a_puzzle_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        replay(text)


def recording(step):
    scenario = {"name": "one", "steps": [step], "result": {"steps": [{}]}}
    return {"profile": "small", "topology": {}, "probe0": {}, "scenarios": [scenario]}


@pytest.mark.parametrize("part", ["scenarios", "topology", "steps", "path"])
def test_a_recording_without_one_of_its_parts_is_refused_in_one_sentence(tmp_path, part):
    step = {"call": "open", "path": NODE}
    broken = {
        "scenarios": recording(step) | {"scenarios": []},
        "topology": recording(step) | {"topology": None},
        "steps": recording(3),
        "path": recording(step | {"path": None}),
    }[part]
    (tmp_path / "run.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"run\.json is "):
        replay(str(tmp_path / "run.json"))


def test_a_call_that_is_not_modelled_is_refused_in_a_recording_and_fails_again_in_a_text(tmp_path):
    step = {"call": "open", "path": "/etc/passwd"}
    for made, told in (
        (recording(step), "opening '/etc/passwd'"),
        (recording(step) | {"profile": "a toaster"}, "the profile a toaster"),
    ):
        (tmp_path / "run.json").write_text(json.dumps(made))
        with pytest.raises(ValueError, match=f"cannot be done again: {told} is not modelled"):
            replay(str(tmp_path / "run.json"))
    m = Machine()
    with pytest.raises(Unsupported):
        m.process("vmm").open("/etc/passwd")
    assert "opening '/etc/passwd' is not modelled" in str(replay(m.trace.replay))


def test_a_call_that_waits_for_ever_is_shared():
    m, _ = bound()
    with pytest.raises(Blocked):
        m.process("root").write_file("/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")
    assert same(m)
