// A lane for each thread: its steps, the locks that it holds, whom it waits for. With one thread a single row.

import { element } from "./dom.js";

export const LETTERS = { validate: "V", block: "B", lock: "L", acquire: "A", publish: "P", unwind: "U" };

export class LanesView {
  /** @param {{ go: (step: number) => void }} told */
  constructor({ go }) {
    this.go = go;
    this.root = element("div", { class: "lanes" });
  }

  load(run) {
    const { lanes, steps } = run;
    this.run = run;
    this.lanes = lanes;
    this.count = Math.max(steps.length, 1);
    this.cursor = element("div", { class: "cursor" });
    this.segments = [];
    const alone = lanes.names.length < 2;
    this.states = lanes.names.map(() => element("span", { class: "state" }));
    const tracks = lanes.names.map((_, lane) => this.track(lane, steps, alone));
    const names = lanes.names.map((name, lane) => {
      const label = element("div", { class: "name" }, element("span", {}, name), this.states[lane]);
      label.style.height = tracks[lane].style.height;
      return label;
    });
    this.scroller = element(
      "div",
      { class: "scroller", "aria-hidden": "true" },
      element("div", { class: "tracks" }, ...tracks, this.cursor),
    );
    this.scroller.firstChild.style.minWidth = `${this.count * 1.35}em`;
    this.root.classList.toggle("alone", alone);
    const column = element("div", { class: "names" }, ...names);
    if (!alone) column.style.width = `${this.longest()}ch`;
    this.root.replaceChildren(column, this.scroller);
    this.current = null;
  }

  track(lane, steps, alone) {
    const made = element("div", { class: "track" });
    const bars = this.lanes.bars.filter((bar) => bar[0] === lane);
    const levels = Math.max(0, ...bars.map((bar) => bar[5] + 1));
    const height = alone ? 0.35 : 1.5;
    made.style.height = `${2 + levels * height}em`;
    steps.forEach((step, number) => {
      if (this.lanes.steps[number] !== lane) return;
      const sign = step.refused ? "✕" : step.waits ? "…" : LETTERS[step.phase] || "";
      const segment = element("span", {
        class: `segment phase-${step.phase}${step.refused ? " refused" : ""}`,
        title: `${number + 1}. ${step.phase}: ${step.sentence}`,
        onclick: () => this.go(number + 1),
      }, sign);
      this.span(segment, number + 1, number + 2);
      this.segments[number] = segment;
      made.append(segment);
    });
    for (const [, sort, first, end, text, level] of bars) {
      const words = `${sort === "waits" ? "waits for" : "holds"} ${text}`;
      const bar = element("span", { class: `lock ${sort}`, title: words }, alone ? "" : words);
      this.span(bar, Math.max(first, 1), end);
      bar.style.top = `${2 + level * height}em`;
      made.append(bar);
    }
    return made;
  }

  span(part, first, end) {
    part.style.left = `${((first - 1) / this.count) * 100}%`;
    part.style.width = `${((end - first) / this.count) * 100}%`;
  }

  // How many letters ever stand beside a lane: with a place for them the lanes stay where they are.
  longest() {
    const states = this.lanes.bars.map(([lane, , first]) => this.run.status(lane, first).join(", "));
    return Math.max(...[...this.lanes.names, ...states].map((text) => text.length), 0);
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step }) {
    this.span(this.cursor, step, step + 1);
    this.cursor.hidden = step === 0;
    if (this.current) this.current.classList.remove("current");
    this.current = this.segments[step - 1];
    if (this.current) this.current.classList.add("current");
    this.states.forEach((state, lane) => {
      const text = this.run.status(lane, step).join(", ");
      if (state.textContent !== text) {
        state.textContent = text;
        state.title = text;
      }
    });
    const width = this.count * 20;
    if (width > 800) {
      const [from, all] = [(step - 1) / this.count, this.scroller.scrollWidth];
      if (all > this.scroller.clientWidth) this.scroller.scrollLeft = from * all - this.scroller.clientWidth / 2;
    }
  }
}
