"""Shared servers: a real JupyterHub with two users of the operating system, and the files of deploy/ for larger ones."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

import nbformat
import pytest
import yaml

from tests.browser import free_port
from tests.conftest import ROOT

pytestmark = [pytest.mark.one_python, pytest.mark.xdist_group("a hub")]

USERS = ("games", "news")  # two whom every Debian has, neither of whom is root
HUB = ROOT / "deploy" / "hub"
TOKEN = "of-the-test"
PATIENCE = 300  # seconds

CONFIG = """
from jupyterhub.spawner import LocalProcessSpawner

class HomeOfTheTest(LocalProcessSpawner):
    def user_env(self, env):
        return super().user_env(env) | {{"HOME": "{homes}/" + self.user.name}}

c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = ["{bin}/configurable-http-proxy"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = {users}
c.JupyterHub.spawner_class = HomeOfTheTest
c.Spawner.cmd = ["{bin}/jupyterhub-singleuser"]
c.Spawner.notebook_dir = "{homes}/{{username}}"
c.Spawner.start_timeout = c.Spawner.http_timeout = {patience}
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "access:servers", "tokens"]
c.JupyterHub.load_roles = [{{"name": "test", "scopes": scopes, "services": ["test"]}}]
"""


class Hub(NamedTuple):
    """A running hub; `homes` has the folder of each user."""

    url: str
    homes: Path

    def ask(self, method: str, path: str, token: str = TOKEN, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/{path}", method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def log_in(self, user: str) -> str:
        """Start the server of a user; the answer is a token of that user's own."""
        self.ask("POST", f"hub/api/users/{user}/server")
        until(lambda: self.ask("GET", f"hub/api/users/{user}")["servers"].get("", {}).get("ready"))
        token: str = self.ask("POST", f"hub/api/users/{user}/tokens", body={})["token"]
        return token

    def run(self, user: str, token: str, *cells: str) -> list[str]:
        """What these cells print, run in a kernel of the user's own; an error is its name."""
        from websocket import create_connection

        kernel = self.ask("POST", f"user/{user}/api/kernels", token, {})["id"]
        place = f"{self.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"
        line = create_connection(place, header=[f"Authorization: token {token}"], timeout=PATIENCE)
        told = [executed(line, number, cell) for number, cell in enumerate(cells)]
        line.close()
        self.ask("DELETE", f"user/{user}/api/kernels/{kernel}", token)
        return told


def executed(line: Any, number: int, cell: str) -> str:
    header = {
        "msg_id": f"cell {number}",
        "msg_type": "execute_request",
        "session": "test",
        "username": "",
        "version": "5.3",
    }
    content = {"code": cell, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    line.send(json.dumps(message))
    printed, wrong, waiting = (
        "",
        "",
        {"execute_reply", "idle"},
    )  # what is printed may come after the reply, but never after idle
    while waiting:
        answer = json.loads(line.recv())
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        content = answer["content"]
        printed += content["text"] if answer["msg_type"] == "stream" else ""
        wrong = content.get("ename", wrong)
        waiting -= {answer["msg_type"], content.get("execution_state", "")}
    return wrong or printed


def until(true: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/hub/api/", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """As root, for it starts servers as other users; with a Python that they may run."""
    assert os.geteuid() == 0, "only root can start a server as another user"
    folder = Path(tempfile.mkdtemp(prefix="vfiosim-hub-"))
    folder.chmod(0o755)
    made = folder / "environment"
    uv = next((ROOT / ".tools").glob("uv-*/bin/uv"))
    sync = [uv, "sync", "--frozen", "--quiet", "--no-editable", "--group", "hub", "--python", "/usr/bin/python3"]
    environment = {name: value for name, value in os.environ.items() if name not in ("UV_PYTHON", "VIRTUAL_ENV")}
    subprocess.run([*map(str, sync)], cwd=ROOT, env=environment | {"UV_PROJECT_ENVIRONMENT": str(made)}, check=True)
    for user in USERS:
        home = folder / "homes" / user
        home.mkdir(parents=True)
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        home.chmod(0o700)
    url = f"http://127.0.0.1:{free_port()}"
    config = CONFIG.format(
        port=url.rpartition(":")[2],
        hub=free_port(),
        api=free_port(),
        bin=made / "bin",
        homes=folder / "homes",
        users=set(USERS),
        patience=PATIENCE,
        token=TOKEN,
    )
    (folder / "jupyterhub_config.py").write_text(config)
    with (folder / "log").open("w") as log:
        path = environment | {"PATH": f"{made / 'bin'}:/usr/bin:/bin"}
        command = [made / "bin" / "jupyterhub", "-f", folder / "jupyterhub_config.py"]
        server = subprocess.Popen(
            [*map(str, command)], cwd=folder, env=path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: answers(url) or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()[-3000:]
        yield Hub(url, folder / "homes")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder)


@pytest.mark.nightly
def test_two_users_of_a_hub_run_01_at_once_and_cannot_read_each_others_files(hub: Hub) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "01_one_bind.ipynb", as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    tokens = {user: hub.log_in(user) for user in USERS}
    with ThreadPoolExecutor() as pool:
        told = [*pool.map(lambda user: hub.run(user, tokens[user], *cells), USERS)]
    assert [[line for line in one if line.endswith("Error")] for one in told] == [[], []]
    one, other = USERS
    own = hub.homes / one / "own"
    assert hub.run(one, tokens[one], f"with open({str(own)!r}, 'w') as file:\n    file.write('mine')") == [""]
    assert own.read_text() == "mine"
    theft = f"open({str(own)!r})"
    assert hub.run(other, tokens[other], theft, "import os; print(os.getuid())") == [
        "PermissionError",
        f"{pwd.getpwnam(other).pw_uid}\n",
    ]
    with pytest.raises(HTTPError) as refused:
        hub.ask("GET", f"user/{one}/api/contents/own", tokens[other])
    assert refused.value.code == 403


def test_the_files_for_larger_hubs_agree_in_memory_and_idle_time() -> None:
    littlest = yaml.safe_load((HUB / "tljh.yaml").read_text())
    cluster = yaml.safe_load((HUB / "z2jh.yaml").read_text())
    assert littlest["limits"]["memory"] == cluster["singleuser"]["memory"]["limit"] == "512M"
    assert littlest["services"]["cull"] == cluster["cull"]
    manager = cluster["singleuser"]["extraFiles"]["jupyter_server_config.json"]["data"]["MappingKernelManager"]
    server = (HUB / "jupyter_server_config.py").read_text()
    assert all(f"c.MappingKernelManager.{name} = {value}\n" in server for name, value in manager.items())
    assert "256 MiB a student is planned and 512 MiB the limit" in (ROOT / "deploy" / "README.md").read_text()
