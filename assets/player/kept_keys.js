// What is typed into the lab stays in the lab: a letter on a button, a list or a field is no command of JupyterLab's, which would
// cut the cell or make another of it (`lumino.js`). Seen with JupyterLab 4.6 and ipywidgets 8.1, whose controls do not ask for it.
// And the keys that a picture is walked through with are for the picture beside the button that was pressed.
// One listener for the page, before all others, that looks at where the key was pressed and at nothing else: so it does not matter
// when a cell is put on the page, taken away or scrolled back.

import { KEEPS_KEYS } from "./lumino.js";

const LAB = ".vfiosim-lab";
const FIELDS = "input, select, textarea";
const PLAYER = ".vfiosim-player";
const WALKS = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last" };
const INSTALLED = Symbol.for("vfiosim: keys stay in the lab");

function stays(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter")) return false;
  return event.key.length === 1 || Boolean(event.target.closest(FIELDS));
}

// The one player of the lab that a pressed button is in, if the key has no meaning of its own there.
function beside(target, key) {
  if (!target.matches?.("button, summary, a") || target.closest(PLAYER)) return null;
  for (let lab = target.closest(LAB); lab; lab = lab.parentElement?.closest(LAB)) {
    if (lab.querySelector(`.vfiosim-key-${key.toLowerCase()}`)) return null;
    const seen = [...lab.querySelectorAll(PLAYER)].filter((one) => one.vfiosim && one.checkVisibility());
    if (seen.length) return seen.length === 1 ? seen[0].vfiosim : null;
  }
  return null;
}

let last = null; // what has had the focus last: a button that cannot be pressed again loses it

function walk(event) {
  const { key } = event;
  const target = event.target === document.body && last?.matches("button:disabled") ? last : event.target;
  if (!(key in WALKS) || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey) return false;
  const player = beside(target, key);
  if (!player) return false;
  event.preventDefault();
  event.stopImmediatePropagation();
  player.act(WALKS[key]);
  return true;
}

function keep(event) {
  const [name] = Object.keys(KEEPS_KEYS);
  const { target } = event;
  if (walk(event) || !target.closest?.(LAB) || target.hasAttribute(name) || !stays(event)) return;
  target.setAttribute(name, "true"); // for this key: with Shift+Enter or Ctrl+S the notebook goes on as ever
  setTimeout(() => target.removeAttribute(name));
}

export function keepKeys() {
  if (globalThis[INSTALLED]) return;
  globalThis[INSTALLED] = true;
  addEventListener("keydown", keep, true);
  addEventListener("focusin", ({ target }) => last = target);
  addEventListener("pointerdown", () => last = null, true); // with the focus it comes again
}
