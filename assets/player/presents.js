// The presenter's switch on the page, by the rules of anywidget: the notebook in which it stands is presented while it is on.

const PANE = "--vfiosim-pane"; // how high the notebook is

function renderSwitch({ model, el }) {
  /** @type {HTMLElement} */
  let place = document.body;
  const sized = new ResizeObserver(([{ contentRect }]) => place.style.setProperty(PANE, `${contentRect.height}px`));
  const show = () => {
    place = el.closest(".jp-NotebookPanel") ?? document.body;
    place.classList.toggle("vfiosim-presented", model.get("on"));
    /** @type {NodeListOf<import("./player.js").Player["root"]>} */
    const players = place.querySelectorAll(".vfiosim-player");
    for (const { vfiosim } of players) vfiosim.room(model.get("on"));
    const outer = place.querySelector(".jp-WindowedPanel-outer");
    if (outer) sized.observe(outer);
  };
  model.on("change:on", show);
  requestAnimationFrame(show);
  return () => sized.disconnect();
}

export default { render: renderSwitch };
