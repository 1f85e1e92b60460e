// Lines to be put in order: a line is dragged to its place, or goes there with Alt and an arrow key. The kernel moves it, says so,
// and puts the focus on it. Where a line is dropped is looked up when it is, so it does not matter when the rows come to the page.

import { keepKeys } from "./kept_keys.js";

const ROW = ".vfiosim-order-row";

function renderOrder({ model, el }) {
  let drag = null; // the row that is dragged, where it was taken, and where it would be put
  const rowsAround = (target) => {
    const list = el.closest(".vfiosim-order");
    const row = target.closest?.(ROW);
    return list && row && list.contains(row) ? [row, [...list.querySelectorAll(ROW)]] : [null, []];
  };
  const move = (from, to) => model.send({ move: [from, to] });

  const take = (event) => {
    const [row, rows] = rowsAround(event.target);
    if (!row || event.button || event.target.closest("button")) return;
    event.preventDefault(); // no text is selected
    drag = { row, rows, from: rows.indexOf(row), to: rows.indexOf(row), y: event.clientY };
    row.classList.add("vfiosim-dragged");
  };
  const pull = (event) => {
    if (!drag) return;
    const { row, rows, from, y } = drag;
    row.style.transform = `translateY(${event.clientY - y}px)`;
    const above = rows.filter((one) => one !== row).filter((one) => {
      const { top, height } = one.getBoundingClientRect();
      return top + height / 2 < event.clientY;
    });
    drag.to = above.length;
    const place = rows[drag.to];
    for (const one of rows) {
      one.classList.toggle("vfiosim-drop-above", one === place && drag.to < from);
      one.classList.toggle("vfiosim-drop-below", one === place && drag.to > from);
    }
  };
  const letGo = (dropped) => {
    if (!drag) return;
    const { row, rows, from, to } = drag;
    drag = null;
    row.style.transform = "";
    for (const one of rows) one.classList.remove("vfiosim-dragged", "vfiosim-drop-above", "vfiosim-drop-below");
    if (dropped && to !== from) move(from, to);
  };
  const drop = () => letGo(true);
  const cancel = () => letGo(false);
  const press = (event) => {
    if (event.key === "Escape") cancel();
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const [row, rows] = rowsAround(event.target);
    if (!row || !by || !event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(rows.indexOf(row), rows.indexOf(row) + by);
  };
  const heard = { pointerdown: take, pointermove: pull, pointerup: drop, pointercancel: cancel, keydown: press };
  for (const name of Object.keys(heard)) addEventListener(name, heard[name], true);
  return () => Object.keys(heard).forEach((name) => removeEventListener(name, heard[name], true));
}

export default { initialize: keepKeys, render: renderOrder };
