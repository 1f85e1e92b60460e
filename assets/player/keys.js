// What keys do: the actions, numbers of steps, and ways through the picture.

import { ACTIONS, meant } from "./actions.js";
import { element } from "./dom.js";

const PAUSE = 900; // milliseconds after which another digit begins another number

export class Keys {
  /**
   * @param {any} root the player's element
   * @param {{ act: (name: string) => void, jump: (text: string) => void, inGraph: (event: KeyboardEvent) => boolean }} told
   */
  constructor(root, told) {
    this.root = root;
    this.told = told;
    this.typed = "";
  }

  press(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || /^(Tab|F\d+)$/.test(key)) return;
    event.stopPropagation(); // a key that means nothing here may mean "delete this cell" to the page around it
    if (key !== "Escape" && target.matches("input, select")) return;
    if (target.matches(".node") && this.told.inGraph(event)) return this.taken(event);
    if ((key === " " || key === "Enter") && target.matches("button, summary, a")) return;
    const name = meant(event);
    if (name) this.told.act(name);
    else if (/^\d$/.test(key)) this.digit(key);
    else return;
    this.taken(event);
  }

  // What a key has hidden cannot keep the focus: without it the next key would be lost.
  taken(event) {
    event.preventDefault();
    const at = document.activeElement;
    if (!this.root.contains(at) || !at.getClientRects().length) this.root.focus();
  }

  digit(digit) {
    clearTimeout(this.typing);
    this.typed += digit;
    this.typing = setTimeout(() => {
      this.typed = "";
    }, PAUSE);
    this.told.jump(this.typed);
  }
}

// All of them, as a table.
export function keyTable() {
  const key = (shown, tells) =>
    element("tr", {}, element("td", {}, element("kbd", {}, shown)), element("td", {}, tells));
  const rows = [...ACTIONS.values()].map(({ shown, tells }) => key(shown, tells));
  rows.push(
    key("0–9", "go to the step of this number"),
    key("Tab, ↑ ↓, Enter", "reach a node of the graph; follow it"),
    key("↑ ↓, PageUp, PageDown", "on the slider: a step, a phase"),
  );
  return element("table", {}, element("tbody", {}, ...rows));
}
