// What the views show: a trace with its steps, and what can be asked about it. It knows nothing of who looks at it.

import { Moments } from "./moments.js";
import { Parts } from "./parts.js";
import { Reasons } from "./reasons.js";

/**
 * Where the reader is: `step` counts from 1, 0 is before the first; `frame` is the number of effects done.
 *
 * @typedef {object} Moment
 * @property {number} step
 * @property {number} frame
 * @property {any} told the step, undefined before the first
 * @property {any} effect the effect, null where a whole step is shown
 * @property {Record<string, string>} now the texts of all keys
 * @property {Record<string, string>} was those to compare with, where they may differ
 * @property {Set<string>} touched the keys that may have another text than before
 * @property {Set<string>} read the keys of the rows that were looked at
 * @property {number | null} base the step that it is compared with
 * @property {Set<string>} open the views that the reader has open
 * @property {boolean} brief whether there is more to see than is shown
 * @property {boolean} presenter whether it is shown to a room: with large letters and no code
 */

export class Run {
  constructor(data) {
    this.data = data;
    this.steps = data.steps;
    this.last = data.steps.length;
    this.stops = data.stops; // where Next goes to, if not to each step
    this.lanes = data.lanes;
    this.moments = new Moments(data.changes);
    this.parts = new Parts(data.parts);
    this.know(data);
  }

  // Why things are alive may be told later than the steps; until then no answer is shown.
  know({ reasons }) {
    this.reasons = reasons && new Reasons(reasons);
  }

  // The number of effects after which a step is done.
  endOf(step) {
    return step > 0 ? this.steps[step - 1].frame : 0;
  }

  // The frame that a step is compared with: of a walk the stop before it; what is refused stands for itself. One that tells what is broken shows what the step before it has changed.
  before(step) {
    const refused = step > 0 && this.steps[step - 1].refused;
    if (this.stops.includes(step) && !refused) return this.endOf(this.stops.filter((stop) => stop < step).pop() ?? 0);
    return refused === "broken" ? this.before(step - 1) : this.endOf(step - 1);
  }

  // The keys of the rows that are looked at after one frame, up to another.
  read(before, after) {
    return new Set(this.data.looks.slice(before + 1, after + 1).flat());
  }

  // The step that an effect belongs to.
  stepOf(frame) {
    return 1 + this.steps.findIndex((one) => one.frame >= frame);
  }

  where(is) {
    return this.steps.flatMap((one, index) => (is(one, index + 1) ? [index + 1] : []));
  }

  changing() {
    return this.where((_, step) => this.moments.between(this.endOf(step - 1), this.endOf(step)).size > 0);
  }

  phases() {
    return this.where((one, step) => step === 1 || this.steps[step - 2].phase !== one.phase);
  }

  errors() {
    return this.where((one) => one.refused);
  }

  // What the code is, and where in it a step or an effect is; null for what has not been told yet.
  place(thing) {
    const [number, line, known] = this.data.places[thing.place] ?? [];
    if (number === undefined) return null;
    const made = this.data.functions[number];
    return { ...made, number, line, known: this.data.known[known], lines: this.data.texts[made.text].split("\n") };
  }

  // What a lane holds and waits for after a step, in words.
  status(lane, step) {
    const bars = this.lanes.bars.filter((bar) => bar[0] === lane && bar[2] <= step && step < bar[3]);
    return bars.map(([, sort, , , text]) => `${sort === "waits" ? "waits for" : "holds"} ${text}`);
  }

  // Why an object is alive at a moment.
  /**
   * @param {string} oid
   * @param {Moment} moment
   */
  why(oid, moment) {
    return this.reasons?.why(oid, this.done(moment)).join("\n") ?? "";
  }

  // The same in words, and the names of all that is on the ways that are told.
  /**
   * @param {string} oid
   * @param {Moment} moment
   */
  holders(oid, moment) {
    const aside = (name, via) => this.parts.aside(name, via);
    return this.reasons?.holders(oid, this.done(moment), aside) ?? { lines: [], names: [] };
  }

  // The last step that is done as a whole.
  done({ step, frame, effect }) {
    return effect && frame < this.endOf(step) ? step - 1 : step;
  }

  // All that happens to some keys over the steps, in words; first what happens to `first`.
  history(keys, first) {
    const entries = [];
    for (let step = 1; step <= this.last; step++) {
      const changes = [...this.moments.between(this.endOf(step - 1), this.endOf(step))];
      changes.sort(([one], [other]) => Number(other === first) - Number(one === first));
      for (const [one, [was, now]] of changes) {
        const text = keys.has(one) ? this.parts.tell(one, was, now) : "";
        if (text) entries.push([step, text]);
      }
    }
    return entries;
  }

  // What makes this run again up to a step, of the text that makes the whole of it; "" where there is none.
  shared(step, text) {
    if (!text) return "";
    const made = this.steps.slice(0, step).filter((one) => one.refused !== "broken"); // what is broken is told, not done
    return `replay("${text}@${this.data.skipped + made.length}")`;
  }
}
