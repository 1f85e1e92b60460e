// In an editor of the lab Tab indents and Shift+Tab takes that back, Enter keeps the indentation; after Escape Tab leads to the
// next control, as everywhere.

import { keepKeys } from "./kept_keys.js";

const EDITOR = ".vfiosim-editor textarea";
const FOUR = "    ";

// Typed, so that the browser's own Undo knows of it.
function type(text) {
  document.execCommand("insertText", false, text);
}

/** @param {HTMLTextAreaElement} field @param {boolean} back */
function indent(field, back) {
  const { selectionStart: from, selectionEnd: to, value } = field;
  const start = value.lastIndexOf("\n", from - 1) + 1;
  if (from === to && !back) return type(FOUR);
  const lines = value.slice(start, to).split("\n");
  const moved = lines.map((line) => (back ? line.replace(/^ {1,4}/, "") : FOUR + line)).join("\n");
  if (moved === lines.join("\n")) return;
  field.setSelectionRange(start, to);
  if (moved) type(moved);
  else document.execCommand("delete");
  const first = back ? Math.min(4, /^ */.exec(lines[0])[0].length) : -4;
  if (from === to) field.setSelectionRange(Math.max(start, from - first), Math.max(start, from - first));
  else field.setSelectionRange(start, start + moved.length);
}

/** @param {HTMLTextAreaElement} field */
function newLine(field) {
  const before = field.value.slice(field.value.lastIndexOf("\n", field.selectionStart - 1) + 1, field.selectionStart);
  type(`\n${/^ */.exec(before)[0]}${/:\s*(#.*)?$/.test(before) ? FOUR : ""}`);
}

const GUTTER = 46;

// In which row each line begins, and how many rows there are: a line that is too broad takes several.
/** @param {HTMLTextAreaElement} field @param {CSSStyleDeclaration} look @param {number} high */
function rows(field, look, high) {
  const twin = document.createElement("div");
  const { font, tabSize, whiteSpace, overflowWrap, paddingRight } = look;
  Object.assign(twin.style, { font, tabSize, whiteSpace, overflowWrap, position: "absolute", visibility: "hidden" });
  twin.style.width = `${field.clientWidth - GUTTER - parseFloat(paddingRight)}px`;
  const lines = field.value.split("\n").map((text) => {
    const line = document.createElement("div");
    line.textContent = text || " ";
    return line;
  });
  twin.append(...lines);
  field.parentElement.append(twin);
  const starts = [0];
  for (const line of lines) starts.push(starts.at(-1) + Math.round(line.offsetHeight / high));
  twin.remove();
  return starts;
}

// The numbers of its lines, which scroll with them.
/** @param {HTMLTextAreaElement} field */
function number(field) {
  if (!field.clientWidth) return;
  const look = getComputedStyle(field);
  const { lineHeight, fontSize, fontFamily, paddingTop } = look;
  const high = parseFloat(lineHeight) || 1.2 * parseFloat(fontSize);
  const starts = rows(field, look, high);
  if (field.dataset.lines === String(starts)) return;
  const lines = starts.at(-1);
  const texts = starts.slice(0, -1).map((row, line) => `<text x="34" y="${(row + 0.75) * high}">${line + 1}</text>`);
  const letters = `font-size="${fontSize}" font-family="${
    fontFamily.replaceAll('"', "'")
  }" fill="#808080" text-anchor="end"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${GUTTER}" height="${lines * high}"><g ${letters}>${
    texts.join("")
  }</g></svg>`;
  field.style.background = `url("data:image/svg+xml,${encodeURIComponent(svg)}") 0 ${paddingTop} no-repeat local`;
  field.style.paddingLeft = `${GUTTER}px`;
  field.dataset.lines = String(starts);
}

// It comes into a page that is loaded again later than what it came with, and may be as broad as nothing until then.
const widths = globalThis.ResizeObserver &&
  new ResizeObserver((seen) => seen.forEach(({ target }) => target instanceof HTMLTextAreaElement && number(target)));

// From now on, too: the kernel may put another text there, of which no event tells.
/** @param {HTMLTextAreaElement} field */
function keepNumbered(field) {
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value");
  const put = (text) => {
    set.call(field, text);
    number(field);
  };
  if (!Object.hasOwn(field, "value")) {
    widths.observe(field);
    Object.defineProperty(field, "value", {
      configurable: true,
      get: () => get.call(field),
      set: put,
    });
  }
  number(field);
}

let leaves = null; // the editor that Tab leaves now

function edit(event) {
  const { target: field, key } = event;
  if (!field.matches?.(EDITOR)) return;
  if (key === "Escape") leaves = field;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (key === "Tab" ? leaves === field : key !== "Enter" || event.shiftKey) {
    if (!["Tab", "Shift", "Escape"].includes(key)) leaves = null;
    return;
  }
  event.preventDefault();
  event.stopPropagation();
  if (key === "Tab") indent(field, event.shiftKey);
  else newLine(field);
}

const INSTALLED_EDITOR = Symbol.for("vfiosim: Tab indents");

export default {
  initialize: () => {
    keepKeys();
    if (globalThis[INSTALLED_EDITOR]) return;
    globalThis[INSTALLED_EDITOR] = true;
    addEventListener("keydown", edit, true);
    addEventListener("focusin", () => (leaves = null));
    for (const seen of ["focusin", "input"]) {
      addEventListener(
        seen,
        ({ target }) => target instanceof HTMLTextAreaElement && target.matches(EDITOR) && keepNumbered(target),
      );
    }
  },
  // It draws nothing but beside the editor that it came with, as soon as that is there.
  // A notebook that is loaded again makes it long before it has a place on the page.
  render: ({ el }) => {
    const waits = setInterval(() => {
      const fields = el.closest(".vfiosim-lab")?.querySelectorAll(EDITOR) ?? [];
      for (const field of fields) keepNumbered(field);
      if (el.isConnected && fields.length) clearInterval(waits);
    }, 100);
    return () => clearInterval(waits);
  },
};
