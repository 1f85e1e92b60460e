// The running function: what it is in the kernel, and our lines of it, with the one that runs.

import { control, element, settled } from "./dom.js";

const NO_LINE_YET = "No code has run yet. Next → shows the line of the first step.";
const NO_LINE = "No code has run yet. After a call stands here the line of each step, and the function around it.";

// No line is cut: as many as there is room for, with the current one in their middle.
function whole(code, current) {
  const high = parseFloat(getComputedStyle(current).lineHeight);
  code.style.maxHeight = "";
  code.style.maxHeight = `${Math.floor(code.clientHeight / high) * high}px`;
  code.scrollTop = Math.round((current.offsetTop - code.clientHeight / 2) / high) * high;
}

export class SourceView {
  constructor() {
    this.title = element("span", { class: "where" });
    this.kernel = element("div", { class: "mirrors" });
    this.known = element("span", { class: "known" });
    this.ours = element("div", { class: "ours" }, element("span", {}, "our lines: "), this.title, " ", this.known);
    this.code = control("div", {
      class: "code",
      tabindex: 0,
      role: "group",
      "aria-label": "Source of the running function",
    });
    this.root = element(
      "section",
      { class: "function", "aria-label": "Source" },
      element("div", { class: "title" }, "Source"),
      this.kernel,
      this.ours,
      this.code,
    );
  }

  load(run) {
    this.run = run;
    this.shown = null;
    this.current = null;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ told, effect, open }) {
    if (!open.has("source")) return;
    const place = told && this.run.place(effect || told);
    if (told && !place) return; // its code comes in a moment
    if (this.shown !== (place?.number ?? -1)) this.build(place);
    if (this.current) {
      this.current.classList.remove("current");
      this.current.removeAttribute("aria-current");
    }
    this.code.hidden = !place;
    this.ours.firstChild.hidden = !place;
    if (!place) this.title.textContent = this.run.last ? NO_LINE_YET : NO_LINE;
    this.current = place ? this.code.children[place.line - place.first] : null;
    if (!this.current) return;
    this.title.textContent = `${place.file}:${place.line}`;
    this.known.textContent = `· ${place.known}`;
    this.current.classList.add("current");
    this.current.setAttribute("aria-current", "true");
    const { code, current } = this; // its box is where offsets begin
    settled(this, () => whole(code, current));
  }

  build(place) {
    this.shown = place?.number ?? -1;
    const { first, lines, kernel, origin, link } = place || { first: 1, lines: [""], kernel: "", origin: "", link: "" };
    this.code.replaceChildren(
      ...lines.map((line, index) =>
        element("div", { class: "line" }, element("span", { class: "no" }, first + index), element("code", {}, line))
      ),
    );
    this.title.textContent = this.known.textContent = "";
    const file = link ? control("a", { href: link, target: "_blank", rel: "noreferrer" }, origin) : origin;
    this.kernel.replaceChildren(...(kernel ? [element("code", {}, kernel), ", ", file] : []));
  }
}
