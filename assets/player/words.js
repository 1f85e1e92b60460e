// What is told of a step: its phase and other marks, and the sentence. It has the height of the longest one: nothing below
// it moves from step to step.

import { control, element } from "./dom.js";

const chip = (name, text) => element("span", { class: `chip ${name}` }, text);

// Is it an errno, and not e.g. "use after free"?
export const refusal = (text) => /^E[A-Z0-9]+$/.test(text);

export class WordsView {
  constructor() {
    this.phase = control("button", { class: "chip" });
    this.chips = element("span", { class: "chips" });
    this.sentence = element("span", { class: "sentence" });
    this.context = element("span", { class: "context" });
    this.longest = element("div", { class: "longest", "aria-hidden": "true" });
    const said = element("div", { class: "said" }, this.chips, element("span", {}, this.sentence, " ", this.context));
    this.root = element("div", { class: "say", "aria-live": "polite" }, said, this.longest);
  }

  load({ last, steps, lanes }) {
    this.last = last;
    this.alone = lanes.names.length < 2;
    const letters = (one) =>
      one.sentence.length + this.marks(one).reduce((all, { textContent }) => all + textContent.length + 3, 0);
    const longest = steps.reduce((one, other) => (one && letters(one) >= letters(other) ? one : other), null);
    const marks = longest ? [chip("", longest.phase), ...this.marks(longest)] : [];
    for (const mark of marks) mark.className = "measure";
    if (longest) marks.unshift(element("span", { class: "measure place" }, `${last} / ${last}`));
    this.longest.replaceChildren(element("span", { class: "measures" }, ...marks), longest?.sentence ?? "");
  }

  // What is marked after the phase of a step.
  marks(told) {
    return [
      ...(told.refused ? [chip("errno", `✕ ${told.refused}`)] : []),
      ...(told.again && !this.brief ? [chip("again", "again")] : []), // on a walk the phases between may be left out
      ...(told.waits ? [chip("waits", "waits")] : []),
      ...(this.alone ? [] : [chip("thread", told.thread)]),
    ];
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, told, effect, base, presenter, brief }) {
    this.brief = brief;
    this.phase.className = told ? `chip phase-${told.phase}` : "chip start";
    this.phase.dataset.word = told ? told.phase : "";
    this.phase.textContent = told ? told.phase : "start";
    const chips = presenter ? [chip("place", `${step} / ${this.last}`)] : [];
    if (base !== null) chips.push(chip("base", `against step ${base}`));
    const after = told ? this.marks(told) : [];
    if (effect) after.push(chip("effect", "detail"));
    for (const old of [...this.chips.children]) if (old !== this.phase) old.remove(); // it may have the focus
    if (!this.phase.parentElement) this.chips.append(this.phase);
    this.chips.prepend(...chips);
    for (const mark of after) if (mark.classList.contains("again")) mark.dataset.word = told.phase;
    this.chips.append(...after);
    this.sentence.textContent = effect ? effect.text : told ? told.sentence : this.beginning(presenter);
    this.context.textContent = effect ? told.sentence : "";
  }

  // What is said at step 0.
  beginning(presenter) {
    if (!this.last) return "No steps yet: this is how things stand.";
    return presenter ? "Before the first step." : "Before the first step. Next → or the key → goes on.";
  }
}
