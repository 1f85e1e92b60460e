// What the step changed, where it is in the code, its effects; and all about what the reader follows.

import { control, element, settled } from "./dom.js";

// The statement that these lines of code begin with, as one line.
function statement(lines) {
  const open = (text) => text.split("(").length - text.split(")").length;
  let found = lines[0].trim();
  for (const line of lines.slice(1)) {
    if (open(found) <= 0) break;
    found += ` ${line.trim()}`;
  }
  return found.replaceAll("( ", "(").replaceAll(" )", ")").replaceAll(",)", ")");
}

const NO_CHANGE = "After a call stands here what each of its steps changed, and where in the code.";

function section(title, ...content) {
  return element("section", {}, element("div", { class: "title" }, title), ...content);
}

export class FactsView {
  /**
   * @param {{ go: (step: number) => void, effect: (frame: number) => void, edge: (key: string) => void, leave: () => void,
   *   light: (names: string[]) => void }} told
   */
  constructor(told) {
    this.told = told;
    this.follow = element("div", { class: "follow" });
    this.facts = element("div", { class: "facts" });
    this.root = element("div", { class: "side" }, this.follow, this.facts);
    this.asked = false;
    this.lit = []; // the names on the ways that are told
  }

  load(run) {
    this.run = run;
    this.key = null;
    this.follow.replaceChildren();
  }

  /** @param {import("./run.js").Moment} moment */
  show(moment) {
    this.moment = moment;
    const sections = moment.base === null ? [] : [this.compared(moment)];
    if (moment.open.has("details")) sections.push(...(moment.told ? this.details(moment) : [this.nothing()]));
    this.facts.replaceChildren(...sections);
    const current = /** @type {HTMLElement} */ (this.facts.querySelector("li.current"));
    const list = current && current.parentElement;
    if (current) settled(this, () => list.scrollTop = current.offsetTop - list.offsetTop - 40);
    this.mark();
  }

  // Before the first step: what will stand here.
  nothing() {
    const first = this.run.last ? "Next → shows what the first step changed, and where in the code." : NO_CHANGE;
    return section("Changed", element("p", {}, `Nothing yet. ${first}`));
  }

  // A room sees no code.
  details(moment) {
    const { changes } = moment.effect || moment.told;
    const items = changes.map((text) => element("li", {}, text));
    return [
      section("Changed", items.length ? element("ul", { class: "changes" }, ...items) : element("p", {}, "Nothing.")),
      ...(moment.presenter ? [] : [...(moment.open.has("source") ? [] : this.where(moment)), ...this.effects(moment)]),
    ];
  }

  where({ told, effect }) {
    const { file, line, first, lines, kernel, origin, known } = this.run.place(effect || told) ?? {};
    const code = () => element("pre", { class: "source" }, statement(lines.slice(line - first, line - first + 8)));
    return [
      ...(kernel
        ? [section("Kernel", element("code", { class: "kernel" }, kernel), element("div", { class: "where" }, origin))]
        : []),
      ...(file
        ? [
          section(
            "Python",
            element("div", { class: "where" }, `${file}:${line}`),
            code(),
            element("div", { class: "known" }, known),
          ),
        ]
        : []),
    ];
  }

  effects({ step, told, effect, frame }) {
    const first = this.run.endOf(step - 1);
    const items = this.run.data.effects.slice(first, told.frame).map((one, index) =>
      element("li", {
        class: effect && first + index + 1 === frame ? "current" : "",
        onclick: () => this.told.effect(first + index + 1),
      }, one.text)
    );
    const list = control("ol", { tabindex: 0, "aria-label": "Details of this step" }, ...items);
    return items.length ? [section(items.length === 1 ? "1 detail" : `${items.length} details`, list)] : [];
  }

  compared({ base, now }) {
    const there = this.run.moments.at(this.run.endOf(base));
    const told = Object.keys(there).map((key) => this.run.parts.tell(key, there[key] || "", now[key] || "")).filter(
      Boolean,
    );
    const items = told.length ? told : ["Nothing is different."];
    return section(
      `Since step ${base}`,
      control(
        "ul",
        { class: "compared", tabindex: 0, "aria-label": "What is different" },
        ...items.map((text) => element("li", {}, text)),
      ),
    );
  }

  // Begin to follow a node or an edge by its key, or end it with null.
  about(key) {
    this.key = key;
    this.light([]);
    this.stubs = null;
    this.follow.replaceChildren();
    if (!key) return;
    const { parts } = this.run;
    const node = parts.parts[key][0] === "node";
    this.entries = this.run.history(parts.about(key), key);
    const name = node ? parts.oid(key) : parts.ends(key);
    const close = control("button", { "aria-label": "End following", title: "Escape", onclick: this.told.leave }, "✕");
    const items = this.entries.map(([step, text]) =>
      element(
        "li",
        {},
        control("button", {
          "data-to": step,
          onclick: () => this.told.go(step),
        }, `${step}. ${text.startsWith(`${name}.`) ? text.slice(name.length + 1) : text}`),
      )
    );
    this.answer = control("div", {
      class: "why",
      tabindex: 0,
      role: "group",
      "aria-label": "Why it is alive",
      "aria-live": "polite",
    });
    this.follow.append(
      element("div", { class: "following" }, element("span", { class: "title" }, `Following ${name}`), close),
    );
    if (node && !/^\+\d+ /.test(name)) this.follow.append(this.question(), this.answer);
    this.follow.append(
      items.length
        ? element("ul", { class: "history", "aria-label": `Changes of ${name}` }, ...items)
        : element("p", {}, "It does not change in these steps."),
    );
    if (node) {
      this.follow.append(this.stubs = element("ul", { class: "stubs", "aria-label": "Counted, but not drawn" }));
    }
    if (node) this.arrows(key);
    if (node) this.fields(key);
    this.mark();
  }

  // Who holds what is followed, and is not drawn: by counter, at this moment.
  unseen() {
    const { parts } = this.run.parts;
    const stubs = Object.keys(parts).filter((key) => parts[key][0] === "stub" && parts[key][1] === this.key);
    const told = stubs.filter((key) => this.moment.now[key]);
    return told.map((key) => `${parts[parts[key][2]][2]}, not drawn: ${this.moment.now[key].replace(/^.*?: /, "")}`);
  }

  question() {
    return control(
      "button",
      { class: "ask", "aria-expanded": "false", title: "w", onclick: () => this.ask() },
      "Why is it alive?",
    );
  }

  // What the rows of a box mean, for who has only keys.
  fields(key) {
    const { parts } = this.run.parts;
    const rows = Object.values(parts).filter(([sort, node]) => sort === "row" && node === key);
    const told = rows.map(([, , cell, , oid]) => [cell, this.run.data.fields[`${oid.split(" ")[0]}.${cell}`]]);
    const items = told.filter(([, says]) => says).map(([cell, says]) =>
      element("li", {}, element("b", {}, cell), ` ${says}`)
    );
    if (!items.length) return;
    this.follow.append(
      element(
        "details",
        {},
        control("summary", {}, "What its fields mean"),
        element("ul", { class: "fields" }, ...items),
      ),
    );
  }

  arrows(key) {
    const { parts } = this.run;
    const edges = parts.touching(key).map((edge) =>
      element("li", {}, control("button", { onclick: () => this.told.edge(edge) }, parts.ends(edge)))
    );
    if (edges.length) {
      this.follow.append(
        element(
          "details",
          {},
          control("summary", {}, `${edges.length} arrow${edges.length > 1 ? "s" : ""} to follow`),
          element("ul", {}, ...edges),
        ),
      );
    }
  }

  // The steps in which what is followed changes; null if nothing is.
  changing() {
    return this.key ? [...new Set(this.entries.map(([step]) => step))] : null;
  }

  // Ask why it is alive, or end that; false if nothing is followed that can be asked about.
  ask() {
    if (!this.key || !this.follow.querySelector(".ask")) return false;
    this.asked = !this.asked;
    this.mark();
    return true;
  }

  mark() {
    if (!this.key) return;
    for (const one of /** @type {Iterable<any>} */ (this.follow.querySelectorAll("[data-to]"))) {
      one.toggleAttribute("aria-current", Number(one.dataset.to) === this.moment.step);
    }
    if (this.stubs) this.stubs.replaceChildren(...this.unseen().map((text) => element("li", {}, text)));
    const ask = this.follow.querySelector(".ask");
    if (!ask) return;
    ask.setAttribute("aria-expanded", this.asked);
    const { lines, names } = this.asked
      ? this.run.holders(this.run.parts.oid(this.key), this.moment)
      : { lines: [], names: [] };
    const [head, ...ways] = lines;
    const said = head ? [element("p", {}, head), element("ul", {}, ...ways.map((way) => element("li", {}, way)))] : [];
    if (this.answer.textContent !== lines.join("")) this.answer.replaceChildren(...said);
    this.light(names);
  }

  // Bring out in the picture what is on the ways.
  light(names) {
    if (String(names) !== String(this.lit)) this.told.light(this.lit = names);
  }
}
