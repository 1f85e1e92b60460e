// What the picture is written in: its strokes and colours, and what each word in it means, with the kernel's file.

import { control, drawn, element } from "./dom.js";

export const SHOWN = { thread: "call", fds: "descriptors" }; // how a box of this kind is headed
/** @type {[string, string, string][]} the class of an arrow or a row, what it is, and what it says */
const STROKES = [
  ["edge counted", "arrow", "holds: what it leads to stays; counted at its end"],
  ["edge weak", "dashed arrow", "knows, does not hold"],
  ["edge counted new", "arrow, new", "just taken"],
  ["edge weak new", "dashed arrow, new", "this step has set the pointer"],
  ["edge counted gone", "line with −", "just given back"],
  ["edge waits", "dotted arrow", "waits for it"],
  ["edge harm", "heavy arrow", "freed memory, or an endless wait"],
  ["row changed", "1→2", "this step has changed it"],
  ["row read", "2", "looked at: by this step"],
  ["row harmed", "0", "contradicts another value"],
  ["row", "names", "two of a box: structs that come and go together, as a file and its private_data"],
  ["row row-count", "2", "so many hold it"],
  ["row stub", "+1", "a holder not drawn: click for its name"],
];

function sample(kind, text) {
  const svg = drawn("svg", {
    class: "vfiosim-graph",
    viewBox: "0 0 74 24",
    width: 74,
    height: 24,
    "aria-hidden": "true",
  });
  const part = svg.appendChild(drawn("g", { class: kind }));
  if (kind.startsWith("edge")) {
    part.append(
      drawn("path", { class: "line", d: "M4 12H60" }),
      drawn("path", { class: "tip", d: "M70 12L59 6.500V17.500Z" }),
    );
    const minus = part.appendChild(drawn("g", { class: "minus" }));
    minus.append(drawn("circle", { cx: 34, cy: 12, r: 9 }), drawn("path", { d: "M29 12h10" }));
  } else {
    part.append(drawn("rect", { class: "bar", x: 4, y: 2, width: 66, height: 20 }));
    part.append(drawn("text", { class: "value", x: 64, y: 17 }));
    part.lastChild.textContent = text;
  }
  return svg;
}

// The marks that a first picture has, in one line above it.
export function marks() {
  return [0, 2, 4, 8, 11, 12].map((n) => {
    const [kind, text, says] = STROKES[n], svg = sample(kind, text);
    svg.removeAttribute("class"); // it is no picture of its own: the line is
    return element("span", {}, svg, says.split(":")[0]);
  });
}

export class LegendView {
  constructor() {
    this.root = element("div", { class: "legend" });
  }

  load({ data }) {
    this.data = data;
    this.root.replaceChildren();
  }

  // Made when it is asked for.
  fill() {
    const { glossary = {}, fields = {} } = this.data;
    const strokes = STROKES.map(([kind, name, says]) => {
      const said = kind.startsWith("edge") ? [element("b", {}, `${name}:`), " "] : [];
      return element("li", {}, sample(kind, name), element("span", {}, ...said, says));
    });
    const entries = Object.entries(glossary).map(([word, { says, file, link }]) => {
      const own = Object.keys(fields).filter((name) => name.startsWith(`${word}.`));
      const rows = own.map((name) => [element("b", {}, name.slice(word.length + 1)), ` ${fields[name]}`]);
      if (link) rows.unshift([control("a", { href: link, target: "_blank", rel: "noreferrer" }, file)]);
      const said = [element("b", {}, SHOWN[word] ?? word), ` ${says}`];
      if (!rows.length) return element("p", {}, ...said);
      const list = element("ul", {}, ...rows.map((row) => element("li", {}, ...row)));
      return element("details", {}, control("summary", {}, ...said), list);
    });
    const title = control("summary", {}, "What the names of the boxes and their rows mean");
    const words = element("details", { class: "meanings" }, title, element("div", { class: "glossary" }, ...entries));
    this.root.replaceChildren(element("ul", { class: "strokes" }, ...strokes), words);
  }
}
