// What keys do: the actions, numbers of steps, and ways through the picture.

import { ACTIONS, FIRST, GROUPS, meant } from "./actions.js";
import { control, element } from "./dom.js";

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

/** @type {[string, string][]} what is no action: the key as told, and what it does */
const OTHERS = [
  ["0–9", "go to the step of this number"],
  ["Tab, ↑ ↓, Enter", "reach a node of the graph; follow it"],
  ["↑ ↓, PageUp, PageDown", "on the slider: a step, a phase"],
];

function table(keys) {
  const rows = keys.map(([shown, tells]) =>
    element("tr", {}, element("td", {}, element("kbd", {}, shown)), element("td", {}, tells))
  );
  return element("table", {}, element("tbody", {}, ...rows));
}

// Those that matter first; all of them, by what they are for, behind a word.
export function keyTable() {
  const told = (names) => names.map((name) => [ACTIONS.get(name).shown, ACTIONS.get(name).tells]);
  const groups = Object.entries(GROUPS).map(([title, names]) => [title, told(names)]);
  const all = [...groups, ["Elsewhere", OTHERS]].map(([title, keys]) =>
    element("section", {}, element("b", {}, title), table(keys))
  );
  const more = element("details", {}, control("summary", {}, "All keys"), element("div", { class: "keys" }, ...all));
  return element("div", {}, table(told(FIRST)), more);
}
