// Going from step to step, from effect to effect, along a walk, and by itself. It knows where the reader is; what extends it shows that.

import { inPlace } from "./dom.js";

const ALL = "Now with every box and every field. “All fields” again: only those of the walk.";
const FEW = "Now with the boxes and fields of the walk only.";

export class Moving {
  /** @param {any} root */
  constructor(root) {
    this.root = root;
    /** @type {number | null} the step that is compared with */
    this.base = null;
    /** @type {any} what is walked through */
    this.run = null;
    this.step = 0; // counts from 1, 0 is before the first
    /** @type {any} where the reader is, with the `frame`: the number of effects done */
    this.moment = null;
    this.brief = false; // is there more to see than is shown?
    this.full = false; // the reader wants all there is to see, whatever comes
    /** @type {any} */
    this.whole = null;
    /** @type {any} */
    this.playing = null;
    /** @type {any} the row of buttons */
    this.bar = null;
  }

  // What extends this does these.
  show(_frame, _before, _effect) {}
  load(_data, _step, _brief) {}
  again() {}
  complain(_text) {}
  tell(_text) {}

  goTo(step) {
    if (this.brief && step > 0 && step < this.run.last && !this.run.stops.includes(step)) {
      return this.finer(() => this.goTo(step));
    }
    this.step = Math.max(0, Math.min(this.run.last, Math.round(step) || 0));
    this.show(this.run.endOf(this.step), this.run.before(this.step), null);
  }

  // Show all there is, and do this.
  finer(move) {
    const brief = this.brief;
    if (brief) this.all(true);
    move();
    if (brief) this.tell(ALL); // a move ends what was told before it
  }

  // Show all there is, or the brief picture, at the last of its stops up to here.
  all(wanted) {
    this.full = wanted;
    inPlace(this.bar.first, () => this.load(this.whole, wanted ? this.step : this.upTo(this.step)));
    this.tell(wanted ? ALL : FEW);
  }

  // The last stop of the walk up to a step.
  upTo(step) {
    return step === this.run.last ? step : this.run.stops.filter((stop) => stop <= step).pop() ?? 0;
  }

  // Go to a step, or as near to it as a brief picture goes, in the direction of it.
  near(step) {
    const { stops } = this.run;
    if (!this.brief) this.goTo(step);
    else this.goTo(step > this.step ? stops.find((stop) => stop >= step) ?? step : this.upTo(step));
  }

  // What was written into the field; anything but a step of this trace is said to be none, and moves nothing.
  jumpTo(text) {
    this.playing.stop();
    if (this.known(text)) this.goTo(Number(text));
  }

  known(text) {
    const is = /^[0-9]+$/.test(text) && Number(text) <= this.run.last;
    if (!is) {
      this.complain(`${text ? `There is no step ${text}` : "A number is missing"}: write 0 to ${this.run.last}.`);
    }
    return is;
  }

  move(by) {
    if (this.moment.effect && by > 0 && this.moment.frame < this.run.endOf(this.step)) this.goTo(this.step);
    else this.goTo(this.run.stops.length ? this.halt(by) : this.step + by);
  }

  // The next or the last stop of the walk from here.
  halt(by) {
    const { stops, last } = this.run;
    return by > 0
      ? stops.find((stop) => stop > this.step) ?? last
      : stops.filter((stop) => stop < this.step).pop() ?? 0;
  }

  effect(by) {
    this.goToEffect(this.moment.frame + by);
  }

  goToEffect(frame) {
    if (frame < 0 || frame >= this.run.data.changes.length) return;
    if (frame === 0) {
      this.goTo(0);
      return;
    }
    this.step = this.run.stepOf(frame);
    this.show(frame, frame - 1, this.run.data.effects[frame - 1]);
  }

  // The next or the last of these steps that is after or before this one.
  seek(by, steps, what) {
    const found = by > 0 ? steps.find((step) => step > this.step) : steps.filter((step) => step < this.step).pop();
    if (found === undefined) this.complain(`There is no ${what} ${by > 0 ? "after" : "before"} step ${this.step}.`);
    else this.goTo(found);
  }

  compare(base) {
    this.base = base;
    this.again();
  }

  compareWith(text) {
    if (text === "") this.compare(null);
    else if (this.known(text)) this.compare(Number(text));
  }

  // ---- playing

  toggle() {
    if (this.playing.timer) this.playing.stop();
    else {
      if (this.step >= this.run.last) this.goTo(0);
      this.playing.start();
    }
  }

  tick() {
    if (this.root.isConnected && this.step < this.run.last) this.move(1);
    return this.root.isConnected && this.step < this.run.last;
  }

  faster(by) {
    this.bar.speed.value = this.playing.faster(by);
    this.playing.at(this.bar.speed.value);
  }

  stop() {
    this.playing.stop();
  }
}
