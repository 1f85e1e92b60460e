// All steps in one row, or in one for each thread: a slider, made of segments with the name of what its steps are for. On
// demand it shows the locks that each thread holds and waits for, below its steps.

import { control, element } from "./dom.js";
import { refusal } from "./words.js";

// Steps of one thread and one phase that follow each other are one segment; what is refused stands alone.
function segments(steps, lanes) {
  const made = [];
  steps.forEach(({ phase, refused }, index) => {
    const [before, lane] = [made.at(-1), lanes[index]];
    if (before && !refused && !before.refused && before.lane === lane && before.phase === phase) before.end = index + 1;
    else made.push({ lane, phase, refused, first: index, end: index + 1 });
  });
  return made;
}

export class Scrubber {
  /** @param {{ go: (step: number) => void }} told */
  constructor({ go }) {
    this.go = go;
    this.names = element("div", { class: "names" });
    this.thumb = element("div", { class: "thumb" });
    this.slider = control("div", {
      class: "tracks",
      role: "slider",
      tabindex: 0,
      "aria-label": "Step",
      "aria-valuemin": 0,
    });
    this.root = element("div", { class: "scrubber" }, this.names, this.slider);
    this.slider.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.slider.setPointerCapture(event.pointerId);
      this.point(event);
    });
    this.slider.addEventListener("pointermove", (event) => {
      if (this.slider.hasPointerCapture(event.pointerId)) this.point(event);
    });
  }

  // Go to the step under the pointer; left of them all is the beginning.
  point({ clientX }) {
    const { left, width } = this.slider.getBoundingClientRect();
    const step = Math.max(0, Math.min(this.run.last, Math.floor(((clientX - left) / width) * this.run.last) + 1));
    if (step !== this.step) this.go(step);
  }

  load(run) {
    const { names, steps } = run.lanes;
    this.run = run;
    this.count = Math.max(run.last, 1);
    this.alone = names.length < 2;
    this.segments = segments(run.steps, steps).map((one) => ({ ...one, part: this.segment(one), done: 0 }));
    const tracks = names.map((_, lane) => this.track(lane));
    this.states = names.map(() => element("span", { class: "state" }));
    this.names.replaceChildren(
      ...names.map((name, lane) => this.lane(lane, "name", element("span", {}, name), this.states[lane])),
    );
    this.names.style.width = `${this.longest()}ch`;
    this.root.classList.toggle("alone", this.alone);
    this.thumb.hidden = !run.last;
    this.slider.replaceChildren(...tracks, this.thumb);
    this.slider.setAttribute("aria-valuemax", run.last);
    this.root.style.setProperty("--lanes", String(Math.max(names.length, 1)));
  }

  track(lane) {
    const bars = this.run.lanes.bars.filter((bar) => bar[0] === lane);
    const locks = bars.map(([, sort, first, end, text, level]) => {
      const words = `${sort === "waits" ? "waits for" : "holds"} ${text}`;
      const bar = element("span", { class: `lock ${sort}`, title: words }, words);
      this.span(bar, Math.max(first, 1) - 1, end - 1);
      bar.style.setProperty("--level", level);
      return bar;
    });
    const steps = this.segments.filter((one) => one.lane === lane).map(({ part }) => part);
    return this.lane(lane, "track", ...steps, element("div", { class: "locks" }, ...locks));
  }

  // A part of a lane, as high as the others of it: there is room for so many locks below each other.
  lane(lane, kind, ...parts) {
    const made = element("div", { class: `lane ${kind}` }, ...parts);
    const levels = this.run.lanes.bars.filter((bar) => bar[0] === lane).map((bar) => bar[5] + 1);
    made.style.setProperty("--levels", String(Math.max(0, ...levels)));
    return made;
  }

  segment({ phase, refused, first, end }) {
    const words = refused ? `✕ ${refused}` : phase;
    const short = refused ? "✕" : phase.length > 4 ? `${phase.slice(0, 3)}.` : phase;
    const made = element("span", {
      class: `segment phase-${phase}${refused ? " refused" : ""}`,
      "data-short": short,
      "data-word": phase,
      ...(refused ? { "data-refused": refused } : {}),
    }, element("span", {}, words));
    this.span(made, first, end);
    return made;
  }

  span(part, first, end) {
    part.style.left = `${(first / this.count) * 100}%`;
    part.style.width = `${((end - first) / this.count) * 100}%`;
  }

  // How many letters ever stand beside a lane: with a place for them the lanes stay where they are.
  longest() {
    const { names, bars } = this.run.lanes;
    const states = bars.map(([lane, , first]) => this.run.status(lane, first).join(", "));
    return Math.max(...[...names, ...states].map((text) => text.length), 0);
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, told }) {
    this.step = step;
    this.thumb.style.left = `${(step / this.count) * 100}%`;
    for (const one of this.segments) {
      const done = Math.max(0, Math.min(1, (step - one.first) / (one.end - one.first)));
      if (done !== one.done) one.part.style.setProperty("--done", `${done * 100}%`);
      one.done = done;
      one.part.classList.toggle("done", done === 1);
      one.part.classList.toggle("current", one.first < step && step <= one.end);
    }
    this.states.forEach((state, lane) => {
      const text = this.run.status(lane, step).join(", ").replaceAll(", holds ", ", ");
      if (state.textContent !== text) {
        state.textContent = text;
        state.title = text;
      }
    });
    const { names, steps } = this.run.lanes;
    const lane = told && !this.alone ? `, ${names[steps[step - 1]]}` : "";
    this.slider.setAttribute("aria-valuenow", step);
    this.slider.setAttribute(
      "aria-valuetext",
      told
        ? `step ${step} of ${this.run.last}, ${told.phase}${lane}${
          told.refused ? `, ${refusal(told.refused) ? "refused with " : ""}${told.refused}` : ""
        }`
        : `before the first of ${this.run.last} steps`,
    );
  }
}
