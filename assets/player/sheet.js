// Something to read: the list of keys, over everything else; the legend, below the picture, which stays as it is.

import { control, element } from "./dom.js";

export class Sheet {
  /** @param {string} label @param {() => void} close @param {Element} content @param {boolean} over */
  constructor(label, close, content, over = true) {
    this.over = over;
    this.button = control("button", { onclick: close }, "Close");
    this.root = element(
      "div",
      over
        ? { class: "sheet over", role: "dialog", "aria-label": label, popover: "manual" } // nothing around it cuts it off
        : { class: "sheet below", role: "region", "aria-label": label },
      this.button,
      content,
    );
    this.root.hidden = true;
  }

  // Show it, or put it away. While it lies over all nothing else can be reached; what had the focus gets it back.
  /** @param {boolean} wanted */
  open(wanted) {
    if (wanted === !this.root.hidden) return;
    const around = this.root.parentElement;
    if (!this.over) {
      if (this.root.contains(document.activeElement)) around.focus();
      this.root.hidden = !wanted;
      const seen = () => [this.root, around].forEach((one) => one.scrollIntoView({ block: "nearest" }));
      if (wanted) requestAnimationFrame(seen); // the picture has got smaller by then
      return;
    }
    if (wanted) this.returnTo = document.activeElement;
    this.root.hidden = !wanted;
    this.root.togglePopover(wanted);
    for (const part of /** @type {Iterable<any>} */ (around.children)) part.inert = wanted && part !== this.root;
    (wanted ? this.button : around.contains(this.returnTo) ? this.returnTo : around).focus();
  }
}
