// Every count that changes, over the steps: drawn in Python once, with a line here that follows; or as rows of letters.

import { control, drawn, element } from "./dom.js";

export class CountersView {
  constructor() {
    this.root = element("section", { class: "counters", "aria-label": "Counters" });
  }

  load({ data: { counters }, last }) {
    this.data = counters;
    this.last = last;
    const names = Object.keys(counters.counts);
    this.values = names.map(() => element("td", { class: "now" }));
    const rows = names.map((name, row) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, name),
        element("td", { class: "spark", "aria-hidden": "true" }, this.spark(counters.counts[name])),
        this.values[row],
      )
    );
    const head = element(
      "tr",
      {},
      ...["Count", "Over the steps", "Now"].map((title) => element("th", { scope: "col" }, title)),
    );
    this.table = element(
      "table",
      { class: counters.svg ? "hidden" : "" },
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    );
    this.root.replaceChildren(element("div", { class: "title" }, "Counters"));
    this.line = null;
    if (!names.length) this.root.append(element("p", {}, "No count changes in these steps."));
    else this.root.append(this.table);
    if (counters.hint) this.root.append(element("p", { class: "hint" }, counters.hint));
    if (counters.svg) this.draw();
  }

  draw() {
    const box = this.root.appendChild(
      control("div", { class: "drawing", tabindex: 0, role: "group", "aria-label": "Drawing of the counters" }),
    );
    box.innerHTML = this.data.svg;
    const svg = box.querySelector("svg");
    for (
      const [name, value] of [["role", "img"], [
        "aria-label",
        "How each count changes over the steps; the table has its value now",
      ]]
    ) svg.setAttribute(name, value);
    const [, , , height] = svg.getAttribute("viewBox").split(" ");
    svg.removeAttribute("height");
    this.line = svg.appendChild(drawn("line", { class: "cursor", y1: 0, y2: height }));
  }

  spark(values) {
    const all = Array.from(
      { length: Math.min(this.last + 1, 60) },
      (_, place, of = Math.min(this.last, 59) || 1) => this.value(values, Math.round((place / of) * this.last)),
    );
    const most = Math.max(1, ...all);
    return all.map((value) => (value === null ? "·" : "▁▂▃▄▅▆▇█"[Math.round((value / most) * 7)])).join("");
  }

  value(values, step) {
    let found = null;
    for (const [since, value] of values) if (since <= step) found = value;
    return found;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, open }) {
    Object.values(this.data.counts).forEach((values, row) => {
      this.values[row].textContent = this.value(values, step) ?? "–";
    });
    if (!this.line) return;
    const x = this.data.from + (this.last ? (step / this.last) * (this.data.to - this.data.from) : 0);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    if (open.has("counters")) this.follow(x);
  }

  // Scroll to where the line is, if it would be out of sight.
  follow(x) {
    const svg = this.line.ownerSVGElement;
    const box = svg.parentElement;
    const [, , width] = svg.getAttribute("viewBox").split(" ");
    const [at, room] = [(x * svg.clientWidth) / width, box.clientWidth];
    if (at < box.scrollLeft + 20 || at > box.scrollLeft + room - 20) box.scrollLeft = at - room / 2;
  }
}
