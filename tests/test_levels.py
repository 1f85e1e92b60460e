"""Levels: each has a shortest way that a search has found, a goal to look at, and words for who goes wrong; and own ones."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest

from tests.cells import code_of
from vfiosim.lab import Exercise, Session
from vfiosim.lab.record import progress
from vfiosim.lab.style import anchor, words
from vfiosim.lessons import level_track as lesson
from vfiosim.lessons.designing import NAME
from vfiosim.lessons.levels import entry, known
from vfiosim.lessons.levels_data import LEVELS
from vfiosim.lessons.moves import FILES, VERBS, play, split
from vfiosim.naming import UnknownNameError

BY_NAME = {level.name: level for level in LEVELS}
GIVEN = eval(
    f"dict{code_of('13_levels').partition('lesson.design')[2].partition('print(')[0].strip()}"
)  # the notebook's
MANY = 25  # situations: a search through more of them is for the night

WRONG = {  # what somebody does who goes wrong there, and the beginning of what is said
    "two files": ("open card, open iommufd, open group", "That is the old way"),
    "the old door": ("open card, open iommufd, BIND", "The group is open. As long as it is"),
    "no way back": ("open card, open iommufd, close iommufd", "The card is not bound"),
    "twice the same": ("close card", "Its other descriptor holds the file"),
    "the helper": ("close card, close iommufd", "The helper has both files open"),
    "one owner": ("BIND audio", "The old iommufd owns the group"),
    "too early": ("FILE_ADD", "The card is bound as before"),
    "alone with the card": ("BIND, close VM, close list", "The VM went with its last descriptor"),
    "four pages": ("BIND, IOAS_ALLOC, MAP", "The memory is mapped, and no page is pinned"),
    "moving house": ("IOAS_ALLOC, ATTACH, DESTROY oldest", "The old address space went"),
    "for the next card": ("close list", "The VM has no list"),
    "while a mapping lives": (
        "FILE_DEL, UNMAP, close card, close card, munmap",
        "The memory was unmapped for the gpu, too",
    ),
}
MORE_WRONG = {
    "no way back": {
        "open card, open iommufd, BIND": "It is bound.",
        "open card, open iommufd, BIND, close iommufd, close card": "A binding lives as long as",
    },
    "twice the same": {"close iommufd": "You closed the iommufd. It does not hold the card"},
    "moving house": {"DETACH": "The card reads no memory now."},
}


def exercise(name: str) -> Exercise:
    return BY_NAME[name].exercise(known()[name]["way"])


def checked(exercise: Exercise, *moves: str) -> str:
    for move in moves:
        exercise.bench.buttons[move].click()
    exercise.check.click()
    return exercise.message


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))


def test_there_are_twelve_levels_and_each_has_a_wrong_way_hints_and_a_reason():
    assert [*BY_NAME] == [*WRONG] == [*known()]
    assert len(LEVELS) == 12
    assert all(level.hints and level.explained and level.wrong for level in LEVELS)


@pytest.mark.parametrize(
    "level",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.nightly] * (known()[one.name]["situations"] > MANY))
        for one in LEVELS
    ],
)
def test_a_search_finds_what_the_file_of_shortest_ways_says(level):
    assert entry(level) == known()[level.name]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_file_of_shortest_ways_was_asked_about_the_level_as_it_is(name):
    level, said = BY_NAME[name], known()[name]
    assert (level.start, level.goal, level.moves) == (said["start"], said["goal"], said["moves"])


PRESSED = [
    name for name, level in BY_NAME.items() if any(hint.startswith("Press") for hint in level.hints.split(" / "))
]
SEVERAL = [name for name, level in BY_NAME.items() if "gpu" in level.text or "audio" in level.text]


@pytest.mark.parametrize("name", PRESSED)
def test_a_hint_that_says_what_to_press_names_all_that_has_to_be_pressed_before(name):
    level = BY_NAME[name]
    for hint in level.hints.split(" / "):
        if hint.startswith("Press"):
            named = [one for one in re.split(r"Press |, | and |: ", hint) if one in split(level.moves)]
            assert named
            play(*named)(Session(start=level.begin))  # raises where nothing can be called


@pytest.mark.parametrize("name", SEVERAL)
def test_a_level_with_several_devices_calls_them_as_its_picture_does(name):
    level = BY_NAME[name]
    drawn = {label for word, (label, _) in FILES.items() if word in ("gpu", "audio") and word in level.text}
    assert all(label in level.text for label in drawn)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_shortest_way_solves_a_level_a_wrong_one_is_told_what_misled_and_no_call_at_all_what_to_do(name):
    way, (wrong, told) = known()[name]["way"], WRONG[name]
    one = exercise(name)
    assert "Make a call first" in checked(one)
    message = checked(one, *split(wrong))
    assert "✕ Not yet." in message
    assert told in message
    for other, what in MORE_WRONG.get(name, {}).items():
        one.again.click()
        assert what in checked(one, *split(other))
    one.again.click()
    assert f"✓ Solved. You needed {len(way)} calls; it takes no fewer." in checked(one, *way)
    assert progress.answers[BY_NAME[name].kept].right


def test_a_detour_is_told_how_many_calls_it_could_have_been():
    message = checked(
        exercise("no way back"), *split("open card, open iommufd, close card, open card, BIND, close iommufd")
    )
    assert "✓ Solved. You needed 6 calls. It can be done with 4." in message


def test_what_is_open_at_the_end_of_the_notebook_leads_to_the_goal_of_that_level_in_the_index_also_on_a_page():
    index = lesson.levels(1, 6)
    places = {anchor(level.kept) for level in index.levels.values()}
    assert {*re.findall('name="(.*?)"', index.static_html())} == places
    assert not re.search('id="vfiosim-13', index.static_html()), "a browser would go there, where nobody sees it"
    assert {
        name for card in index.index.children for name in re.findall('name="(.*?)"', card.children[0].value)
    } == places


def test_the_index_shows_each_goal_as_a_picture_ticks_what_was_solved_and_opens_what_is_pressed():
    index = lesson.levels()
    assert index.message == "0 of 12 levels solved. Press a level."
    assert all("<svg" in picture for picture in index.pictures.values())
    assert index.static_html().count("<figcaption>") == 12
    index.buttons["twice the same"].click()
    assert index.message == "Level 4: twice the same."
    checked(index.exercises["twice the same"], "close card", "close card")
    assert index.buttons["twice the same"].description == "4 twice the same ✓"
    index.next.click()
    assert index.message == "Level 5: the helper."
    index.all.click()
    assert index.message == "1 of 12 levels solved. Press a level."
    index.next.click()  # was on its way
    assert index.message == "Level 1: two files."
    with pytest.raises(UnknownNameError, match="no level 'x'; there are two files, the old door"):
        index.choose("x")


@pytest.mark.parametrize("name", BY_NAME)
def test_the_picture_of_a_goal_has_what_its_facts_speak_of_and_is_small_enough_to_be_read(name):
    level = BY_NAME[name]
    picture = level.thumbnail(known()[name]["way"])
    drawn = set(re.findall(r'data-part="([^"]+)"', picture))
    spoken_of = [
        one for fact in level.facts.facts for one in fact.about if "gone" not in fact.said and "no " not in fact.said
    ]
    assert all(any(fnmatchcase(part, one) for part in drawn) for one in spoken_of)
    (width,) = re.findall(r'<svg[^>]* width="(\d+)"', picture)
    assert int(width) < 850


def test_a_solved_level_keeps_its_machine_when_the_index_is_looked_at_and_the_level_again():
    index = lesson.levels()
    index.choose("twice the same")
    checked(index.exercises["twice the same"], "close card")
    index.choose("")
    index.choose("twice the same")
    assert index.exercises["twice the same"].bench.session.calls_made == 1


# ---- a level of one's own


def test_the_level_of_the_notebook_takes_one_call_and_is_told_that_it_is_short():
    found = lesson.design(**GIVEN)
    assert "can you make it 4 calls long? It takes 1 call, and no fewer" in found.message
    assert NAME not in progress.answers, "whoever has run all cells has designed nothing"


def test_with_the_moves_of_the_notebook_a_search_can_show_that_there_is_no_way():
    own = lesson.design(**{**GIVEN, "goal": "kvm 1 is alive"})
    assert "✕ No level. It cannot be reached" in own.message


def test_a_level_of_four_calls_counts_and_can_be_played():
    own = lesson.design(
        goal="access_granted of vfio_device_file * is 1",
        moves="open card, open iommufd, BIND, open group, close group",
        start="open group",
    )
    assert "✓ A level. It takes 4 calls, and no fewer" in own.message
    assert progress.answers[NAME].right
    assert own.exercise is not None
    assert "✓ Solved." in checked(own.exercise, "close group", "open card", "open iommufd", "BIND")


def test_a_goal_that_cannot_be_reached_is_told_with_the_fact_that_was_never_true():
    own = lesson.design(start="open card", goal="vfio_device_file 1 is gone, kvm 1 is alive", moves="close card")
    assert "✕ No level. It cannot be reached: these moves lead to 2 situations" in own.message
    assert own.message.endswith("In none of them this was true: kvm 1 is alive")
    assert own.exercise is None


def test_facts_that_are_true_apart_and_never_together_are_told_as_that():
    own = lesson.design(start="open card", goal="vfio_device_file 1 is gone, file vfio0#1 is alive", moves="close card")
    assert own.message.endswith("Each fact was true somewhere; never all at once.")


def test_a_search_that_gives_up_says_that_there_may_be_a_longer_way():
    own = lesson.design(goal="kvm 1 is alive", moves="open card")
    assert "found no way. There may be a longer one" in own.message


def test_a_goal_that_is_true_at_the_start_is_no_level():
    assert "nothing to do" in lesson.design(start="open card", goal="file vfio0#1 is alive", moves="close card").message


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"goal": "kvm 1 is gone", "moves": "fly"}, "no move 'fly'; there are open"),
        ({"goal": "kvm 1 is gone", "moves": "open car"}, "no word after 'open': 'car'; there are card"),
        ({"goal": "kvm 1 is gone", "moves": "open"}, "no word after 'open': ''; there are card"),
        ({"goal": "kvm", "moves": "open card"}, "'kvm' is no fact; facts are"),
        ({"goal": "x of kvm 1 is 3", "moves": "open card", "start": "create VM"}, "kvm 1 has no 'x'; it has users_count"),
        ({"goal": "kvm 1 is gone", "moves": "open card", "start": "BIND"}, "no descriptor of vfio0"),
        ({"goal": "kvm 1 is gone"}, "moves is empty: words with commas between them"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_are_told_beside_the_output_and_the_notebook_goes_on(given, told):
    own = lesson.design(**given)
    assert "✕ No level. It cannot be searched:" in own.message
    assert told in own.message
    assert told in words(own.static_html())
    assert own.exercise is None
    assert NAME not in progress.answers


def test_all_that_is_wrong_with_a_level_is_told_at_once():
    message = lesson.design(start="open car", goal="kvm, vm 1 is", moves="fly, open card, swim").message
    for wrong in ("start: there is no word after 'open': 'car'", "goal: 'kvm' is", "'vm 1 is' is", "'fly'", "'swim'"):
        assert wrong in message


def test_the_list_of_words_names_every_verb_with_the_words_that_it_takes():
    told, explained = lesson.words().split("\n\n")
    assert [line.split()[0] for line in told.splitlines()] == [*VERBS]
    assert explained.startswith("DEVICE: card|gpu|audio|tty")
    assert max(map(len, told.splitlines())) < 100, "it wraps beside the list of files"
    assert all(word in words(lesson.words()) for word in FILES)
