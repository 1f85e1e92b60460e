// The list of keys, over everything else.

import { ACTIONS } from "./actions.js";
import { control, element } from "./dom.js";

export class Sheet {
  constructor(close) {
    const key = (shown, tells) =>
      element("tr", {}, element("td", {}, element("kbd", {}, shown)), element("td", {}, tells));
    const rows = [...ACTIONS.values()].map(({ shown, tells }) => key(shown, tells));
    rows.push(
      key("0–9", "go to the step of this number"),
      key("Tab, ↑ ↓, Enter", "reach a node of the graph; follow it"),
      key("──▶ from a row", "an arrow that is counted: it holds what it leads to"),
      key("─ ─▷ dashed", "a pointer that is not counted: it holds nothing"),
      key("↑ ↓, PageUp, PageDown", "on the slider: a step, a phase"),
    );
    this.button = control("button", { onclick: close }, "Close");
    this.root = element(
      "div",
      { class: "sheet", role: "dialog", "aria-label": "Keys", popover: "manual" }, // nothing around it cuts it off
      this.button,
      element("table", {}, element("tbody", {}, ...rows)),
    );
    this.root.hidden = true;
  }

  // Show it, with nothing else to be reached meanwhile, or give back what had the focus.
  open(wanted) {
    const around = this.root.parentElement;
    if (wanted) this.returnTo = document.activeElement;
    this.root.hidden = !wanted;
    this.root.togglePopover(wanted);
    for (const part of /** @type {Iterable<any>} */ (around.children)) part.inert = wanted && part !== this.root;
    (wanted ? this.button : around.contains(this.returnTo) ? this.returnTo : around).focus();
  }
}
