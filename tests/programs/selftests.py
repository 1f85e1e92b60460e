"""The kernel's own selftests of vfio and iommufd, unmodified, on a simulated machine: `make programs`.

Nothing of theirs is kept here: the source is Debian's `linux-source`, from LINUX_SOURCE (an unpacked tree), from /usr/src, or
fetched by apt; it is built in a folder of its own (BUILD, by default below the system's temporary one).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from vfiosim import Machine
from vfiosim.run import run

BUILD = Path(os.environ.get("BUILD", Path(tempfile.gettempdir(), "vfiosim-selftests")))
SECONDS = os.environ.get("SECONDS_EACH", "900")
CARD = "0000:00:04.0"  # of the machine "lab"
# Linux 7.2.13 calls this in its tests and defines it nowhere.
MISSING = "-Dcalloc_assert=calloc"
# As distributions build it: the tests want I/O addresses aligned as for large pages.
USUAL = "TRANSPARENT_HUGEPAGE=y"
SKIPPED = 4  # the exit status of a program that skips all its tests
RESULT = re.compile(r"^(ok|not ok) \d+ (?:- )?(.*?)(?: *# *SKIP *(.*))?$")


def main() -> int:
    """Build what can be built, run it, print a table. The answer is 1 if nothing could be built."""
    tree = source()
    built = BUILD / "tests"
    subprocess.run(["make", "-s", "-C", tree, f"O={BUILD / 'headers'}", "headers"], check=True)
    headers = f"KHDR_INCLUDES=-isystem {BUILD / 'headers' / 'usr' / 'include'}"
    words = ["make", "-s", "-k", "-C", str(tree / "tools/testing/selftests"), "TARGETS=iommu vfio", f"O={built}"]
    subprocess.run([*words, headers, f"EXTRA_CFLAGS={MISSING}"], check=False)
    programs = sorted(each for each in built.rglob("*") if each.is_file() and os.access(each, os.X_OK))
    for program in programs:
        table(program)
    return 0 if programs else 1


def source() -> Path:
    """The tree. Raises SystemExit, in one sentence, where there is none."""
    if named := os.environ.get("LINUX_SOURCE"):
        return Path(named)
    BUILD.mkdir(parents=True, exist_ok=True)
    packed = sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))
    if not packed and (package := packaged()):
        subprocess.run(["apt-get", "download", package], cwd=BUILD, check=True)
        for archive in BUILD.glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive, BUILD], check=True)
        packed = sorted((BUILD / "usr" / "src").glob("linux-source-*.tar.xz"))
    if not packed:
        raise SystemExit(
            "There is no source of Linux here: let LINUX_SOURCE name a tree, or install Debian's linux-source."
        )
    tree = BUILD / packed[-1].name.removesuffix(".tar.xz")
    if not tree.is_dir():
        subprocess.run(["tar", "-xf", packed[-1], "-C", BUILD], check=True)
    return tree


def packaged() -> str:
    """The package with the source of the newest Linux that this Debian has; "" where there is none."""
    try:
        told = subprocess.run(
            ["apt-cache", "depends", "linux-source"], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return ""
    found = re.search(r"Depends: (linux-source-\S+)", told)
    return found[1] if found else ""


def table(program: Path) -> None:
    """Run a program and print what became of its tests: a line for each that is not plainly ok."""
    words = [str(program), *([CARD] if program.name.startswith("vfio") else [])]
    with tempfile.TemporaryFile() as output:
        warned: list[str] = []
        ended = run(
            ["timeout", "-s", "KILL", SECONDS, *words],
            machine=Machine("lab", trace=False, config=USUAL),
            stdout=output,
            stderr=output,
            warn=warned.append,
        )
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    found = [(line, match) for line in lines if (match := RESULT.match(line))]
    ends = ["skip" if match[3] is not None else match[1] for _, match in found]
    print(f"{program.name}: {', '.join(f'{ends.count(each)} {each}' for each in ('ok', 'not ok', 'skip'))}", flush=True)
    for (line, match), end in zip(found, ends, strict=True):
        if end != "ok":
            print(f"  {end}: {match[2]}: {match[3] or reason(lines, lines.index(line))}")
    if not found:
        print(
            f"  it ended with {ended.returncode}{' (skip)' * (ended.returncode == SKIPPED)}: {lines[-1] if lines else ''}"
        )
    for sentence in dict.fromkeys(warned):
        print(f"  {sentence}")


def reason(lines: list[str], at: int) -> str:
    """What the test said last before its result."""
    first = max((number for number in range(at) if RESULT.match(lines[number])), default=0)
    said = [
        line.lstrip("# ") for line in lines[first:at] if re.search(r"Expected|Assert|Error|terminated by timeout", line)
    ]
    return said[-1] if said else ""


if __name__ == "__main__":
    sys.exit(main())
