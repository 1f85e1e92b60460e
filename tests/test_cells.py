"""What a cell of a notebook shows: the README's code, and a call that is refused. The kernel is a real one."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from html import unescape

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8").partition("## Sixty seconds\n")[2]
BLOCKS = map(textwrap.dedent, re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", README, re.MULTILINE))
SIXTY_SECONDS, SESSION = next(BLOCKS), next(BLOCKS)
REFUSED, _, ANSWER = SESSION.removeprefix("\n>>> ").partition("\n")
CELLS = {
    "README": SIXTY_SECONDS,
    "refused": REFUSED,
    "again": "for _ in range(2):\n    show(m.trace)\nplayer = show(m.trace)\nplayer",
    "later": "player",
    "own function": "async def mine(df):\n    1 // 0\n\nwith m.patched(vfio_df_open=mine):\n"
    "    call = p.start('ioctl', p.open('/dev/vfio/devices/vfio0'), uapi.VFIO_DEVICE_BIND_IOMMUFD, bind)\ncall.value()",
    "not modelled": "from vfiosim import Unsupported\n\ndef ask():\n    raise Unsupported('<this>')\n\nask()",
    "waits": "m.process('root').write_file('/sys/bus/pci/drivers/vfio-pci/unbind', '0000:01:00.0')",
    "a second time": "call.value()",
    "caught": "try:\n    p.close(99)\nexcept OSError as error:\n    print(error.errno)",
    "silent": "1",
    "another's": "1 / 0",
}


TOGETHER = pytest.mark.xdist_group("cells that have run")  # in one process, so that they run once


@pytest.fixture(scope="module")
def shown() -> dict[str, list[nbformat.NotebookNode]]:
    """What each of the cells shows when all run one after the other."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    NotebookClient(notebook, timeout=300, allow_errors=True).execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def players(outputs):
    return [one for one in outputs if "vfiosim-place" in one.get("data", {}).get("text/html", "")]


@TOGETHER
def test_the_code_of_the_readme_as_one_cell_shows_the_answer_the_player_the_check_and_why(shown):
    devid, player, check, why = shown["README"]
    assert devid.text == "1\n"
    assert players([player])
    assert {"image/svg+xml", "text/html", "text/plain"} == {*player.data}
    assert check.text == "[]\n"
    assert why.data["text/plain"].startswith("iommufd_ctx 1 is kept alive by:\n  ")


@TOGETHER
def test_show_shows_each_time_and_not_twice_what_ends_the_cell(shown):
    assert len(players(shown["again"])) == len(shown["again"]) == 3


@TOGETHER
def test_a_player_is_shown_again_in_a_later_cell(shown):
    assert [one.output_type for one in players(shown["later"])] == ["execute_result"]


def test_show_shows_nothing_by_itself_where_there_are_no_cells():
    program = "import IPython\n" + "\n".join(line for line in SIXTY_SECONDS.splitlines() if "print" not in line)
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b""


# ---- errors


def error(outputs):
    """The error that a cell shows, as lines, and what is behind the click; there is nothing else."""
    told, details = outputs
    assert told.output_type == "error"
    html = r"<details[^>]*><summary[^>]*>details</summary>\s*<pre[^>]*>(.*)</pre></details>"
    folded = re.fullmatch(html, details.data["text/html"], re.DOTALL)
    assert folded, "not folded"
    return told.traceback, unescape(folded[1])


@TOGETHER
def test_a_refused_call_is_the_sentence_the_check_and_the_lines_as_the_readme_has_it(shown):
    lines, _ = error(shown["refused"])
    expected = re.escape(ANSWER.strip()).replace("…", r"\d+")
    assert re.fullmatch(expected + r'\n  asked: Cell In\[2\], line 1: p\.open\("/dev/vfio/1"\)', "\n".join(lines))


@pytest.mark.parametrize(
    ("cell", "told", "behind"),
    [
        ("refused", "KernelError: [EBUSY]", "in refuse_if"),
        ("own function", "PatchError: your function mine (for vfio_df_open) raises ZeroDivisionError", "call.value()"),
        ("not modelled", "Unsupported: [ENOSYS] <this> is not modelled", "in ask\n"),
        ("waits", "Blocked: root: write_file(", "raise Blocked(self)"),
        ("a second time", "PatchError: your function mine", "raise self.error"),
    ],
)
@TOGETHER
def test_an_error_of_the_package_is_short_and_its_whole_traceback_is_behind_a_click(cell, told, behind, shown):
    lines, details = error(shown[cell])
    assert lines[0].startswith(told)
    assert len(lines) <= 4
    assert details.startswith("Traceback (most recent call last):\n")
    assert behind in details
    assert shown[cell][0].ename == told.partition(":")[0]


@TOGETHER
def test_an_error_that_is_caught_shows_nothing(shown):
    assert [one.get("text") for one in shown["caught"]] == ["9\n"]
    assert len(shown["silent"]) == 1


@TOGETHER
def test_an_error_of_somebody_else_has_the_traceback_that_ipython_makes(shown):
    (only,) = shown["another's"]
    assert only.ename == "ZeroDivisionError"
    assert "Traceback (most recent call last)" in "\n".join(only.traceback)


def test_a_terminal_of_ipython_shows_the_same_in_a_few_lines():
    program = "from vfiosim import Machine\nMachine().process('q').close(99)\n"
    program += "from vfiosim.lessons import vms; vms.strip('bind', 'add 3')\n"
    program += "from vfiosim.lessons import closing; closing.plot('kill helper')\n"
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--quick"]
    shown = subprocess.run(command, input=program, capture_output=True, text=True, check=True).stdout
    assert "KernelError: [EBADF] 99 is not an open file\n  check: fd_is_open\n  where: vfiosim/kernel" in shown
    assert "asked: Cell In[2], line 1: Machine().process('q').close(99)" in shown
    assert "UnknownNameError: there is no call 'add 3'; there are add 1, add 2, del 1" in shown
    assert "asked: Cell In[3], line 1: from vfiosim.lessons import vms; vms.strip('bind', 'add 3')" in shown
    assert "ImpossibleError: there is no living process 'helper'" in shown
    assert "Traceback" not in shown
    assert "<details" not in shown


def test_any_other_python_shows_the_traceback_as_ever():
    program = "from vfiosim import Machine; Machine().process('q').close(99)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.count("\n  File ") > 5
    assert "vfiosim.uapi.errno.KernelError: [EBADF] 99 is not an open file (fd_is_open, close_fd" in done.stderr
