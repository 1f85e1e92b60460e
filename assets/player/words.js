// What is told of a step: its phase and other marks, and the sentence. It has the height of the longest one: nothing below
// it moves from step to step.

import { control, element } from "./dom.js";

export class WordsView {
  constructor() {
    this.phase = control("button", { class: "chip" });
    this.chips = element("span", { class: "chips" });
    this.sentence = element("span", { class: "sentence" });
    this.context = element("span", { class: "context" });
    this.longest = element("div", { class: "longest", "aria-hidden": "true" });
    const said = element("div", { class: "said" }, this.chips, this.sentence, " ", this.context);
    this.root = element("div", { class: "say", "aria-live": "polite" }, said, this.longest);
  }

  load({ last, steps, lanes }) {
    this.last = last;
    this.alone = lanes.names.length < 2;
    const most = (texts) => texts.reduce((one, other) => (other.length > one.length ? other : one), "");
    const marks = (one) => `${one.phase}${one.refused}${one.waits ? "waits" : ""}${this.alone ? "" : one.thread}`;
    const chip = element("span", { class: "chip" }, most(steps.map(marks)));
    this.longest.replaceChildren(chip, " ", most(steps.map(({ sentence }) => sentence)));
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, told, effect, base, presenter }) {
    const chip = (name, text) => element("span", { class: `chip ${name}` }, text);
    this.phase.className = told ? `chip phase-${told.phase}` : "chip start";
    this.phase.dataset.word = told ? told.phase : "";
    this.phase.textContent = told ? told.phase : "start";
    const chips = presenter ? [chip("place", `${step} / ${this.last}`)] : [];
    if (base !== null) chips.push(chip("base", `against step ${base}`));
    const after = [];
    if (told?.refused) after.push(chip("errno", `✕ ${told.refused}`));
    if (told?.waits) after.push(chip("waits", "waits"));
    if (told && !this.alone) after.push(chip("thread", told.thread));
    if (effect) after.push(chip("effect", "detail"));
    for (const old of [...this.chips.children]) if (old !== this.phase) old.remove(); // it may have the focus
    if (!this.phase.parentElement) this.chips.append(this.phase);
    this.chips.prepend(...chips);
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
