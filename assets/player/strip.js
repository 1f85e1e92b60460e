// All steps in one row, as colours.

import { element } from "./dom.js";

export class StripView {
  /** @param {{ go: (step: number) => void }} told */
  constructor({ go }) {
    this.go = go;
    this.root = element("div", { class: "strip", "aria-hidden": "true" });
  }

  load({ steps }) {
    this.mark = 0;
    this.root.replaceChildren(...steps.map((one, number) =>
      element("span", {
        class: `phase-${one.phase}${one.refused ? " refused" : ""}`,
        title: `${number + 1}. ${one.sentence}`,
        onclick: () => this.go(number + 1),
      })
    ));
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step }) {
    const marks = this.root.children;
    for (let one = Math.min(this.mark, step); one < Math.max(this.mark, step); one++) {
      marks[one].classList.toggle("done", one < step);
    }
    if (this.mark) marks[this.mark - 1].classList.remove("current");
    if (step) marks[step - 1].classList.add("current");
    this.mark = step;
  }
}
