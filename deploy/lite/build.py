"""A folder of pages on which the notebooks run with nothing but a browser: `python deploy/lite/build.py OUT WHEEL REQUIREMENTS`.

JupyterLite has the server's part, Pyodide the kernel's. Everything comes from PyPI as `uv.lock` names it, and from npm as
`deno.lock` does, and is in the folder afterwards: the pages ask no other host. WHEEL is vfiosim's; REQUIREMENTS are the locked
versions of what a kernel there needs (group `browser`), with check sums.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from jupyterlite_pyodide_kernel.constants import PYODIDE_PYTHON_VERSION, PYODIDE_VERSION
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KERNEL = "@jupyterlite/pyodide-kernel-extension"
RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
THERE = {  # what markers see in that kernel
    "sys_platform": "emscripten",
    "platform_system": "Emscripten",
    "platform_machine": "wasm32",
    "python_version": PYODIDE_PYTHON_VERSION,
    "python_full_version": f"{PYODIDE_PYTHON_VERSION}.0",
}
# The kernel has a smaller one of its own; the other is code for the page, which JupyterLite has already.
ONLY_FOR_SERVERS = {"widgetsnbextension", "jupyterlab-widgets"}


def fetch_pyodide(work: Path) -> Path:
    """The npm package, as `deno.lock` has its check sum."""
    for name in ("deno.json", "deno.lock", "compile.js"):
        shutil.copy(HERE / name, work / name)
    subprocess.run(["deno", "install", "--frozen", "--quiet"], cwd=work, check=True)
    package = work / "node_modules" / "pyodide"
    found = json.loads((package / "package.json").read_text())["version"]
    if found != PYODIDE_VERSION:
        raise SystemExit(f"the kernel works with Pyodide {PYODIDE_VERSION}, deno.json names {found}")
    return package


def wanted(requirements: str) -> str:
    """Those of the requirements that a kernel in a browser needs, without their markers."""
    kept = []
    for entry in requirements.replace("\\\n", " ").splitlines():
        spec, *hashes = entry.split(" --hash=")
        if entry.strip() and not entry.lstrip().startswith("#"):
            one = Requirement(spec)
            if one.name not in ONLY_FOR_SERVERS and (one.marker is None or one.marker.evaluate(THERE)):
                kept.append(" --hash=".join([f"{one.name}{one.specifier}", *map(str.strip, hashes)]))
    return "\n".join(kept)


def fetch_wheels(wheel: Path, requirements: str, work: Path) -> None:
    """All wheels of that kernel, in the folder `wheels`."""
    (work / "requirements.txt").write_text(wanted(requirements))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none"]
    pure += [f"--python-version={PYODIDE_PYTHON_VERSION}", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, *pure, "--dest", work / "wheels", "-r", work / "requirements.txt"], check=True)
    own = Path(sys.prefix, "share", "jupyter", "labextensions", KERNEL, "static", "pypi")
    for path in [wheel, *own.glob("*.whl")]:
        if "-3.6." not in path.name:  # of ipywidgets 7
            shutil.copy(path, work / "wheels")


def compile_wheels(work: Path) -> list[Path]:
    """The same with the bytecode of Pyodide's Python."""
    (work / "compiled").mkdir()
    subprocess.run(["deno", "run", "-A", "--frozen", "compile.js", "wheels", "compiled"], cwd=work, check=True)
    return sorted((work / "compiled").iterdir())


def entry(wheel: Path, names: set[str]) -> dict[str, object]:
    """What Pyodide has to know of a wheel; `names` are those of all of them."""
    name, version, *_ = parse_wheel_filename(wheel.name)
    with ZipFile(wheel) as file:
        tops = {path.split("/")[0].removesuffix(".py") for path in file.namelist()}
    return {
        "name": name,
        "version": str(version),
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": sorted(top for top in tops if top.isidentifier()),
        "depends": sorted(names - {name}) if name == "vfiosim" else [],
        "unvendored_tests": False,
    }


def stage(pyodide: Path, wheels: list[Path], lite: Path) -> None:
    """The folder that JupyterLite builds from: Pyodide with these wheels and no others, all of them loaded as the kernel starts."""
    place = lite / "static" / "pyodide"
    place.mkdir(parents=True)
    for file in [*(pyodide / name for name in RUNTIME), *wheels]:
        shutil.copy(file, place)
    names = {str(canonicalize_name(parse_wheel_filename(wheel.name)[0])) for wheel in wheels}
    lock = json.loads((pyodide / "pyodide-lock.json").read_text())
    lock["packages"] = {str(one["name"]): one for one in (entry(wheel, names) for wheel in wheels)}
    (place / "pyodide-lock.json").write_text(json.dumps(lock))
    kernel = {"loadPyodideOptions": {"packages": sorted(names)}, "disablePyPIFallback": True}
    settings = {"appName": "vfiosim", "exposeAppInBrowser": True, "litePluginSettings": {f"{KERNEL}:kernel": kernel}}
    (lite / "jupyter-lite.json").write_text(
        json.dumps({"jupyter-lite-schema-version": 0, "jupyter-config-data": settings})
    )
    shutil.copy(HERE / "jupyter_lite_config.json", lite)


def main(out: str, wheel: str, requirements: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work, lite = Path(folder), Path(folder, "lite")
        fetch_wheels(Path(wheel), Path(requirements).read_text(), work)
        pyodide = fetch_pyodide(work)
        stage(pyodide, compile_wheels(work), lite)
        build = [sys.executable, "-m", "jupyterlite_core", "build", "--output-dir", str(Path(out).resolve())]
        subprocess.run([*build, "--contents", str(ROOT / "notebooks")], cwd=lite, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(HERE / "index.html", out)  # straight to the first notebook


main(*sys.argv[1:])
