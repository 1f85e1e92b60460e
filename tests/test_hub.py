"""Shared servers: a real JupyterHub with two users of the operating system, and the files of deploy/ for larger ones."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

import nbformat
import pytest
import yaml

from tests.conftest import ROOT
from tests.hub import Hub, running_hub

pytestmark = pytest.mark.xdist_group("a hub")

USERS = ("games", "news")  # two whom every Debian has, neither of whom is root
HUB = ROOT / "deploy" / "hub"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    assert os.geteuid() == 0, "only root can start a server as another user"
    with running_hub(USERS, "LocalProcessSpawner") as hub:
        yield hub


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
