"""The laws of the picture, over all that a reader gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest

from tests import pictures
from tests.pictures import HIGH, WIDE, Picture
from tests.searches import broken as broken_puzzle
from tests.searches import each_puzzle
from tests.turns import by_night
from vfiosim import Machine, uapi
from vfiosim.lab.counterexample import Counterexample
from vfiosim.lab.trace_pane import NOTEBOOK
from vfiosim.lessons import one_bind, start
from vfiosim.museum import ROOMS
from vfiosim.views import Player

TOGETHER = pytest.mark.xdist_group("pictures")
SOURCES = [pictures.of_benches, pictures.of_questions, pictures.of_tasks, pictures.of_museum]
# Each begins with another preset; in the last four, boxes that grew once lay on each other, or too near for an arrow.
BY_DAY = (1, 44, 51, 58, 102)
SEEDS = [pytest.param(seed, marks=by_night(seed not in BY_DAY)) for seed in range(200)]
EVERY_PICTURE = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__.removeprefix("of_"))
LAWS = (
    pictures.miscounted,
    pictures.crossing,
    pictures.overlapping,
    pictures.misplaced,
    pictures.unseen,
    pictures.unreadable,
    pictures.misnumbered,
    pictures.unalarmed,
)


def broken(source: Iterable[Picture], law: Callable[..., Iterator[str]]) -> list[str]:
    """What breaks a law, and in which picture; at least a few have to be looked at."""
    seen = [(name, said) for name, player in source for said in (["", *law(player)] if player.layout else [])]
    assert sum(not said for _, said in seen) > 5
    return [f"{name}: {said}" for name, said in seen if said]


@TOGETHER
@EVERY_PICTURE
def test_a_counter_shows_as_many_references_as_arrows_end_in_it_and_its_stub_tells(source):
    assert broken(source(), pictures.miscounted) == []


@TOGETHER
@EVERY_PICTURE
def test_no_arrow_goes_through_a_box_in_which_it_does_not_end_and_no_two_boxes_overlap(source):
    assert broken(source(), pictures.crossing) == []
    assert broken(source(), pictures.overlapping) == []


@TOGETHER
@EVERY_PICTURE
def test_no_name_is_cut_each_text_fits_into_its_box_and_a_table_has_a_row_for_each_descriptor(source):
    assert broken(source(), pictures.unreadable) == []


@TOGETHER
@EVERY_PICTURE
def test_what_a_sentence_names_is_in_the_picture_beside_it(source):
    assert broken(source(), pictures.unseen) == []


@TOGETHER
@EVERY_PICTURE
def test_an_index_is_the_id_of_its_object_and_what_is_said_to_be_wrong_is_red(source):
    assert broken(source(), pictures.misnumbered) == []
    assert broken(source(), pictures.unalarmed) == []


@TOGETHER
@EVERY_PICTURE
def test_a_kind_has_its_column_and_columns_stand_side_by_side(source):
    assert broken(source(), pictures.misplaced) == []


@each_puzzle()
def test_the_laws_hold_on_the_way_into_each_puzzle(puzzle):
    ((_, player),) = pictures.of_puzzles([puzzle.name])
    assert [said for law in LAWS for said in law(player)] == []


@each_puzzle()
def test_the_way_into_each_puzzle_can_be_read_on_a_small_screen(puzzle):
    found = broken_puzzle(puzzle.name, 0).counterexample
    assert found is not None
    NOTEBOOK.place(Player(found.trace).graph)  # whatever else the notebook has shown
    layout = Counterexample(found).trace_pane.player.player.layout
    assert layout.width <= WIDE
    assert layout.height - layout.top <= HIGH


@pytest.mark.parametrize("room", ROOMS.values(), ids=[*ROOMS])
def test_the_way_into_each_bug_of_the_museum_can_be_read_on_a_small_screen(room):
    layout = Counterexample(room.trace).trace_pane.player.player.layout
    assert layout.width <= WIDE
    assert layout.height - layout.top <= HIGH


def test_where_a_check_refuses_it_is_shown_on_what_it_rests():
    bench = one_bind.bind()
    bench.buttons["GET_INFO"].click()
    graph = bench.trace_pane.player.player.graph
    [step] = [step for step in bench.trace_pane.trace if step.refused]
    before, after = graph.at_step[step.index - 1], graph.at_step[step.index]
    rows = {row.key: row.cell for node in graph.nodes for row in node.rows}
    assert "access_granted" in {rows.get(key) for key in graph.read(before, after)}


def test_a_descriptor_has_a_row_only_while_a_file_is_behind_it():
    bench = start.keep_it().bench
    seen: list[set[str]] = []
    for press in ("", "dup", "close"):
        if press:
            bench.fd.text.value = "3"
            bench.buttons[press].click()
        player = bench.trace_pane.player.player
        [table] = [node for node in player.graph.nodes if node.kind == "fds"]
        shown = player.frame(len(player.trace))
        seen.append({row.cell for row in table.rows if shown.get(row.key)})
    assert seen == [{"3", "4"}, {"3", "4", "5"}, {"4", "5"}]


def test_each_descriptor_tells_which_file_it_holds():
    player = start.first_bind().trace_pane.player.player
    [table] = [node for node in player.graph.nodes if node.kind == "fds"]
    told = {row.cell: player.frame(player.step)[row.key] for row in table.rows}
    assert told == {"3": "file vfio0#1", "4": "file iommu#1"}
    assert all(f">{text}</text>" in player.svg() for text in told.values())


def test_what_is_mapped_and_unmapped_again_and_again_stands_on_one_screen():
    machine = Machine()
    vmm = machine.process("vmm")
    iommu = vmm.open("/dev/iommu")
    vmm.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, space := uapi.IommuIoasAlloc())
    mapped = {"ioas_id": space.out_ioas_id, "length": 4096, "iova": 0x10000}
    memory = vmm.mmap(4096)
    for _ in range(16):
        vmm.ioctl(iommu, uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap(flags=7, user_va=memory, **mapped))
        vmm.ioctl(iommu, uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap(**mapped))
    player = Player(machine.trace)
    layout = player.layout
    assert layout is not None
    assert len(player.graph.nodes) > 32
    assert layout.height - layout.top <= HIGH
    assert [*pictures.overlapping(player), *pictures.outside(player)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_laws_hold_in_a_sandbox_in_which_anything_is_pressed(seed):
    for name, player in pictures.of_sandbox(seed):
        for law in (*LAWS, pictures.outside):
            assert list(law(player)) == [], name


@TOGETHER
def test_every_step_of_the_first_two_lessons_shows_something():
    seen = [*pictures.of_benches(), *pictures.of_questions(), *pictures.of_tasks()]
    of_both = [(name, player) for name, player in seen if name.startswith(("00", "01"))]
    assert len(of_both) > 40
    assert broken(of_both, pictures.unmoved) == []


def test_the_first_walk_has_eight_steps_and_each_of_them_moves_something():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    player = bench.trace_pane.player.player
    stops = player.data()["stops"]
    assert len(stops) == 8
    frames = [0, *(player.graph.at_step[stop - 1] for stop in stops)]
    for before, after in pairwise(frames):
        assert player.graph.frame(before) != player.graph.frame(after)


@TOGETHER
@pytest.mark.parametrize("lesson", ["00", "01", "02"])
def test_in_all_cells_of_a_notebook_an_object_stands_in_the_same_place(lesson):
    NOTEBOOK.forget()
    stood: dict[str, tuple[float, float]] = {}
    for name, player in pictures.of_benches():
        if name.startswith(lesson):
            for node in player.graph.nodes:
                assert player.layout is not None
                spot = player.layout.nodes[node.key]
                assert stood.setdefault(node.oid, (spot.left, spot.top)) == (spot.left, spot.top), (name, node.oid)
    assert len(stood) > 8


def test_of_two_arrows_within_a_column_that_lie_one_in_the_other_none_crosses_the_other():
    """As of a device that holds its VM, and what stands for it in its iommufd."""
    bench = one_bind.kvm()
    for press in ("create VM", "create kvm-vfio", "FILE ADD", "bind"):
        bench.buttons[press].click()
    layout = bench.trace_pane.player.player.layout
    within = [curve for curve in layout.edges.values() if curve[0][0] == curve[-1][0]]
    spans = [(curve[0][0], *sorted((curve[0][1], curve[-1][1])), abs(curve[1][0] - curve[0][0])) for curve in within]
    nested = [
        (a, b) for a in spans for b in spans if a[0] == b[0] and a[1] <= b[1] and b[2] <= a[2] and a[1:3] != b[1:3]
    ]
    assert nested
    assert [(a, b) for a, b in nested if a[3] <= b[3]] == []


def test_an_arrow_within_a_column_goes_out_on_the_side_where_fewer_others_end_between_its_ends():
    bench = one_bind.kvm()
    for press in ("create VM", "create kvm-vfio", "FILE ADD"):
        bench.buttons[press].click()
    player = bench.trace_pane.player.player
    names = {node.key: node.oid for node in player.graph.nodes}
    [listed] = [
        player.layout.edges[edge.key]
        for edge in player.graph.edges
        if (names[edge.holder], names[edge.target]) == ("file kvm-vfio#1", "file vfio0#1")
    ]
    assert listed[1][0] < listed[0][0]
