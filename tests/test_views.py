"""What the pictures and texts show, as claims; how the player behaves in a browser is told in test_player.py."""

from __future__ import annotations

import builtins
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.good_calls import in_container, type1_map
from tests.players import LAST, ONLY, busy
from tests.toys import HOSTILE, Door, House, hold, kill, make_key, open_door, point_at
from tests.traces import bind, keys
from vfiosim import Machine, uapi
from vfiosim.lessons import who_holds_whom
from vfiosim.trace import Trace
from vfiosim.views import graph, show, state_text, steps_text, svg_at

SVG = "{http://www.w3.org/2000/svg}"


def parts(svg: str) -> dict[str, ET.Element]:
    """The pieces of a picture by their key."""
    return {part.attrib["data-key"]: part for part in ET.fromstring(svg).iter() if "data-key" in part.attrib}


def words(part: ET.Element) -> set[str]:
    return set(part.attrib["class"].split())


def node(svg: str, oid: str) -> ET.Element:
    [found] = [part for part in parts(svg).values() if part.attrib.get("data-oid") == oid]
    return found


def arrows(svg: str) -> dict[str, str]:
    """The arrows that are to be seen, from row to row, and the mark of each; a "~" is for one that is not counted."""
    known = parts(svg)
    named = {key: part.attrib["data-oid"] for key, part in known.items() if "data-oid" in part.attrib}
    cells = {key: part.findtext(f"{SVG}text") for key, part in known.items() if "row" in words(part)}
    found = {}
    for part in known.values():
        if "edge" in words(part) and "off" not in words(part):
            data = {name: part.attrib[f"data-{name}"] for name in ("from", "row", "to", "into")}
            ends = [
                f"{named[data[end]]}{f'.{cells[data[row]]}' if data[row] else ''}"
                for end, row in (("from", "row"), ("to", "into"))
            ]
            sign = "→" if "counted" in words(part) else "~>"
            found[f" {sign} ".join(ends)] = " ".join(words(part) & {"new", "gone", "changed"})
    return found


def row(svg: str, oid: str, cell: str) -> str:
    for group in node(svg, oid).findall(f"{SVG}g"):
        name, value = group.findall(f"{SVG}text")[:2]
        if (name.text or "") == cell:
            return value.text or ""
    raise KeyError(cell)


# ---- the picture


def test_what_is_born_carries_a_plus_and_what_goes_a_minus() -> None:
    trace = keys()
    made, lost = svg_at(trace, 2), svg_at(trace, 4)
    assert "new" in words(node(made, "key 1"))
    assert [text.text for text in node(made, "key 1").findall(f"{SVG}text")][-1] == "+"
    assert arrows(made) == {"key 1.opens it → door front.users": "new"}
    assert "gone" in words(node(lost, "key 1"))
    assert [text.text for text in node(lost, "key 1").findall(f"{SVG}text")][-1] == "−"
    assert arrows(lost) == {
        "key 1.opens it → door front.users": "gone",
        "person ann.keys[1] → key 1.held": "gone",
    }


def test_a_counter_that_changes_shows_both_numbers() -> None:
    trace = keys()
    assert row(svg_at(trace, 2), "door front", "users") == "0→1"
    assert row(svg_at(trace, 3), "door front", "users") == "1"
    assert row(svg_at(trace, 4), "door front", "users") == "1→0"


def test_before_the_first_step_nothing_is_marked_and_nothing_to_come_is_shown() -> None:
    svg = svg_at(keys(), 0)
    assert not any(words(part) & {"new", "gone", "changed"} for part in parts(svg).values())
    assert words(node(svg, "key 1")) & {"off"}
    assert arrows(svg) == {}


def test_nothing_moves_from_step_to_step() -> None:
    trace = bind()
    places = set()
    for step in range(len(trace) + 1):
        numbers = [
            tuple(
                (name, part.attrib[name])
                for name in ("x", "y", "width", "height", "d", "points")
                if name in part.attrib
            )
            for part in ET.fromstring(svg_at(trace, step)).iter()
        ]
        places.add(tuple(numbers))
    assert len(places) == 1


def test_a_bind_fits_on_a_projector() -> None:
    shown = graph(bind())
    assert 8 <= len(shown.nodes) <= 20
    assert {"vfio_device", "vfio_device_file", "iommufd_device", "iommufd_ctx", "iommu_group"} <= {
        part.partition(" ")[0] for one in shown.nodes for part in one.parts
    }
    assert not {"cdev", "mm_struct"} & {one.kind for one in shown.nodes}


def test_idle_objects_hidden_kinds_and_a_choice_of_objects() -> None:
    trace = bind()
    assert len(graph(trace, idle=True).nodes) > len(graph(trace).nodes)
    assert "cdev" in {one.kind for one in graph(trace, idle=True, hide=()).nodes}
    assert {one.oid for one in graph(trace, hide={"fds", "thread", "file *"}).nodes}.isdisjoint(
        {"fds vmm", "file iommu#1"}
    )
    assert {one.kind for one in graph(trace, only={"file", "fds"}, read=()).nodes} == {"file", "fds"}
    assert {one.kind for one in graph(trace, only={"fds"}, read=[5]).nodes} == {"fds", "vfio_group"}  # as it is told of


def test_two_references_of_one_holder_are_two_rows_with_an_arrow_each() -> None:
    house = House()
    house.run(hold(house.door.users, house.person, "left hand"))
    house.run(hold(house.door.users, house.person, "right hand"))
    assert arrows(svg_at(house.trace)) == {
        "person ann.left hand → door front.users": "",
        "person ann.right hand → door front.users": "new",
    }


def test_an_arrow_leaves_from_the_field_of_the_kernel_that_points_there() -> None:
    shown = arrows(svg_at(bind()))
    assert {
        "fds vmm.3 → file vfio0#1.f_ref",
        "file vfio0#1.device → vfio_device vfio0.refcount",
        "file vfio0#1.iommufd → file iommu#1.f_ref",
        "file iommu#1.objects[1] → iommufd_device 1.users",
        "file iommu#1.objects[1] → iommufd_device 1.wait_cnt",
        "iommufd_device 1.ictx → file iommu#1.f_ref",
        "iommufd_device 1.igroup → iommufd_group 1.ref",
        "vfio_device vfio0.iommufd_device → iommufd_device 1.users",
        "vfio_device vfio0.dev_set → vfio_device_set vfio0.device_count",
        "iommu_group 1.owner ~> file iommu#1",
    } <= {*shown}


def test_a_struct_and_what_it_owns_are_one_box() -> None:
    boxes = {one.oid: one.parts for one in graph(bind()).nodes}
    assert boxes["file vfio0#1"] == ("file vfio0#1", "vfio_device_file 1")
    assert boxes["file iommu#1"] == ("file iommu#1", "iommufd_ctx 1")
    assert boxes["vfio_device vfio0"] == ("vfio_device vfio0", "vfio_pci_core_device vfio0")


def test_a_running_call_shows_its_argument_what_it_checks_its_lock_and_its_result() -> None:
    trace = bind()
    told = [row(svg_at(trace, 7), "thread vmm", cell) for cell in ("argsz", "flags", "iommufd", "holds", "check")]
    assert told == ["24", "0", "4", "lock", "✓ not_bound_yet +1"]
    assert row(svg_at(trace, 16), "thread vmm", "out_devid") == "0→1"
    assert row(svg_at(trace), "thread vmm", "result") == "0"


def test_a_check_is_told_beside_the_sentence_of_the_step_that_makes_it_and_no_other() -> None:
    trace = bind()
    drawn = graph(trace)
    [key] = [row.key for node in drawn.nodes for row in node.rows if node.kind == "thread" and row.cell == "check"]
    told = [drawn.frame(at).get(key, "").partition(" +")[0] for at in drawn.at_step]
    made = [
        re.findall(r"refuse_if \[(\w+)", "".join(one.text for one in trace.micro_of(at))) for at in range(len(trace))
    ]
    assert told == ["".join(f"✓ {name}" for name in names[:1]) for names in made]


def test_a_call_has_no_row_of_another_one_for_which_a_place_is_kept() -> None:
    bench = who_holds_whom.holders()  # it keeps a place for what a bind brings up
    bench.buttons["close"].click()
    drawn = bench.trace_pane.player.player.graph
    call = next(one for one in drawn.nodes if one.oid == "thread vmm")
    assert {row.cell for row in call.rows} <= {"file", "holds", "check", "result"}
    assert {key for key in (row.key for row in call.rows) if not any(key in frame for frame in drawn.changes)} == set()


def test_no_call_has_gaps_where_another_one_has_rows_and_each_is_as_high_as_what_it_shows() -> None:
    machine = Machine()
    p = machine.process("vmm")
    device, iommufd = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(argsz=24, iommufd=iommufd))
    p.ioctl(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc(size=12))
    p.close(device)
    trace = machine.trace
    call = next(one for one in graph(trace).nodes if one.oid == "thread vmm")
    for name in {name for line in call.rows for name in line.calls}:
        mine = [line for one, line in zip(call.rows, call.lines, strict=True) if not one.calls or name in one.calls]
        assert mine == [*range(len(mine))]
    boxes = [node(svg_at(trace, step), "thread vmm").findall(f"{SVG}rect")[0] for step in (12, len(trace) - 1)]
    assert boxes[0].attrib["height"] != boxes[1].attrib["height"]


def test_what_a_check_has_looked_at_is_lit_up() -> None:
    svg = svg_at(bind(), 7)
    lit = {part.findtext(f"{SVG}text") for part in parts(svg).values() if {"read", "row"} <= words(part)}
    assert lit == {"access_granted", "vf_token"}


def test_a_counter_tells_which_of_its_holders_are_not_drawn() -> None:
    svg = svg_at(bind())
    stubs = {"".join(part.itertext()) for part in parts(svg).values() if "stub" in words(part)}
    assert "+1: driver vfio-pci (registered)+1" in stubs


def test_a_waiting_thread_points_at_the_one_that_has_the_lock() -> None:
    house = House()
    ann, bob = house.start(open_door(house.door), "ann"), house.start(open_door(house.door), "bob")
    for _ in range(4):
        house.engine.step(ann)
    for thread in (bob, ann, bob):
        house.engine.run(thread)
    waits = next(step.index for step in house.trace if step.waits)
    svg = svg_at(house.trace, waits + 1)
    assert {"thread bob.waits for ~> door front.lock", "door front.lock ~> thread ann"} <= {*arrows(svg)}
    assert {"thread ann", "thread bob"} <= {part.attrib.get("data-oid") for part in parts(svg).values()}
    assert row(svg, "door front", "lock") == "ann"
    assert arrows(svg_at(house.trace)) == {}


def test_calls_that_take_turns_share_one_node() -> None:
    house = House()
    for name in ("ann:1", "ann:2"):
        thread = house.start(make_key(house.person, house.door), name)
        house.engine.step(thread)
        house.run(hold(house.door.users, thread, "touches it"), "helper")
        house.engine.run(thread)
    threads = [part.attrib["data-oid"] for part in parts(svg_at(house.trace)).values() if "data-oid" in part.attrib]
    assert [oid for oid in threads if oid.startswith("thread ")] == ["thread ann", "thread helper"]


def test_an_object_that_was_freed_stays_in_the_picture_while_somebody_points_at_it() -> None:
    house = House()
    back = Door(house.engine, "back")
    house.engine.objects[back.oid] = back
    house.run(point_at(house.door, back))
    house.run(kill(back))
    house.run(open_door(house.door))
    svg = svg_at(house.trace)
    assert "freed" in words(node(svg, "door back"))
    assert arrows(svg) == {"door front.owner ~> door back": ""}


def test_every_kind_of_text_stays_text() -> None:
    house = House()
    hostile = Door(house.engine, HOSTILE)
    house.engine.objects[hostile.oid] = hostile
    house.run(hold(hostile.users, house.person, HOSTILE))
    house.run(point_at(house.door, hostile))
    svg = svg_at(house.trace)
    assert "<script" not in svg
    [shown] = [name for name, mark in arrows(svg_at(house.trace, 1)).items() if mark == "new"]
    assert shown.startswith(f"person ann.{HOSTILE[:20]}")  # the name of the row, cut
    told = list(node(svg, hostile.oid).itertext())
    assert told[0] == f"door {HOSTILE}"  # what a mouse is told
    assert told[1:3] == ["door", f"{HOSTILE[:24]}…"]  # and the title, whose long name has its own line, cut


def test_no_text_makes_a_column_much_wider_for_all_pictures_of_a_notebook() -> None:
    house = House()
    long = Door(house.engine, "x" * 500)
    house.engine.objects[long.oid] = long
    house.run(hold(long.users, house.person, "y" * 500))
    player = show(house.trace)
    assert player.layout is not None
    usual = show(bind()).layout
    assert usual is not None
    assert max(spot.width for spot in player.layout.nodes.values()) < 1.3 * max(
        one.width for one in usual.nodes.values()
    )
    assert show(house.trace).html().count("<script") == 1  # the player's own


def test_the_picture_can_be_read_aloud() -> None:
    svg = ET.fromstring(svg_at(bind(), 5))
    title, description = svg[0], svg[1]
    assert svg.attrib["role"] == "img"
    assert (svg.attrib["aria-labelledby"], svg.attrib["aria-describedby"]) == (
        title.attrib["id"],
        description.attrib["id"],
    )
    assert description.text == bind()[4].sentence


def test_a_player_of_forty_boxes_adds_at_most_130_kib_to_a_page() -> None:
    assert len(show(busy()[-LAST:], only=ONLY).html().encode()) <= 130 * 1024


def test_two_pictures_on_one_page_share_no_id() -> None:
    player = show(keys())
    first, second = (set(re.findall(r' id="([^"]+)"', player.html() + player.svg())) for _ in range(2))
    assert first
    assert first.isdisjoint(second)


def test_a_step_that_is_not_there_is_told() -> None:
    with pytest.raises(IndexError, match="there is no step 9; this trace has 4, and 0 is before the first"):
        svg_at(keys(), 9)
    assert show(keys(), step=-1).step == 4


def test_a_trace_in_which_nothing_happens_can_be_shown() -> None:
    house = House()
    assert str(show(house.trace)) == "Nothing has happened here."
    assert "door" in show(house.trace).svg()
    house.engine.objects.clear()
    nothing = show(Trace.of(house.engine))
    assert set(nothing._repr_mimebundle_()) == {"text/html", "text/plain"}


# ---- what a notebook gets


def test_a_notebook_gets_a_player_a_picture_and_text() -> None:
    trace = keys()
    bundle = show(trace)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle["text/plain"] == steps_text(trace)
    assert "gone" in words(node(bundle["image/svg+xml"], "key 1"))  # the last moment
    assert "http" not in bundle["text/html"].replace("http://www.w3.org/2000/svg", "")  # nothing to be fetched


def test_where_widgets_cannot_be_shown_the_live_player_leaves_a_picture_and_text() -> None:
    from vfiosim.views import live

    trace = keys()
    view = live(trace[:3])
    view.update(trace)
    bundle = view._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "gone" in words(node(data["image/svg+xml"], "key 1"))
    assert data["text/plain"] == steps_text(trace)
    assert view.step == 4


def without_graphviz(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    real = builtins.__import__

    def importing(name: str, *args: Any, **named: Any) -> Any:
        if name in missing:
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize("missing", [("pygraphviz",), ("pygraphviz", "graphviz")])
def test_without_graphviz_pictures_have_the_same_boxes_and_arrows(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    drawn = svg_at(bind(), len(bind()))
    without_graphviz(monkeypatch, *missing)
    plain = svg_at(bind(), len(bind()))
    assert plain != drawn
    assert set(parts(plain)) == set(parts(drawn))


def test_a_dot_program_serves_where_pygraphviz_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text(
        f"#!{sys.executable}\nimport pygraphviz, sys\n"
        "graph = pygraphviz.AGraph(string=sys.stdin.read())\n"
        "assert sys.argv[1:] == ['-Kdot', '-Tjson0'], sys.argv\n"
        "sys.stdout.buffer.write(graph.draw(format='json0', prog='dot'))\n"
    )
    program.chmod(0o755)
    drawn = svg_at(keys(), 2)
    without_graphviz(monkeypatch, "pygraphviz")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert set(parts(svg_at(keys(), 2))) == set(parts(drawn))


# ---- text


def test_the_steps_as_text_have_number_phase_thread_sentence_and_changes() -> None:
    house = House()
    house.run(open_door(house.door))
    house.run(open_door(house.door))
    lines = [re.sub(" +", " ", line).strip() for line in steps_text(house.trace).splitlines()]
    assert "3 validate ann Nobody may be inside." in lines
    assert "4 publish ann The door is open." in lines
    assert "8 ✕ validate ann#2 Refused with EBUSY: somebody is inside." in lines
    assert "door front.opened: 0 → 1" in lines


def test_a_state_as_text_is_a_tree_from_its_roots() -> None:
    house = House()
    house.run(make_key(house.person, house.door))
    house.run(point_at(house.door, house.person))
    assert state_text(house.trace.end).splitlines() == [
        "person ann",
        "    ──key 1──> key 1  [held 1]",
        "        ──opens it──> door front  [users 1]",
        "            ··owner··> person ann",
        "        ──owns──> tag 1",
    ]


def test_a_state_as_text_tells_what_nobody_holds_and_rings() -> None:
    house = House()
    back = Door(house.engine, "back")
    house.engine.objects[back.oid] = back
    house.run(hold(back.users, house.door, "leads to it"))
    house.run(hold(house.door.users, back, "leads to it"))
    text = state_text(house.trace.end)
    assert "door front  [users 1]" in text
    assert "door front (see above)" in text


def lines_run(draw: Callable[[Trace], object], trace: Trace) -> int:
    """How many lines of the views it takes to draw a trace, each round of a loop as one."""
    found = 0

    def line(_frame: FrameType, event: str, _: object) -> Any:
        nonlocal found
        found += event == "line"
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: line if "vfiosim/views/" in frame.f_code.co_filename else None)
    try:
        draw(trace)
    finally:
        sys.settrace(before)
    return found


def mapped(times: int) -> Trace:
    """A program maps memory for a device, and takes it back, so many times: each mapping is an object of its own."""
    machine, p, _, container = in_container()
    wanted = type1_map(p)
    for _ in range(times):
        p.ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, wanted)
        undone = uapi.VfioIommuType1DmaUnmap(argsz=24, iova=wanted.iova, size=wanted.size)
        p.ioctl(container, uapi.VFIO_IOMMU_UNMAP_DMA, undone)
    return machine.trace


def test_the_frames_of_a_run_that_is_twice_as_long_take_no_more_than_twice_the_work() -> None:
    few, more, most = (lines_run(graph, mapped(times)) for times in (3, 6, 12))
    assert most - more <= 2.1 * (more - few)  # of the differences, so that what each picture costs once is not in it
