// Playing: one step after the other, at one of three speeds.

const PERIODS = { slow: 4000, normal: 2200, fast: 1000 }; // milliseconds for a step
export const SPEEDS = Object.keys(PERIODS);

export class Playing {
  /** @param {{ tick: () => boolean, changed: (plays: boolean) => void }} told `tick` does a step, and tells whether there are more */
  constructor({ tick, changed }) {
    this.tick = tick;
    this.changed = changed;
    this.speed = "normal";
    this.timer = null;
  }

  start() {
    this.changed(true);
    this.timer = setInterval(() => {
      if (!this.tick()) this.stop();
    }, PERIODS[this.speed]);
  }

  stop() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    this.changed(false);
  }

  at(speed) {
    this.speed = speed;
    if (this.timer) {
      this.stop();
      this.start();
    }
  }

  // The speed that is so many faster, or slower, than this one.
  faster(by) {
    return SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(this.speed) + by))];
  }
}
