// Keys of a race: each presses the button that has it as a class, "vfiosim-key-a" or, with Shift, "vfiosim-key-shifta".

import { keepKeys } from "./kept_keys.js";
import { KEEPS_KEYS } from "./lumino.js";

const WRITES = "input:not([type=checkbox]):not([type=radio]), textarea, select, .vfiosim-player";

function pressKey(root, event) {
  if (event.ctrlKey || event.metaKey || event.target.closest(WRITES)) return;
  const key = /^Key[A-Z]$/.test(event.code) ? event.code[3].toLowerCase() : event.key.toLowerCase();
  if (!/^([a-z0-9]|home|end)$/.test(key)) return;
  const held = (event.shiftKey ? "shift" : "") + (event.altKey ? "alt" : "");
  const button = root.querySelector(`button.vfiosim-key-${held}${key}`);
  if (!button) return;
  event.preventDefault();
  event.stopPropagation();
  if (!button.disabled) button.click();
}

// The lab around it is looked for when something happens in it: at first, and again when a cell comes back, it is not on the page.
function renderKeys({ el }) {
  const around = (event) => {
    const root = el.closest(".vfiosim-lab");
    return root?.contains(event.target) ? root : null;
  };
  const listen = (event) => {
    const root = around(event);
    if (root) pressKey(root, event);
  };
  const keep = (event) => mark(around(event));
  const mark = (root) => {
    if (!root) return;
    root.tabIndex = -1; // a press beside the controls is enough to use the keys
    for (const one of [root, ...root.querySelectorAll("button")]) {
      for (const [name, value] of Object.entries(KEEPS_KEYS)) one.setAttribute(name, value);
    }
  };
  requestAnimationFrame(() => mark(el.closest(".vfiosim-lab")));
  const heard = { keydown: listen, focusin: keep, pointerdown: keep };
  for (const name of Object.keys(heard)) addEventListener(name, heard[name]);
  return () => Object.keys(heard).forEach((name) => removeEventListener(name, heard[name]));
}

export default { initialize: keepKeys, render: renderKeys };
