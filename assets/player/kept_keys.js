// What is typed into the lab stays in the lab: a letter on a button, a list or a field is no command of JupyterLab's, which would
// cut the cell or make another of it (`lumino.js`). Seen with JupyterLab 4.6 and ipywidgets 8.1, whose controls do not ask for it.
// One listener for the page, before all others, that looks at where the key was pressed and at nothing else: so it does not matter
// when a cell is put on the page, taken away or scrolled back.

import { KEEPS_KEYS } from "./lumino.js";

const LAB = ".vfiosim-lab";
const FIELDS = "input, select, textarea";
const INSTALLED = Symbol.for("vfiosim: keys stay in the lab");

function stays(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter")) return false;
  return event.key.length === 1 || Boolean(event.target.closest(FIELDS));
}

function keep(event) {
  const [name] = Object.keys(KEEPS_KEYS);
  const { target } = event;
  if (!target.closest?.(LAB) || target.hasAttribute(name) || !stays(event)) return;
  target.setAttribute(name, "true"); // for this key: with Shift+Enter or Ctrl+S the notebook goes on as ever
  setTimeout(() => target.removeAttribute(name));
}

export function keepKeys() {
  if (globalThis[INSTALLED]) return;
  globalThis[INSTALLED] = true;
  addEventListener("keydown", keep, true);
}
