"""The sheet with the whole map: all kinds, their fields and locks, and who holds whom, as the model itself declares them."""

from __future__ import annotations

import re

import pytest

from vfiosim.cli import main
from vfiosim.engine.kinds import classes
from vfiosim.machine import Machine
from vfiosim.poster import HIGH, MARKS, WIDE, PosterLine, PosterRow, _sides, counted, kinds, lines, runs


@pytest.fixture(scope="module")
def found():
    return kinds()


@pytest.fixture(scope="module")
def holds():
    return counted([*runs()])


def test_every_kind_of_which_a_machine_has_an_object_is_on_the_sheet_with_all_its_cells(found):
    for thing in Machine().engine.objects.values():
        if "selftest" not in type(thing).__module__ and [*thing.cells()]:
            assert {cell.name for cell in thing.cells()} <= {row.name for row in found[thing.kind].rows}


def test_each_class_that_declares_cells_has_a_box_but_those_of_the_kernels_own_test_device(found):
    declared = {one.kind for one in classes() if ".kernel." in one.__module__ and one._plans}
    tested = {one.kind for one in classes() if "selftest" in one.__module__}
    assert declared - tested == {*found} - {"slot", "kvm_vcpu"}  # these two have only what they lead to


def test_what_a_lock_guards_stands_below_it(found):
    names = [row.name for row in found["vfio_group"].rows]
    first = names.index("group_lock")
    assert "opened_file" in names[first + 1 : names.index("device_lock")]
    assert found["vfio_group"].rows[first].mark == MARKS[next(kind for kind in MARKS if kind.__name__ == "Lock")]


def test_a_pointer_tells_where_it_leads_to(found):
    assert PosterRow("kvm", "", "dev_set.lock", "", ("kvm",)) in found["vfio_device"].rows


def test_each_counted_reference_of_a_run_is_an_arrow_that_ends_at_its_counter(found, holds):
    drawn = {
        (line.start.split(":")[0], *line.end.split(":")[:2]) for line in lines(found, holds) if line.sort == "counted"
    }
    assert ("vfio_device", "kvm", "users_count") in holds
    assert drawn == {one for one in holds if one[0] in found and one[1] in found and one[0] != one[1]}


def test_an_arrow_goes_from_and_to_the_sides_that_face_each_other_so_that_it_crosses_no_box_of_its_own():
    places = {"left": (5.0, 0.0, 0.0), "below": (9.0, 50.0, 0.0), "right": (95.0, 0.0, 90.0)}
    assert _sides(PosterLine("left:kvm>:e", "right:count:w", ""), places) == ("left:kvm>:e", "right:count:w")
    assert _sides(PosterLine("right:kvm>:e", "left:count:w", ""), places) == ("right:kvm:w", "left:count>:e")
    assert _sides(PosterLine("left:title:e", "below:count:w", ""), places) == ("left:title:w", "below:count:w")


def test_the_command_writes_the_sheet_as_svg_and_as_pdf(tmp_path, found, capsys):
    assert main(["poster", str(tmp_path)]) == 0
    svg = (tmp_path / "poster.svg").read_text("utf-8")
    letters = float(re.findall(r"scale\(([\d.]+)", svg)[0]) * min(map(float, re.findall(r'font-size="([\d.]+)"', svg)))
    assert letters >= 6  # points, on paper
    assert all(f">{name}</text>" in svg for name in found)
    pdf = (tmp_path / "poster.pdf").read_bytes()
    width, height = map(int, re.findall(rb"/MediaBox \[ 0 0 (\d+) (\d+) \]", pdf)[0])
    assert WIDE - 1 <= width <= WIDE + 1
    assert height <= HIGH + 1
    assert capsys.readouterr().out.split() == [str(tmp_path / "poster.svg"), str(tmp_path / "poster.pdf")]
