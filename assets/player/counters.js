// Every count that changes, over the steps: a line for each, drawn when it is first looked at, and one that follows the step.

import { control, drawn, element, settled } from "./dom.js";

// In units of the drawing. `LETTER` is about as wide as a letter of a name; more changes than `MANY` have no numbers at their line.
const [WIDTH, ROW, LETTER, MANY] = [864, 38, 9.4, 40];

export class CountersView {
  constructor() {
    this.root = element("section", { class: "counters", "aria-label": "Counters" });
  }

  load({ data: { counters }, last }) {
    this.counts = Object.entries(counters);
    this.last = last;
    this.line = null;
    this.values = this.counts.map(() => element("td"));
    const rows = this.counts.map(([name], row) =>
      element("tr", {}, element("th", { scope: "row" }, name), this.values[row])
    );
    const head = element("tr", {}, ...["Count", "Now"].map((title) => element("th", { scope: "col" }, title)));
    const table = element("table", { class: "hidden" }, element("thead", {}, head), element("tbody", {}, ...rows));
    const none = element("p", {}, "No count changes in these steps.");
    this.root.replaceChildren(element("div", { class: "title" }, "Counters"), this.counts.length ? table : none);
  }

  draw() {
    const longest = Math.max(...this.counts.map(([name]) => name.length));
    this.most = Math.max(...this.counts.flatMap(([, values]) => values.map(([, value]) => value))) || 1; // of any: equal is equally high
    this.from = Math.min(0.55 * WIDTH, 20 + longest * LETTER);
    const high = ROW * (this.counts.length + 0.8);
    const svg = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${high}`,
      role: "img",
      "aria-label": "How each count changes over the steps; the table has its value now",
    });
    this.counts.forEach(([name, values], row) => svg.append(...this.row(name, values, row)));
    const every = round(this.last / 14);
    for (let step = 0; step <= this.last; step += every) svg.append(label(this.x(step), high - 6, step, "middle"));
    this.line = svg.appendChild(drawn("line", { class: "cursor", y1: 0, y2: high }));
    const group = { class: "drawing", tabindex: 0, role: "group", "aria-label": "Drawing of the counters" };
    this.root.append(control("div", group, svg));
  }

  // One count: its name, and a line that steps up and down between the bottom and the top of its row.
  row(name, values, row) {
    const bottom = ROW * (row + 0.92);
    const [path, numbers] = [[], []];
    values.forEach(([step, value], place) => {
      if (value === null) return;
      const [x, y] = [this.x(step), bottom - (0.55 * ROW * value) / this.most];
      const before = place ? values[place - 1][1] : null;
      path.push(before === null ? `M${x} ${y}` : `V${y}`, `H${this.x(values[place + 1]?.[0] ?? this.last)}`);
      if (values.length <= MANY) numbers.push(label(x + 4, y - 3, value, "start"));
    });
    const line = drawn("path", { class: "count", d: path.join(" ") });
    const [x1, x2, y] = [this.x(0), this.x(this.last), ROW * (row + 0.97)];
    const ground = drawn("line", { class: "ground", x1, x2, y1: y, y2: y });
    return [ground, line, label(x1 - 10, bottom, name, "end"), ...numbers];
  }

  x(step) {
    return this.from + (step / (this.last || 1)) * (WIDTH - 20 - this.from);
  }

  value(values, step) {
    let found = null;
    for (const [since, value] of values) if (since <= step) found = value;
    return found;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, open }) {
    this.counts.forEach(([, values], row) => {
      this.values[row].textContent = this.value(values, step) ?? "–";
    });
    if (!open.has("counters") || !this.counts.length) return;
    if (!this.line) this.draw();
    const x = this.x(step);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    settled(this, () => this.follow(x));
  }

  // Scroll to where the line is, if it would be out of sight.
  follow(x) {
    const svg = this.line.ownerSVGElement;
    const box = svg.parentElement;
    const [at, room] = [(x * svg.clientWidth) / WIDTH, box.clientWidth];
    if (at < box.scrollLeft + 20 || at > box.scrollLeft + room - 20) box.scrollLeft = at - room / 2;
  }
}

function label(x, y, text, anchor) {
  const made = drawn("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}

// The next number of 1, 2, 5, 10, 20, 50, ...
function round(size) {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(size || 1)));
  return [1, 2, 5, 10].map((first) => first * power).find((step) => step >= size) ?? 1;
}
