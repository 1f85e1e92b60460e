// What is told of a step: its phase and other marks, and the sentence.

import { element } from "./dom.js";

export class WordsView {
  /** @param {boolean} presenter */
  constructor(presenter) {
    this.presenter = presenter;
    this.chips = element("span", { class: "chips" });
    this.sentence = element("span", { class: "sentence" });
    this.context = element("div", { class: "context" });
    this.root = element(
      "div",
      { class: "say", "aria-live": "polite" },
      this.chips,
      element("div", {}, this.sentence, this.context),
    );
  }

  load({ last }) {
    this.last = last;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, told, effect, base }) {
    const chips = [];
    const chip = (name, text) => chips.push(element("span", { class: `chip ${name}` }, text));
    if (this.presenter) chip("place", `${step} / ${this.last}`);
    if (base !== null) chip("base", `against step ${base}`);
    if (!told) chip("start", "start");
    else {
      chip(`phase-${told.phase}`, told.phase);
      if (told.refused) chip("errno", `✕ ${told.refused}`);
      if (told.waits) chip("waits", "waits");
      chip("thread", told.thread);
      if (effect) chip("effect", "detail");
    }
    this.chips.replaceChildren(...chips);
    this.sentence.textContent = effect ? effect.text : told ? told.sentence : this.beginning();
    this.context.textContent = effect ? told.sentence : "";
  }

  // What is said at step 0.
  beginning() {
    if (!this.last) return "No steps yet: this is how things stand.";
    return this.presenter ? "Before the first step." : "Before the first step. Next → or the key → goes on.";
  }
}
