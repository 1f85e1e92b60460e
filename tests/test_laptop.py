"""On a laptop: what is installed brings the notebooks, says what is missing, and touches no work of the student."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vfiosim.cli import main
from vfiosim.open_lab import copy_notebooks

pytestmark = pytest.mark.xdist_group("the wheel")

NAMES = {path.name for path in (ROOT / "notebooks").iterdir() if path.suffix in (".ipynb", ".md")}


def build(target: str, folder: Path, source: Path = ROOT) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def from_wheel(wheel: Path, program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What it does where the wheel is all there is: no other package is to be found."""
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); {program}"
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)


def test_an_asset_is_found_from_a_wheel_and_from_a_checkout(wheel: Path) -> None:
    read = "from vfiosim.assets import asset; print(asset('README.md').read_text(), end='')"
    for place in (wheel, ROOT):
        assert from_wheel(place, read).stdout == (ROOT / "assets" / "README.md").read_text()


def test_the_wheel_brings_the_notebooks_and_where_jupyterlab_is_missing_one_line_says_how_to_get_it(
    wheel: Path, tmp_path: Path
) -> None:
    run = from_wheel(wheel, f"from vfiosim.cli import main; sys.exit(main(['lab', {str(tmp_path / 'mine')!r}]))")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == NAMES
    assert (run.returncode, run.stderr) == (1, 'JupyterLab is not installed: pip install "vfiosim[lab]", then again.\n')


def test_what_a_student_has_changed_stays_what_is_gone_comes_back_and_what_differs_is_named(tmp_path: Path) -> None:
    assert copy_notebooks(tmp_path) == (sorted(NAMES), [])
    (tmp_path / "01_one_bind.ipynb").write_text("my work")
    (tmp_path / "02_who_holds_whom.ipynb").unlink()
    (tmp_path / "own.ipynb").write_text("my own")
    assert copy_notebooks(tmp_path) == (["02_who_holds_whom.ipynb"], ["01_one_bind.ipynb"])
    assert (tmp_path / "01_one_bind.ipynb").read_text() == "my work"
    assert (tmp_path / "own.ipynb").read_text() == "my own"


@pytest.mark.parametrize("command", ["gallery", "poster"])
def test_what_cannot_be_written_is_told_in_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([command, str(tmp_path / "file")]) == 3
    assert capsys.readouterr().err == f"python -m vfiosim {command}: {tmp_path / 'file'}: File exists.\n"


def test_an_output_that_takes_no_more_is_told_in_one_sentence() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "vfiosim", "puzzles"]
        run = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, cwd=ROOT, check=False
        )
    assert (run.returncode, run.stderr) == (3, "python -m vfiosim puzzles: No space left on device.\n")


def test_a_letter_that_a_console_does_not_have_is_written_by_its_number() -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with redirect_stdout(narrow):
        assert main(["answers", "00"]) == 0
    assert b"\\u201c" in narrow.buffer.getvalue()


def test_what_follows_the_folder_goes_to_jupyterlab(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", str(tmp_path), "--version"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("4.")


def test_a_folder_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["lab", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_doctor_says_on_one_screen_that_a_lesson_can_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "A lesson can begin: python -m vfiosim lab"
    assert len(lines) <= 24
    assert {line.split()[1] for line in lines if line.startswith("ok ")} >= {
        "Python",
        "simulator",
        "widgets",
        "JupyterLab",
    }


def test_the_doctor_names_what_is_missing_and_how_to_get_it_also_on_a_narrow_code_page(wheel: Path) -> None:
    narrow = "sys.stdout.reconfigure(encoding='ascii')"
    run = from_wheel(wheel, f"{narrow}; from vfiosim.cli import main; sys.exit(main(['doctor']))", PATH="/nowhere")
    lines = run.stdout.splitlines()
    assert run.returncode == 1, run.stderr
    assert lines[-1] == "First see to what has a NO before it."
    assert [line.split()[1] for line in lines if line.startswith("NO ")] == ["widgets"]
    assert "pip install ipywidgets anywidget" in run.stdout
    assert "`pip install pygraphviz`; if that fails install Graphviz" in run.stdout


def pythons() -> list[str]:
    """The oldest Python that is supported, and the newest one found; pyenv keeps its own off PATH."""
    own = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin")
    search = os.pathsep.join([*map(str, own), os.environ["PATH"]])
    found = [shutil.which(f"python3.{minor}", path=search) for minor in (11, 12, 13, 14)]
    there = [python for python in found if python]
    return [there[0], there[-1]]


@pytest.mark.nightly
def test_a_wheel_from_the_sdist_installs_with_plain_pip_on_the_oldest_and_the_newest_python(tmp_path: Path) -> None:
    sdist = build("sdist", tmp_path / "sdist")
    for number, python in enumerate(pythons()):
        home = tmp_path / str(number)
        subprocess.run([python, "-m", "venv", str(home)], check=True)
        own = str(home / "bin" / "python")
        pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--only-binary=:all:", "-r", str(ROOT / "requirements.lock")], check=True)
        subprocess.run([*pip, "--no-deps", str(sdist)], check=True)
        subprocess.run([own, "-m", "pip", "check"], check=True)
        doctor = subprocess.run([own, "-m", "vfiosim", "doctor"], cwd=home, capture_output=True, text=True, check=False)
        assert doctor.returncode == 0, doctor.stdout
        assert "ok  Graphviz    pygraphviz" in doctor.stdout
        subprocess.run([own, "-m", "vfiosim", "lab", str(home / "mine"), "--version"], check=True)
        assert {path.name for path in (home / "mine").iterdir()} == NAMES
