// Keys of a race: each presses the button that has it as a class, "vfiosim-key-a" or, with Shift, "vfiosim-key-shifta".

// JupyterLab takes keys for commands of its own from whatever has the focus, unless that has this attribute
// (`assets/player/lumino.js`).
const KEEPS_KEYS = "data-lm-suppress-shortcuts";
const WRITES = "input:not([type=checkbox]):not([type=radio]), textarea, select, .vfiosim-player";

function press(root, event) {
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

function render({ el }) {
  let root = null;
  const listen = (event) => press(root, event);
  const keep = () => root.querySelectorAll("button").forEach((one) => one.setAttribute(KEEPS_KEYS, "true"));
  requestAnimationFrame(() => {
    root = el.closest(".vfiosim-lab");
    if (!root) return;
    root.tabIndex = -1;
    root.addEventListener("keydown", listen);
    root.addEventListener("focusin", keep);
    root.addEventListener("pointerdown", keep);
    keep();
    root.setAttribute(KEEPS_KEYS, "true"); // from now on
  });
  return () => {
    root?.removeEventListener("keydown", listen);
    root?.removeEventListener("focusin", keep);
    root?.removeEventListener("pointerdown", keep);
  };
}

export default { render };
