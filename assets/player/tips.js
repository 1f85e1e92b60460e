// What a word means: the pointer on it, or the focus, says it in a sentence, with a link to the kernel's file.

import { control, element } from "./dom.js";

const COME = 350, GO = 300; // milliseconds: for a pointer that rests, and for one on its way to the link

export class Tips {
  /** @param {HTMLElement} around what the words are in */
  constructor(around) {
    this.around = around;
    this.root = element("div", {
      class: "tip",
      role: "tooltip",
      id: `vfiosim-tip-${Math.random().toString(36).slice(2)}`,
    });
    this.root.hidden = true;
    const owner = (
      { target },
    ) => (target instanceof Element && !this.root.contains(target) ? this.owner(target) : null);
    around.addEventListener("pointerover", (event) => {
      if (this.root.contains(/** @type {Node} */ (event.target))) clearTimeout(this.timer);
      else this.soon(owner(event));
    });
    around.addEventListener("pointerleave", () => this.soon(null));
    around.addEventListener("focusin", (event) => {
      if (/** @type {Element} */ (event.target).matches(":focus-visible")) this.show(owner(event) ?? this.kept(event));
    });
    around.addEventListener("click", (event) => {
      const one = owner(event);
      if (one?.matches("button")) this.show(one === this.of ? null : one);
    });
  }

  // The tip stays while its link has the focus.
  kept({ target }) {
    return this.root.contains(target) ? this.of : null;
  }

  load({ data }) {
    this.glossary = data.glossary || {};
    this.show(null);
  }

  word(part) {
    return part.dataset.word ?? part.dataset.oid?.split(" ")[0];
  }

  owner(target) {
    const part = target.closest("[data-word], .node");
    return part && this.word(part) in this.glossary ? part : null;
  }

  soon(part) {
    clearTimeout(this.timer);
    if (part !== this.of) this.timer = setTimeout(() => this.show(part), part ? COME : GO);
  }

  // Show what the word of this part means, below it; null hides that.
  show(part) {
    clearTimeout(this.timer);
    this.of?.removeAttribute("aria-describedby");
    this.of = part;
    this.root.hidden = !part;
    if (!part) return;
    const word = this.word(part);
    const { says, file, link } = this.glossary[word];
    const more = link ? [" ", control("a", { href: link, target: "_blank", rel: "noreferrer" }, file)] : [];
    this.root.replaceChildren(element("b", {}, word), " ", says, ...more);
    part.setAttribute("aria-describedby", this.root.id);
    const [at, all] = [part, this.around].map((one) => one.getBoundingClientRect());
    const left = Math.min(at.left - all.left, all.width - this.root.offsetWidth - 8);
    const below = at.bottom - all.top + 4;
    const above = at.top - all.top - this.root.offsetHeight - 4;
    this.root.style.left = `${Math.max(8, left)}px`;
    this.root.style.top = `${at.bottom + this.root.offsetHeight > innerHeight && above > 0 ? above : below}px`;
  }
}
