// What a word means: the pointer on it, or the focus, says it in a sentence, with a link to the kernel's file.

import { control, element } from "./dom.js";
import { SHOWN } from "./legend.js";
import { refusal } from "./words.js";

const COME = 350, GO = 300; // milliseconds: for a pointer that rests, and for one on its way to the link

// What the number at the end of the name of a file says.
const numbered = (name) =>
  name.replace(/^.*?(\S+)#(\d+)$|^.*$/, (_, of, n) => n ? ` #${n}: number ${n} of the files of ${of}.` : "");

export class Tips {
  /** @param {HTMLElement} around what the words are in */
  constructor(around) {
    this.around = around;
    this.root = element("div", {
      class: "tip",
      role: "tooltip",
      popover: "manual", // over all, and cut off by nothing
      id: `vfiosim-tip-${Math.random().toString(36).slice(2)}`,
    });
    this.root.hidden = true;
    const owner = (
      { target },
    ) => (target instanceof Element && !this.root.contains(target) ? this.owner(target) : null);
    // A pointer that moves: what comes to lie under one that rests has not been pointed at.
    around.addEventListener("pointermove", (event) => {
      this.soon(this.root.contains(/** @type {Node} */ (event.target)) ? this.of : owner(event));
    });
    around.addEventListener("pointerleave", () => this.soon(null));
    document.addEventListener("scroll", () => (this.of || this.next) && this.show(null), {
      capture: true,
      passive: true,
    });
    around.addEventListener("focusin", (event) => {
      const target = /** @type {Element} */ (event.target); // of the slider that of the part where it stands
      const part = target.matches(".tracks") ? target.querySelector(".current[data-word]") : owner(event);
      if (target.matches(":focus-visible")) this.show(part ?? this.kept(event));
    });
    around.addEventListener("keydown", ({ key }) => { // who walks by keys reads the sentence
      if (this.of && /^(Arrow.*|Home|End|[a-z])$/.test(key)) this.show(null);
    }, { capture: true });
    around.addEventListener("click", (event) => {
      const one = owner(event);
      if (around.classList.contains("selecting")) { // who chooses boxes wants to see what is chosen
        this.show(null);
        this.next = one;
        return;
      }
      if (one?.matches("button, .stub")) this.show(one === this.of && one.matches("button") ? null : one);
    });
  }

  // The tip stays while its link has the focus.
  kept({ target }) {
    return this.root.contains(target) ? this.of : null;
  }

  load({ data }) {
    this.data = data;
    this.parts = data.parts;
    this.show(null);
  }

  // What is said of a part, with the name of what it is said of; null if nothing is.
  entry(part) {
    const [sort, , cell, , oid] = this.parts[part.dataset.key] ?? [];
    if (sort === "stub") return this.unseen(part);
    const { refused } = part.dataset;
    if (refused) {
      return { word: `✕ ${refused}`, says: refusal(refused) ? "The call is refused here." : "It goes wrong here." };
    }
    if (part.matches(".again")) {
      return {
        word: "again",
        says: `A call can come back to a phase: ${part.dataset.word} was there before in this call.`,
      };
    }
    const name = part.dataset.word ?? (sort === "row" ? oid : part.dataset.part ?? part.dataset.oid);
    const word = name?.split(" ")[0];
    const known = this.data.glossary[word];
    if (sort !== "row") {
      return known ? { word, ...known, says: known.says + numbered(name) + this.joined(part, name) } : null;
    }
    const says = this.data.fields[`${word}.${cell}`];
    return says ? { ...known, word: cell, says } : null;
  }

  // Why a box has several names: for one of them, what the others are to it.
  joined(part, name) {
    const node = part.closest(".node");
    if (!node || node.querySelectorAll(".title").length < 2) return ""; // it tells one of them only
    const parts = JSON.parse(node.dataset.parts ?? "[]"), [first, ...rest] = parts;
    if (!rest.includes(name) && name !== first) return "";
    if (!first.startsWith("file ")) {
      return ` One box with ${parts.filter((one) => one !== name).join(", ")}: they come and go together.`;
    }
    return name === first
      ? ` Its private_data is ${rest.join(" with ")}: nothing else holds that, so both are one box.`
      : ` ${first} carries it as its private_data, and nothing else holds it: so both are one box.`;
  }

  // Who holds what a counter counts, and is not drawn.
  unseen(part) {
    const [number, who] = part.querySelector("title").textContent.split(": ");
    return who ? { word: number, says: `${who}: ${number === "+1" ? "it is" : "they are"} not in the picture` } : null;
  }

  owner(target) {
    const part = target.closest("[data-word], .stub, .row, .title, .node");
    return part && this.entry(part) ? part : null;
  }

  soon(part) {
    if (part === this.next) return;
    clearTimeout(this.timer);
    this.next = part;
    if (part !== this.of) this.timer = setTimeout(() => this.show(part), part ? COME : GO);
  }

  // Show what the word of this part means, beside it; null hides that.
  show(part) {
    clearTimeout(this.timer);
    this.of?.removeAttribute("aria-describedby");
    this.of = this.next = part;
    this.root.hidden = !part;
    if (this.root.isConnected) this.root.togglePopover(Boolean(part));
    if (!part) return;
    const { word, says, file, link } = this.entry(part);
    const more = link ? [" ", control("a", { href: link, target: "_blank", rel: "noreferrer" }, file)] : [];
    this.root.replaceChildren(element("b", {}, SHOWN[word] ?? word), " ", says, ...more);
    part.setAttribute("aria-describedby", this.root.id);
    const { left, right, top, bottom } = (part.closest(".node") ?? part).getBoundingClientRect();
    this.place({ left, right, bottom, top: part.closest(".foot")?.getBoundingClientRect().top ?? top }); // over no button
  }

  // Below the whole box, above it or beside it: where it hides least of what is needed.
  place({ left, right, top, bottom }) {
    const { offsetWidth: wide, offsetHeight: high } = this.root;
    const needed = [...this.around.querySelectorAll(".stage .node:not(.off), .say, .foot")];
    const boxes = needed.map((one) => one.getBoundingClientRect());
    /** @param {number[]} spot */
    const hides = ([x, y]) =>
      [...boxes, { left, right, top, bottom }].reduce((all, box) => {
        const across = Math.min(x + wide, box.right) - Math.max(x, box.left);
        const down = Math.min(y + high, box.bottom) - Math.max(y, box.top);
        return all + Math.max(0, across) * Math.max(0, down);
      }, 0);
    /** @param {number[]} spot */
    const within = ([x, y]) => [
      Math.max(8, Math.min(x, innerWidth - wide - 8)),
      Math.max(8, Math.min(y, innerHeight - high - 8)),
    ];
    const across = [left, right - wide, (left + right - wide) / 2], down = [top, bottom - high];
    const spots = [
      ...[bottom + 4, top - high - 4].flatMap((y) => across.map((x) => [x, y])),
      ...[right + 4, left - wide - 4].flatMap((x) => down.map((y) => [x, y])),
    ].map(within);
    const [x, y] = spots.reduce((best, one) => (hides(one) < hides(best) ? one : best));
    Object.assign(this.root.style, { left: `${x}px`, top: `${y}px` });
  }
}
