"""The lesson about real bugs: its claims, its own solutions, and typical wrong answers, through what a reader can press."""

from __future__ import annotations

import re

import pytest

from tests.cells import cells
from tests.conftest import ROOT
from tests.lesson_claims import answered
from vfiosim import engine
from vfiosim.lab import Exercise
from vfiosim.lab.record import progress
from vfiosim.lab.style import anchor, words
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import museum as lesson
from vfiosim.lessons.museum_hints import HINTS
from vfiosim.lessons.museum_questions import CHECK, QUESTIONS
from vfiosim.museum import ROOMS

TEXT = "\n".join(cells(ROOT / "notebooks" / "11_museum.ipynb", "markdown"))
RIGHT = {
    "itself": "ever",
    "the ring": (
        *(
            "file vfio0#1",
            "vfio_device_file 1",
            "file iommu#1",
            "iommufd_ctx 1",
            "iommufd_ioas 2",
            "iopt_area 1",
            "iopt_pages 1",
        ),
        *("vfio_device vfio0", "iommufd_device 1"),
    ),
    "first patch": "iommufd",
    "what it takes": ("one VM", "after"),
    "luck": "all",
    "11 check: a refused move": "nothing",
    "11 check: who waits": "itself",
    "11 check: the old token": "EACCES",
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_answers_are_those_that_the_explanations_give(name):
    asked = {**QUESTIONS, **{question.name: question for question in CHECK}}
    assert asked[name].tidy(asked[name].experiment().answer) == RIGHT[name]


def test_who_believes_that_the_end_of_a_program_frees_the_card_is_shown_the_map_that_holds_it():
    prediction = answered(QUESTIONS["itself"], "free")
    assert M.BOUND_BY_A_PROGRAM.name in prediction.message
    assert "MAP_FILE" in prediction.stage.trace[0].sentence


def test_all_that_can_be_ticked_for_the_ring_is_drawn_and_the_ring_is_brought_out_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    asked = lesson.predict("the ring")
    assert asked.now is not None
    drawn = {part for node in asked.now.player.player.graph.nodes for part in node.parts}
    assert {*asked.question.choices} <= drawn
    asked.choice.value = ("iommufd_group 1",)
    asked.commit.click()
    assert asked.stage.player.highlight == [*RIGHT["the ring"]]


def test_the_ring_is_told_once_its_question_is_answered():
    told = [line.split("--") for line in lesson.left().splitlines()]
    holders, held = [line[0].strip() for line in told], [line[2].removeprefix(">").strip() for line in told]
    assert held == [*holders[1:], "file vfio0#1"], "each one is held by the one before, and the first one by the last"
    assert "-->" not in lesson.once_answered("the ring", lesson.left()).message


def test_the_notebook_counts_the_rooms_rightly():
    alive = sum(room.alive for room in ROOMS.values())
    words = {6: "Six", 11: "eleven"}
    assert f"{words[alive]} of the {words[len(ROOMS)]} in this museum" in TEXT
    assert set(re.findall(r'lesson\.level\("(.*?)"\)', TEXT)) <= ROOMS.keys()


def test_the_patch_of_the_list_mends_the_second_report():
    assert not lesson.R13.explore(patches=lesson.R13.fixes).violations


# ---- the reproducer


def press(exercise: Exercise, *names: str) -> str:
    for name in names:
        what, _, fd = name.partition(" ")
        if what == "close":
            exercise.bench.fd.text.value = fd
        if what == "bind":
            exercise.bench.bind_fd.text.value = fd
            exercise.bench.struct["iommufd"].set(4)
        exercise.bench.buttons[what if what in ("close", "bind") else name].click()
    exercise.check.click()
    return exercise.message


def test_four_calls_lose_the_vm_of_a_card_in_use():
    assert "✓ Solved. You needed 4 calls; it takes no fewer." in press(
        lesson.exercise(), "open device", "bind 7", "close 5", "close 6"
    )


def test_without_the_refused_bind_the_vm_lives_and_that_is_told():
    assert "wanted: kvm 1 is gone" in press(lesson.exercise(), "close 5", "close 6")


def test_who_closes_the_card_is_told_that_its_binding_has_ended():
    assert M.CLOSING_IS_RELEASING.name in press(lesson.exercise(), "close 3", "close 5", "close 6")


def test_the_second_report_tells_what_every_schedule_ends_with():
    assert "now and then a VM never goes away" in TEXT
    found = lesson.R13.explore()
    assert sum("lives on" in str(one) for one in found.violations) == len(found.outcomes)


def test_the_numbers_of_the_reproducer_lead_where_the_text_says():
    said = re.findall(r"(\d) \((the card|the iommufd|the VM's list|the VM)", TEXT)
    labels = {"the card": "vfio0", "the iommufd": "iommu", "the VM's list": "kvm-vfio", "the VM": "kvm-vm"}
    files = lesson.exercise().bench.session.descriptors()
    assert [what for _, what in said] == [*labels]
    assert all(files[int(fd)].label.startswith(labels[what]) for fd, what in said)


# ---- the rooms


def test_half_the_repair_of_the_lesson_is_refuted_in_the_room_itself():
    room = ROOMS["mapped-into-itself"]
    held = "    async with cleanup(fput, file):\n"
    refuses = '        await refuse_if(file.label.startswith("vfio"), Errno.EINVAL, "no_device", "a device")\n'
    view = lesson.mend()
    view.editor.value = room.source().replace(held, held + refuses)
    view.prove.click()
    assert "the iommufd must go with its last descriptor" in view.message
    assert "The program can still map the iommufd's own file" in view.message


def test_a_proved_repair_gets_a_tick_among_the_levels(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    levels = lesson.RoomIndex()
    assert "0 of 11 mended" in levels.message
    view = lesson.mend()
    view.editor.value = ROOMS["mapped-into-itself"].mended("iopt_map_file_pages")
    view.prove.click()
    assert "1 of 11 mended" in levels.message
    assert "✓ 5 mapped-into-itself" in levels.message


def test_the_table_of_rooms_waits_for_the_quiz_whose_answers_are_its_symptoms(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    levels = lesson.levels()
    assert words(levels.static_html()).startswith("This has the answer to a question above: the quiz .")
    assert all(
        f'<a name="{anchor(name)}">' in levels.shown.value for name in lesson.CALLED
    )  # for the links of `finish()`
    for question in CHECK:
        progress.record(question.name, False)
    assert "attached to nothing" in levels.static_html()


@pytest.mark.parametrize("name", ROOMS)
def test_a_hint_names_only_what_a_repair_of_its_room_can_use(name):
    room = ROOMS[name]
    assert len(HINTS[name]) > 1
    known = "\n".join(
        (*map(room.source, room.to_mend), *map(room.mended, room.to_mend), *engine.__all__, "kvm_ref_lock")
    )
    used = re.findall(r"\w+", " ".join(re.findall(r"<code>(.*?)</code>", re.sub(r"'.*?'", "", " ".join(HINTS[name])))))
    assert {word for word in used if word not in known} == set()


def test_a_search_with_another_call_says_which_there_are():
    with pytest.raises(ValueError, match="there is no call 'open'; there are bind, close card"):
        lesson.search("open")


def test_a_room_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="the museum has no room 'cellar'"):
        lesson.level("cellar")


def test_a_search_without_a_call_is_told_which_calls_there_are():
    with pytest.raises(
        ValueError, match=r"nobody calls anything: .*; there are bind, close card, close list, close VM"
    ):
        lesson.search(A="")
