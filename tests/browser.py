"""A real JupyterLab and a real Chromium, for the tests marked `browser`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "vfiosim-tests"
PATIENCE = 300  # seconds; a loaded machine is slow, not wrong

# No question over a notebook, and nothing is saved but by whom a test tells to.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}

# Chromium looks for updates, sync and news unless told not to; a test run needs none of them.
CHROMIUM_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str | None:
    """Return the Chromium to drive: $CHROMIUM if that is set, else one on PATH: the shell without windows is the cheaper one."""
    asked = os.environ.get("CHROMIUM")
    return shutil.which(asked) if asked else shutil.which("chromium-headless-shell") or shutil.which("chromium")


def chromium_flags() -> list[str]:
    """Return the flags; Chromium refuses to start as root inside its sandbox."""
    return [*CHROMIUM_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else CHROMIUM_FLAGS


@dataclass(frozen=True)
class JupyterLab:
    """A running server; `folder` is its root and holds a copy of the notebooks."""

    url: str
    folder: Path
    opened: list[tuple[Page, str]] = field(default_factory=list)

    def add(self, name: str, *cells: str) -> str:
        """Write a notebook with these code cells and return its name."""
        import nbformat

        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, self.folder / name)
        return name

    def open(self, page: Page, name: str, link: str = "") -> None:
        """Show the notebook `name` alone on the page and wait for its kernel; `link` is what comes after it, from its # on."""
        self.opened.append((page, name))
        # `reset` forgets the layout that an earlier page left behind.
        page.goto(f"{self.url}/doc/tree/{name}?token={TOKEN}&reset{link}")
        self.wait_for_kernel(page, name)

    def wait_for_kernel(self, page: Page, name: str) -> None:
        """Wait until the notebook `name` is what the page shows, and its kernel listens."""
        page.wait_for_function(
            """name => {
                const { context, sessionContext } = window.jupyterapp?.shell.currentWidget ?? {};
                const kernel = sessionContext?.session?.kernel;
                return context?.path === name && context.isReady && sessionContext.isReady
                    && kernel?.connectionStatus === 'connected' && ['idle', 'busy'].includes(kernel.status);
            }""",
            arg=name,
            polling=100,  # milliseconds; to be asked before each frame keeps the page busy while it loads
        )

    def leave(self, page: Page) -> None:
        """End the kernels of what was open on a page: who opens it next begins like a reader who was not there before."""
        names = {name for opened, name in self.opened if opened is page}
        self.opened[:] = [(opened, name) for opened, name in self.opened if opened is not page]
        self.end_kernel(*names)

    def end_kernel(self, *names: str) -> None:
        """End the kernels of these notebooks, as after the lesson."""
        for session in self._ask("GET", "sessions"):
            if session["path"] in names:
                self._ask("DELETE", f"sessions/{session['id']}")

    def restart_kernel(self, name: str) -> None:
        """Restart the kernel of a notebook from elsewhere: the page has not asked for it."""
        for session in self._ask("GET", "sessions"):
            if session["path"] == name:
                self._ask("POST", f"kernels/{session['kernel']['id']}/restart")

    def end(self) -> None:
        """End the server."""
        self._ask("POST", "shutdown")

    def _ask(self, method: str, what: str) -> Any:
        request = urllib.request.Request(f"{self.url}/api/{what}?token={TOKEN}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def run_all(page: Page) -> None:
    """Run every cell of the open notebook, wait for the last one, and fail on the first error.

    The command is given to the application itself: a click in the menu is lost while the kernel still connects.
    """
    report = page.evaluate(
        """async () => {
            await window.jupyterapp.commands.execute('notebook:run-all-cells');
            const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
            const code = cells.filter(c => c.type === 'code' && c.sharedModel.getSource().trim());
            const outputs = code.flatMap(c => c.outputs.toJSON());
            const error = outputs.find(o => o.output_type === 'error');
            return {left: code.filter(c => c.executionCount === null).length,
                    error: error ? `${error.ename}: ${error.evalue}` : null};
        }"""
    )
    assert report["error"] is None, f"a cell failed: {report['error']}"
    assert report["left"] == 0, f"{report['left']} cells did not run"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_jupyterlab(notebooks: Path, folder: Path) -> Iterator[JupyterLab]:
    """Serve a copy of `notebooks` from `folder`; no setting of the user's is read or written."""
    served = folder / "served"
    shutil.copytree(notebooks, served, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    url = f"http://127.0.0.1:{free_port()}"
    own = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"]
    own += ["JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port_retries=0"]
    command += ["--ip=127.0.0.1", f"--port={url.rpartition(':')[2]}", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={served}", "--LabApp.news_url=", "--LabApp.expose_app_in_browser=True"]
    log = folder / "jupyterlab.log"
    environment = {name: str(folder / name.lower()) for name in own} | {"VFIOSIM_DOUBLE_CLICK": "0"}
    for name, settings in SETTINGS.items():
        path = folder / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings), "utf-8")
    with log.open("w") as sink:
        server = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(server, url, log)
        yield JupyterLab(url, served)
    finally:
        _end(server)


def _wait_until_it_answers(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its kernels: the process group that was started here, nothing else."""
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
