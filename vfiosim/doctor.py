"""What works on this computer, and how to get what does not: one screen, before the workshop begins."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import webbrowser
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from subprocess import DEVNULL
from typing import NamedTuple

from .assets import notebooks
from .machine import Machine
from .open_lab import HOW_TO_GET_JUPYTERLAB
from .uapi import VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd

OLDEST = (3, 11)
WIDE = 12


class Finding(NamedTuple):
    """What was looked at, whether it works, what was found, and what to do if it does not.

    `needed`: without it there is no lesson; otherwise `what` says what there is instead.
    """

    what: str
    works: bool
    found: str
    how: str = ""
    needed: bool = True


def findings() -> list[Finding]:
    """All that a lesson needs, in the order in which it needs them."""
    return [
        look()
        for look in (_python, _simulator, _notebooks, _widgets, _jupyterlab, _pictures, _progress, _browser, _programs)
    ]


def _python() -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("Python", sys.version_info >= OLDEST, here, "install Python 3.11 or newer")


def _simulator() -> Finding:
    machine = Machine()
    program = machine.process("vmm")
    device, iommufd = program.open("/dev/vfio/devices/vfio0"), program.open("/dev/iommu")
    program.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd(iommufd=iommufd))
    broken = machine.check()
    return Finding("simulator", not broken, f"a device was bound in {len(machine.trace)} steps", "install vfiosim anew")


def _notebooks() -> Finding:
    count = sum(name.endswith(".ipynb") for name in notebooks())
    return Finding("notebooks", count > 0, f"{count}; `python -m vfiosim lab` opens them", "install vfiosim anew")


def _widgets() -> Finding:
    return _packages("widgets", "pip install ipywidgets anywidget", "ipywidgets", "anywidget")


def _jupyterlab() -> Finding:
    found = _packages("JupyterLab", HOW_TO_GET_JUPYTERLAB, "jupyterlab")
    return (
        found if found.works else found._replace(found="is not here; VS Code and Colab bring their own", needed=False)
    )


def _packages(what: str, how: str, *names: str) -> Finding:
    there, missing = [], []
    for name in names:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return Finding(what, not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(there), how)


def _pictures() -> Finding:
    found = _packages("Graphviz", "", "pygraphviz")
    if found.works:
        return found
    if program := shutil.which("dot"):
        return Finding("Graphviz", True, program)
    how = "`pip install pygraphviz`; if that fails install Graphviz, so that `dot` is on the PATH"
    return Finding("Graphviz", False, "is not here: some arrows go straight over boxes", how, False)


def _progress() -> Finding:
    try:
        from .lab.record import Progress
    except ImportError:
        return Finding("progress", False, "is kept by the widgets", "see above", False)
    path = Progress().path
    if path is None:
        return Finding("progress", False, "is kept until the notebook is closed", "unset VFIOSIM_PROGRESS", False)
    place = path if path.exists() else next((one for one in path.parents if one.exists()), path)
    how = f"set VFIOSIM_PROGRESS to a file that can be written; {place} cannot"
    return Finding("progress", os.access(place, os.W_OK), str(path), how, False)


def _browser() -> Finding:
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        how = "open the address that JupyterLab prints in any browser of today"
        return Finding("browser", False, "none that Python could open", how, False)
    return Finding("browser", True, getattr(found, "name", "") or "the one of the system")


def _programs() -> Finding:
    """In which way `python -m vfiosim run` works here."""
    if sys.platform != "linux":
        return Finding(
            "programs", False, "run on Linux alone", "`python -m vfiosim run` needs it, no lesson does", False
        )
    from .run import CannotRun, run

    told: list[str] = []
    try:
        program, m = [sys.executable, "-I", "-S", "-c", ""], Machine(trace=False)
        way = run(program, machine=m, way="namespace", warn=told.append, stdout=DEVNULL, stderr=DEVNULL).way
    except (CannotRun, OSError) as error:
        return Finding("programs", False, str(error), "no lesson needs `python -m vfiosim run`", False)
    if way == "namespace":
        return Finding("programs", True, "run, with a /dev and /sys of their own")
    return Finding("programs", False, "run with redirected paths, which is slower", "".join(told), False)


def main(arguments: Sequence[str]) -> int:
    """The command `doctor`: 0 if a lesson can begin, else 1."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim doctor", description=(__doc__ or "").strip())
    parser.parse_args(arguments)
    found = findings()
    for one in found:
        print(f"{'ok' if one.works else 'NO' if one.needed else '--':4}{one.what:{WIDE}}{one.found}")
        if not one.works:
            print(f"{'':{WIDE + 4}}{one.how}")
    good = all(one.works for one in found if one.needed)
    print("A lesson can begin: python -m vfiosim lab" if good else "First see to what has a NO before it.")
    return 0 if good else 1
