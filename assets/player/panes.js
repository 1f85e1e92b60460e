// What opens below the picture of a sandbox comes to the screen with the picture, as tall as there is room beside it.

import { scrolls } from "./reveal.js";

const MOVES = ["wheel", "keydown", "pointerdown"]; // with which a reader goes somewhere
const SETTLES = 3000; // milliseconds: what is in it comes a little later, and JupyterLab measures its cell after that

function bringPanes(panes) {
  const scroller = scrolls(panes), lab = panes.closest(".vfiosim-lab"), player = lab?.querySelector(".vfiosim-player");
  if (!scroller || !player) return;
  const box = (part) => part.getBoundingClientRect();
  const view = box(scroller), first = lab.querySelector(".vfiosim-answered") ?? player;
  const room = view.height - (box(player).bottom - box(first).top) - 16;
  panes.style.setProperty("--room", `${Math.max(0, room)}px`);
  const missing = box(panes).bottom + 4 - view.bottom;
  scroller.scrollTop += Math.max(missing, Math.min(0, box(first).top - view.top)); // up again where that has become free
}

function renderPanes({ el }) {
  el.style.width = "100%"; // so that it is noticed when it comes to the page
  const known = new Set();
  let panes = null, open = null, until = 0;
  const leave = () => until = 0; // who goes somewhere else is left alone
  for (const move of MOVES) addEventListener(move, leave, { capture: true, passive: true });
  const watch = new ResizeObserver(() => {
    panes ??= el.parentElement?.closest(".vfiosim-panes") ?? null;
    const parts = [...panes?.querySelectorAll(":scope > .widget-vbox") ?? []];
    for (const part of parts.filter((one) => !known.has(one))) {
      known.add(part); // each for itself: one may take the place of another that was as large
      watch.observe(part);
    }
    const now = parts.find((one) => one.offsetHeight) ?? null;
    if (now === open) return;
    open = now;
    until = performance.now() + SETTLES;
    const again = () => {
      if (!open || now !== open || performance.now() > until) return;
      bringPanes(panes);
      setTimeout(again, 100);
    };
    again();
  });
  watch.observe(el);
  return () => {
    watch.disconnect();
    for (const move of MOVES) removeEventListener(move, leave, { capture: true });
  };
}

export default { render: renderPanes };
