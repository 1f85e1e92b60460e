// Something to read over everything else: the list of keys, the legend.

import { control, element } from "./dom.js";

export class Sheet {
  /** @param {string} label @param {() => void} close @param {...Element} content */
  constructor(label, close, ...content) {
    this.button = control("button", { onclick: close }, "Close");
    this.root = element(
      "div",
      { class: "sheet", role: "dialog", "aria-label": label, popover: "manual" }, // nothing around it cuts it off
      this.button,
      ...content,
    );
    this.root.hidden = true;
  }

  // Show it, with nothing else to be reached meanwhile, or give back what had the focus.
  open(wanted) {
    if (wanted === !this.root.hidden) return;
    const around = this.root.parentElement;
    if (wanted) this.returnTo = document.activeElement;
    this.root.hidden = !wanted;
    this.root.togglePopover(wanted);
    for (const part of /** @type {Iterable<any>} */ (around.children)) part.inert = wanted && part !== this.root;
    (wanted ? this.button : around.contains(this.returnTo) ? this.returnTo : around).focus();
  }
}
