// What opens below the picture of a sandbox comes to the screen with the picture, as tall as there is room beside it.

import { scrolls } from "./reveal.js";

const LEAST = 250; // pixels
const SETTLES = 3000; // milliseconds: what is in it comes a little later, and JupyterLab measures its cell after that

// `begun` is where the page stood when it opened, and where it was scrolled to since; who scrolls it away is left alone.
function bringPanes(panes, begun) {
  const scroller = scrolls(panes), lab = panes.closest(".vfiosim-lab"), player = lab?.querySelector(".vfiosim-player");
  if (!scroller || !player) return;
  const box = (part) => part.getBoundingClientRect();
  const view = box(scroller), first = lab.querySelector(".vfiosim-answered") ?? player;
  const room = view.height - (box(player).bottom - box(first).top) - 16;
  panes.style.setProperty("--room", `${Math.max(LEAST, room)}px`);
  begun.at ??= begun.now = scroller.scrollTop;
  if (Math.abs(scroller.scrollTop - begun.now) > 1) return;
  const missing = box(panes).bottom + 4 - view.bottom + scroller.scrollTop - begun.at;
  scroller.scrollTop = begun.at + Math.max(0, missing);
  begun.now = scroller.scrollTop;
}

function renderPanes({ el }) {
  el.style.width = "100%"; // so that it is noticed when it comes to the page
  let panes = null, open = null;
  const watch = new ResizeObserver(() => {
    if (panes !== el.parentElement?.closest(".vfiosim-panes")) {
      panes = el.parentElement?.closest(".vfiosim-panes") ?? null;
      if (panes) watch.observe(panes);
    }
    const now = [...panes?.querySelectorAll(":scope > .widget-vbox") ?? []].find((one) => one.offsetHeight) ?? null;
    if (now === open) return;
    const [begun, until] = [{}, performance.now() + SETTLES];
    const again = () => {
      if (now !== open || performance.now() > until) return;
      bringPanes(panes, begun);
      setTimeout(again, 100);
    };
    if (open = now) again();
  });
  watch.observe(el);
  return () => watch.disconnect();
}

export default { render: renderPanes };
