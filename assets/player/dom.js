// Elements of the page and of a drawing, made in one go.

import { KEEPS_KEYS } from "./lumino.js";

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Something that can have the focus.
export function control(tag, attributes, ...children) {
  const own = tag === "button" ? { type: "button" } : {};
  return element(tag, { ...KEEPS_KEYS, ...own, ...attributes }, ...children);
}

export function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const waiting = new Map();

// Measure and scroll once all that a press changes stands, with the next frame: to ask for a size in between lays the page out anew.
// Of one owner only what it wanted last is done.
export function settled(owner, scroll) {
  if (!waiting.size) {
    requestAnimationFrame(() => {
      const all = [...waiting.values()];
      waiting.clear();
      for (const one of all) one();
    });
  }
  waiting.set(owner, scroll);
}

// Change how high something is, and let this part stay where the reader has it under the pointer.
export function inPlace(part, change) {
  const before = part.getBoundingClientRect().top;
  change();
  const scrolls = (one) => one.scrollHeight > one.clientHeight && /auto|scroll/.test(getComputedStyle(one).overflowY);
  let around = part.parentElement;
  while (around && !scrolls(around)) around = around.parentElement;
  (around ?? document.scrollingElement).scrollBy({
    top: part.getBoundingClientRect().top - before,
    behavior: "instant",
  });
}
