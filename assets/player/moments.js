// The texts of all keys at one moment. It goes from moment to moment by what is different, forwards and backwards.
export class Moments {
  constructor(changes) {
    this.changes = changes;
    this.now = {};
    this.frame = changes.length - 1;
    this.olds = changes.map((change) => {
      const old = {};
      for (const key in change) {
        old[key] = this.now[key] || "";
        this.now[key] = change[key];
      }
      return old;
    });
  }

  // Go there; the keys that were touched on the way.
  seek(frame) {
    const touched = new Set();
    const take = (change) => {
      for (const key in change) {
        this.now[key] = change[key];
        touched.add(key);
      }
    };
    while (this.frame < frame) take(this.changes[++this.frame]);
    while (this.frame > frame) take(this.olds[this.frame--]);
    return touched;
  }

  // The texts at another moment, of those keys that may differ there.
  at(frame) {
    /** @type {Record<string, string>} */
    const there = {};
    for (let one = this.frame; one > frame; one--) Object.assign(there, this.olds[one]);
    for (let one = this.frame + 1; one <= frame; one++) Object.assign(there, this.changes[one]);
    return there;
  }

  // What changed after one moment up to a later one: by key what was there, and what is.
  between(before, after) {
    const found = new Map();
    for (let one = before + 1; one <= after; one++) {
      for (const key in this.changes[one]) {
        found.set(key, [found.has(key) ? found.get(key)[0] : this.olds[one][key], this.changes[one][key]]);
      }
    }
    return found;
  }
}
