"""How quickly the player follows a key, beside the same steps drawn by one `dot` call each in an `ipywidgets.HTML`.

Goals, for a trace of 40 nodes and more than 24 steps: key to page p95 at most 16 ms, no message to the kernel while scrubbing, no
blank frame, nothing moves, at most 130 KiB more than an empty notebook's export; with 2,000 steps p95 at most 33 ms.
Needs Chromium. Milliseconds of a loaded machine mean little: compare them with the other numbers of the same run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import browser as chromium  # noqa: E402
from tests.players import LAST, ONLY, busy  # noqa: E402
from vfiosim import Machine  # noqa: E402
from vfiosim.trace import Trace  # noqa: E402
from vfiosim.views import Player, show  # noqa: E402

KEYS = 60  # presses that are timed

# Times from a key press to the change of the picture; frames without a picture; nodes that are still there, and somewhere else.
PROBE = """([root, watched]) => {
  const nodes = () => new Map([...document.querySelectorAll(watched + ' .node:not(.off)')].map(one => {
    const [own, all] = [one, one.closest('svg')].map(part => part.getBoundingClientRect());
    const place = Math.round(own.right - all.x) + Math.round(own.bottom - all.y);
    return [one.dataset.oid || one.querySelector('title').textContent, place];
  }));
  const probe = window.probe = {times: [], blank: 0, frames: 0, kept: 0, moved: 0, before: nodes()};
  const place = document.querySelector(root);
  document.addEventListener('keydown', () => { probe.pressed = performance.now(); }, true);
  new MutationObserver(() => {
    if (!probe.pressed) return;
    probe.times.push(performance.now() - probe.pressed);
    probe.pressed = 0;
    const now = nodes();
    for (const [name, there] of probe.before) {
      if (!now.has(name)) continue;
      probe.kept += 1;
      if (Math.abs(now.get(name) - there) > 2) probe.moved += 1;
    }
    probe.before = now;
  }).observe(place, {attributes: true, childList: true, subtree: true, attributeFilter: ['data-step']});
  const look = () => {
    probe.frames += 1;
    if (!place.querySelector('svg')) probe.blank += 1;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""

# In JupyterLab: the live player, and a slider that has `dot` draw each step anew.
SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ipywidgets, pygraphviz
from tests.players import busy
from vfiosim.views import live
view = live(busy()[-{LAST}:], only={ONLY!r})
graph = view.player.graph

def picture(step):
    shown = graph.frame(graph.at_step[step - 1] if step else 0)
    drawn = pygraphviz.AGraph(directed=True)
    for node in graph.nodes:
        if shown.get(node.key):
            rows = [row.cell + ": " + shown.get(row.key, "") for row in node.rows]
            drawn.add_node(node.key, shape="box", label=chr(10).join([node.oid, *rows]))
    for edge in graph.edges:
        if shown.get(edge.key):
            drawn.add_edge(edge.holder, edge.target, label=edge.reason)
    svg = drawn.draw(format="svg", prog="dot").decode()
    return svg[svg.index("<svg"):]

slider, html = ipywidgets.IntSlider(max={LAST}), ipywidgets.HTML(picture(0))
html.add_class("redrawn")
slider.observe(lambda change: setattr(html, "value", picture(change.new)), "value")
"""


def percentiles(times: list[float]) -> str:
    """The median and the 95th percentile."""
    return f"p50 {statistics.median(times):6.1f} ms   p95 {sorted(times)[int(len(times) * 0.95)]:6.1f} ms   ({len(times)} keys)"


def long_trace(steps: int) -> Trace:
    """A device that is opened and closed until there are so many steps."""
    machine = Machine()
    vmm = machine.process("vmm")
    while len(machine.trace) < steps:
        for _ in range(20):
            vmm.close(vmm.open("/dev/vfio/devices/vfio0"))
    return machine.trace[:steps]


def scrub(page: Page, keys: list[str], pause: int = 30) -> None:
    """Press keys, each after the page had time to draw."""
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(pause)


def probed(page: Page, title: str) -> None:
    """Say what the probe has seen."""
    probe: dict[str, Any] = page.evaluate("window.probe")
    moved = 100 * probe["moved"] / (probe["kept"] or 1)
    told = f"{probe['blank']} of {probe['frames']} frames blank, {moved:.0f} % of the nodes that stay move"
    print(f"{title:34} {percentiles(probe['times'])}   {told}")


def alone(page: Page, folder: Path, player: Player, title: str) -> None:
    """A page with nothing but the player."""
    (folder / "page.html").write_text(f'<!doctype html><meta charset="utf-8">{player.html()}', "utf-8")
    page.goto((folder / "page.html").as_uri())
    page.locator(".vfiosim-player").focus()
    page.evaluate(PROBE, [".vfiosim-player", ".vfiosim-player"])
    scrub(page, ["ArrowRight"] * (KEYS // 2) + ["ArrowLeft"] * (KEYS // 2))
    probed(page, title)


def in_jupyterlab(page: Page, folder: Path) -> None:
    """The live player and the redrawn picture, in one notebook, one after the other."""
    with chromium.running_jupyterlab(ROOT / "notebooks", folder) as server:
        sent: list[str] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append("sent")))
        server.open(page, server.add("bench.ipynb", SETUP, "view", "ipywidgets.VBox([slider, html])"))
        chromium.run_all(page)
        page.locator(".vfiosim-player").focus()
        page.evaluate(PROBE, [".vfiosim-player", ".vfiosim-player"])
        page.wait_for_timeout(1000)
        before = len(sent)
        for _ in range(KEYS // 2):
            page.keyboard.press("ArrowRight")
        messages = len(sent) - before
        probed(page, "live player in JupyterLab")
        page.wait_for_timeout(500)
        print(f"{'':34} {messages} messages to the kernel while scrubbing, {len(sent) - before} after it")
        page.locator(".widget-slider .noUi-handle").focus()
        page.evaluate(PROBE, [".redrawn", ".redrawn"])
        scrub(page, ["ArrowRight"] * (KEYS // 2), 600)
        probed(page, "one dot call per step, ipywidgets")


def exported(*cells: Any) -> int:
    """The size of a notebook with such outputs as a page, in bytes."""
    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=list(cells)))
    return len(html.encode())


def sizes(player: Player) -> None:
    """What the player adds to an exported notebook."""
    output = nbformat.v4.new_output("execute_result", player._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("show(trace)", outputs=[output])
    more = exported(cell) - exported(nbformat.v4.new_code_cell("show(trace)"))
    print(f"{'exported page, more than empty':34} {more / 1024:.1f} KiB")


def main() -> None:
    """All of it."""
    short = show(busy()[-LAST:], only=ONLY)
    print(f"{len(short.trace)} steps, {len(short.graph.nodes)} nodes, {len(short.graph.edges)} arrows")
    sizes(short)
    core = ("vfio_device", "vfio_group", "iommu_group", "vfio_device_set", "fds", "iommufd_ctx", "thread")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium.find_chromium(), args=chromium.chromium_flags())
        page = running.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(120_000)
        alone(page, Path(folder), short, f"player, {LAST} steps")
        alone(page, Path(folder), show(long_trace(2000), only=core, step=1000), "player, 2,000 steps")
        in_jupyterlab(page, Path(folder))
        running.close()


if __name__ == "__main__":
    main()
