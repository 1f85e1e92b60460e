// The picture in words: always there for who reads with the ears, and for everybody on request.

import { element } from "./dom.js";

export class TextView {
  constructor() {
    this.list = element("ul");
    this.root = element(
      "section",
      { class: "words", "aria-label": "The picture in words" },
      element("div", { class: "title" }, "In words"),
      this.list,
    );
  }

  load(run) {
    const { parts } = run;
    this.run = run;
    this.nodes = parts.keys.filter((key) => parts.parts[key][0] === "node").map((key) => ({
      key,
      rows: parts.keys.filter((row) => parts.parts[row][0] === "row" && parts.parts[row][1] === key),
      edges: parts.touching(key),
    }));
  }

  /** @param {import("./run.js").Moment} moment */
  show({ now, was, step }) {
    const lines = this.nodes.map((node) => this.line(node, now, was)).filter(Boolean);
    this.run.lanes.names.forEach((name, lane) => {
      const status = this.run.status(lane, step);
      if (status.length) lines.push(`${name} ${status.join(", ")}.`);
    });
    if (!lines.length) lines.push("There is nothing in the picture.");
    this.list.replaceChildren(...lines.map((line) => element("li", {}, line)));
  }

  arrow(sort, other, reason, counter) {
    if (sort === "owns") return `owns ${other}`;
    if (sort === "waits") return `waits for ${other}`;
    if (sort === "held") return `its ${reason} is held by ${other}`;
    const fd = other.startsWith("fds ") && reason.startsWith("fd ") && reason.slice(3);
    if (fd) return `held by descriptor ${fd} of ${other.slice(4)}`;
    return sort === "weak" ? `points at ${other} (${reason})` : `${counter} held by ${other} (${reason})`.trimStart();
  }

  line({ key, rows, edges }, now, was) {
    const { parts } = this.run;
    const before = (one) => (one in was ? was[one] : now[one]) || "";
    if (!now[key]) return before(key) ? `${parts.oid(key)}: gone now.` : "";
    const words = rows.filter((row) => now[row] || before(row)).map((row) => {
      const stub = now[`${row}s`] ? `, not drawn ${now[`${row}s`]}` : "";
      return `${parts.parts[row][2]} ${now[row] || "–"}${
        before(row) && before(row) !== now[row] ? ` (was ${before(row)})` : ""
      }${stub}`;
    });
    for (const edge of edges) {
      const [, holder, target, sort, reason, , into] = parts.parts[edge];
      const incoming = target === key;
      if (incoming !== (sort === "counted") || !(now[edge] || before(edge))) continue;
      const news = now[edge] && before(edge) ? "" : now[edge] ? ", new" : ", no longer";
      const counter = parts.parts[into]?.[2] ?? ""; // one holder may count in two rows
      words.push(this.arrow(sort, parts.oid(incoming ? holder : target), reason, counter) + news);
    }
    const state = now[key] === "freed" ? ", freed but still referred to" : before(key) ? "" : ", new";
    return `${parts.oid(key)}${state}${words.length ? `: ${words.join("; ")}` : ""}.`;
  }
}
