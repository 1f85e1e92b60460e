"""What this repository promises about its own files."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from rattler import MatchSpec
from rattler.exceptions import InvalidMatchSpecError

from tests.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FIRST = ROOT / "notebooks" / "00_start.ipynb"
NOTEBOOKS = sorted({FIRST, *(ROOT / "notebooks").glob("*.ipynb")})
PACKAGE = ROOT / "vfiosim"
MODULES = sorted(PACKAGE.rglob("*.py"))

CONDA_NAMES = {"graphviz": "python-graphviz", "matplotlib": "matplotlib-base"}
CONDA_ONLY = {"python", "pip", "graphviz"}  # the last one brings the `dot` program


def core_files() -> list[Path]:
    """The files of every layer below the views, as the layer contract in pyproject.toml lists them."""
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    below = " ".join(layers[layers.index("(views)") + 1 :])
    names = set(re.findall(r"\w+", below))
    return [file for file in MODULES if file.relative_to(PACKAGE).parts[0].removesuffix(".py") in names]


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_packages(module: Path) -> set[str]:
    """The top-level name of everything that the file imports, at any depth of indentation."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


def test_the_core_imports_only_the_standard_library() -> None:
    rest = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in {*MODULES} - {*core_files()}}
    assert rest == {
        "__init__",
        "__main__",
        "answers",
        "appendix",
        "cli",
        "doctor",
        "explain",
        "gallery",
        "grade",
        "lab",
        "lessons",
        "open_lab",
        "poster",
        "replay",
        "run_command",
        "tracebacks",
        "views",
    }
    allowed = sys.stdlib_module_names | {"vfiosim"}
    foreign = {dotted(file): imported_packages(file) - allowed for file in core_files()}
    assert {module: names for module, names in foreign.items() if names} == {}


def test_the_core_can_be_imported_where_nothing_is_installed() -> None:
    imports = "; ".join(f"import {dotted(file)}" for file in core_files())
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {imports}"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_an_asset_that_does_not_exist_is_named_in_the_error() -> None:
    from vfiosim.assets import asset

    with pytest.raises(FileNotFoundError, match=r"no asset named 'no/such\.thing'"):
        asset("no/such.thing")


def test_environment_yml_names_the_same_packages_and_floors_as_pyproject() -> None:
    project = PYPROJECT["project"]
    wanted = [Requirement(line) for line in sum(project["optional-dependencies"].values(), project["dependencies"])]
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [Requirement(line) for line in lines if isinstance(line, str) and not re.match(r"[\w-]+=\d", line)]
    assert {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in wanted} == {
        r.name: str(r.specifier) for r in conda if r.name not in CONDA_ONLY
    }


def test_every_line_of_environment_yml_is_one_that_conda_understands() -> None:
    """Read by a solver of conda packages; whether conda-forge has them only a solve with a network can tell."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert {*environment} == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *specs, pip = environment["dependencies"]
    names = [MatchSpec(spec, strict=True).name for spec in specs]
    assert len(names) == len({str(name) for name in names})
    assert pip == {"pip": ["-e ."]}
    with pytest.raises(InvalidMatchSpecError):
        MatchSpec("jupyterlab >=4.4 <5", strict=True)


def test_environment_yml_pins_a_python_that_binder_understands_and_pyproject_allows() -> None:
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (version,) = [line.removeprefix("python=") for line in lines if str(line).startswith("python=")]
    assert re.fullmatch(r"3\.\d+", version)
    assert f"Programming Language :: Python :: {version}" in PYPROJECT["project"]["classifiers"]


@pytest.mark.parametrize("lock", ["uv.lock", "requirements.lock", "deploy/lite/deno.lock"])
def test_a_lock_file_names_no_index_but_pypi(lock: str) -> None:
    hosts = set(re.findall(r"\w+://([^/\"\s]+)", (ROOT / lock).read_text()))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}
    assert not re.search(r"^--|file:", (ROOT / lock).read_text(), re.MULTILINE)


def test_the_lock_for_pip_has_also_what_uv_leaves_out_for_pip_asks_for_it() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for left_out in PYPROJECT["tool"]["uv"]["override-dependencies"]:
        assert re.search(rf"^{Requirement(left_out).name}==[\d.]+ \\$", lock, re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs_and_widget_state(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_keeps_its_code_cells_small(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = [len(source.splitlines()) for source in cells]
    assert [source for source, count in zip(cells, lines, strict=True) if count > 15] == []
    assert statistics.median(lines) <= 4


def test_what_several_tests_use_stands_in_no_module_of_tests() -> None:
    """Who imports a module of tests gets its fixtures and its cost with it, and ties two files together by accident."""
    for path in sorted((ROOT / "tests").glob("*.py")):
        froms = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)
        ]
        names = [f"{getattr(node, 'module', None) or ''}.{alias.name}" for node in froms for alias in node.names]
        assert [name for name in names if any(part.startswith("test_") for part in name.split("."))] == [], path


def test_only_files_that_other_pythons_run_say_what_one_of_them_proves_for_all() -> None:
    [names] = re.findall(r"tests/test_\{(.+)\}\.py", (ROOT / ".ci" / "run").read_text("utf-8"))
    marked = {
        path.stem
        for path in (ROOT / "tests").glob("test_*.py")
        if re.search(r"mark\.one_python\b", path.read_text("utf-8"))
    }
    assert marked
    assert marked <= {f"test_{name}" for name in names.split(",")}


def test_a_module_can_be_read_in_one_sitting() -> None:
    """A file that mirrors the kernel's file of its name follows it, and may have twice as many lines."""
    texts = {file: file.read_text() for file in MODULES}
    most = {
        file: 700 if re.search(rf'@kernel\("[\w/-]*/{file.stem}\.[ch]"\)', text) else 350
        for file, text in texts.items()
    }
    lines = {file: len(text.splitlines()) for file, text in texts.items()}
    assert {dotted(file): count for file, count in lines.items() if count > most[file]} == {}


def test_no_two_classes_have_one_name() -> None:
    """But for what a lesson makes for itself."""
    trees = {file: ast.parse(file.read_text()) for file in MODULES if "lessons" not in file.parts}
    places: dict[str, list[str]] = {}
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(dotted(file))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}
