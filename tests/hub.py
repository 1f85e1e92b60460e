"""A real JupyterHub with its proxy, and what students do on it without a browser: log in, run cells, press buttons."""

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
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.browser import free_port

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "of-the-test"
PATIENCE = 600  # seconds

CONFIG = """
from jupyterhub.spawner import {spawner}

class HomeOfTheTest({spawner}):
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
c.Spawner.args = ["--allow-root"]
c.Spawner.notebook_dir = "{homes}/{{username}}"
c.Spawner.start_timeout = c.Spawner.http_timeout = {patience}
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "access:servers", "tokens"]
c.JupyterHub.load_roles = [{{"name": "test", "scopes": scopes, "services": ["test"]}}]
"""


class Kernel:
    """A kernel of a student's own. `buttons` are those that the last cell has made: the name of each, and by what it is reached."""

    def __init__(self, line: Any) -> None:
        self._line, self._number = line, 0
        self.buttons: dict[str, str] = {}

    def run(self, cell: str) -> str:
        """What a cell prints; an error is its name."""
        content = {"code": cell, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        printed = wrong = ""
        self.buttons = {}
        for answer in self._asked("execute_request", content, "execute_reply"):
            told = answer["content"]
            printed += told["text"] if answer["msg_type"] == "stream" else ""
            wrong = told.get("ename", wrong)
            state = told.get("data", {}).get("state", {}) if answer["msg_type"] == "comm_open" else {}
            if state.get("_model_name") == "ButtonModel":
                self.buttons.setdefault(state["description"], told["comm_id"])
        return wrong or printed

    def press(self, button: str) -> int:
        """Press a button, and wait until all is done that it asks for; how many messages came of it."""
        data = {"method": "custom", "content": {"event": "click"}}
        came = self._asked("comm_msg", {"comm_id": self.buttons[button], "data": data})
        return sum(answer["msg_type"] == "comm_msg" for answer in came)

    def _asked(self, kind: str, content: Any, *replies: str) -> Iterator[Any]:
        """All that it tells. What is printed may come after the reply, but never after idle."""
        self._number += 1
        header = {"msg_id": f"{self._number}", "msg_type": kind, "session": "test", "username": "", "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._line.send(json.dumps(message))
        waiting = {*replies, "idle"}
        while waiting:
            answer = json.loads(self._line.recv())
            if answer["parent_header"].get("msg_id") == header["msg_id"]:
                waiting -= {answer["msg_type"], answer["content"].get("execution_state", "")}
                yield answer


class Hub(NamedTuple):
    """A running hub; `homes` has the folder of each user, `pid` is its process."""

    url: str
    homes: Path
    pid: int

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

    @contextmanager
    def kernel(self, user: str, token: str) -> Iterator[Kernel]:
        """A new kernel of a user who has logged in."""
        from websocket import create_connection

        kernel = self.ask("POST", f"user/{user}/api/kernels", token, {})["id"]
        place = f"{self.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"
        line = create_connection(place, header=[f"Authorization: token {token}"], timeout=PATIENCE)
        yield Kernel(line)
        line.close()
        self.ask("DELETE", f"user/{user}/api/kernels/{kernel}", token)

    def run(self, user: str, token: str, *cells: str) -> list[str]:
        """What these cells print, run in a kernel of the user's own; an error is its name."""
        with self.kernel(user, token) as kernel:
            return [kernel.run(cell) for cell in cells]


def until(true: Callable[[], Any]) -> None:
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


@contextmanager
def running_hub(users: Collection[str], spawner: str) -> Iterator[Hub]:
    """A hub for these users. With `LocalProcessSpawner` they are users of the operating system, and only root can start it."""
    folder = Path(tempfile.mkdtemp(prefix="vfiosim-hub-"))
    folder.chmod(0o755)
    made = folder / "environment"
    uv = next((ROOT / ".tools").glob("uv-*/bin/uv"))
    # A Python that all users may run.
    sync = [uv, "sync", "--frozen", "--quiet", "--no-editable", "--group", "hub", "--python", "/usr/bin/python3"]
    environment = {name: value for name, value in os.environ.items() if name not in ("UV_PYTHON", "VIRTUAL_ENV")}
    subprocess.run([*map(str, sync)], cwd=ROOT, env=environment | {"UV_PROJECT_ENVIRONMENT": str(made)}, check=True)
    for user in users:
        home = folder / "homes" / user
        home.mkdir(parents=True)
        with suppress(KeyError):
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        home.chmod(0o700)
    url = f"http://127.0.0.1:{free_port()}"
    config = CONFIG.format(
        port=url.rpartition(":")[2],
        hub=free_port(),
        api=free_port(),
        bin=made / "bin",
        homes=folder / "homes",
        users=set(users),
        patience=PATIENCE,
        token=TOKEN,
        spawner=spawner,
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
        yield Hub(url, folder / "homes", server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder)
