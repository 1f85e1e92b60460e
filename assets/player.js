// A trace, step by step. The same file serves twice: inlined into a page of its own, and as the front end of a widget.
// It gets data: an SVG with all that ever occurs, and for each effect what it changed. A step is a set of class changes.
// One Player holds the controls and knows the moment; the views below it show that moment, each in its own way.

const PERIODS = { slow: 4000, normal: 2200, fast: 1000 };
const BADGES = { new: "+", gone: "−" };
const LETTERS = { validate: "V", block: "B", lock: "L", acquire: "A", publish: "P", unwind: "U" };
const VIEWS = { graph: "Graph", lanes: "Lanes", counters: "Counters", source: "Source", text: "As text" };
const SVG = "http://www.w3.org/2000/svg";
const REST = 120; // milliseconds without a move, after which the kernel is told where the reader is
const ENOUGH = 100, PATIENCE = 20000; // as in why.py: paths to tell, references to look at

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Something that can have the focus, and keeps its keys from JupyterLab.
function control(tag, attributes, ...children) {
  const own = tag === "button" ? { type: "button" } : {};
  return element(tag, { "data-lm-suppress-shortcuts": "true", ...own, ...attributes }, ...children);
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// What is there at a moment, and what was there before: the same rule as `look` in draw.py.
function look(now, was) {
  if (now === was) return { mark: now ? "" : "off", text: now };
  if (!now || now === "freed") return { mark: "gone", text: was };
  return { mark: was ? "changed" : "new", text: now };
}

function changeText(was, now) {
  return [...was].length + [...now].length <= 7 ? `${was}→${now}` : `→ ${now}`;
}

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

// The texts of all keys at one moment. It goes from moment to moment by what is different, forwards and backwards.
class Moments {
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
    const take = (change) => { for (const key in change) { this.now[key] = change[key]; touched.add(key); } };
    while (this.frame < frame) take(this.changes[++this.frame]);
    while (this.frame > frame) take(this.olds[this.frame--]);
    return touched;
  }

  // The texts at another moment, of those keys that may differ there.
  at(frame) {
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

// Who keeps it alive? By the rules of why.py.
class Reasons {
  constructor(data) {
    this.data = data;
    this.step = -1;
    this.links = new Set();
    this.alive = new Set();
  }

  seek(step) {
    const move = (set, come, go) => { go.forEach((one) => set.delete(one)); come.forEach((one) => set.add(one)); };
    const both = ([came, went, born, died]) => { move(this.links, came, went); move(this.alive, born, died); };
    while (this.step < step) both(this.data.steps[++this.step]);
    while (this.step > step) {
      const [came, went, born, died] = this.data.steps[this.step--];
      both([went, came, died, born]);
    }
  }

  // The answer as lines of text.
  why(oid, step) {
    this.seek(step);
    const { names, roots } = this.data;
    const goal = names.indexOf(oid);
    if (!this.alive.has(goal)) return [`${oid} is not alive here.`];
    if (oid.startsWith("thread ")) return [`${oid} is a call that runs.`];
    const { paths, lost, cycles } = this.search(goal);
    const chain = (links) => links.reduce((text, [owns, , target, , reason, n]) =>
      `${text} --${owns ? "owns" : reason}${n === 1 ? "" : ` ×${n}`}--> ${names[target]}`, names[links[0][1]]);
    const lines = [];
    if (roots[goal]) lines.push(`${oid} needs no holder: it is ${roots[goal]}.`);
    else if (paths.length) lines.push(`${oid} is kept alive by:`);
    else if (lost.length || cycles.size) lines.push(`Nothing that can be reached keeps ${oid} alive, yet it is counted: it has leaked.`);
    else lines.push(`Nothing keeps ${oid} alive.`);
    paths.sort((a, b) => a.length - b.length);
    lines.push(...paths.slice(0, ENOUGH).map((path) => `  ${chain(path)}`));
    if (paths.length > ENOUGH) lines.push(`  … and more than ${ENOUGH} ways in all`);
    for (const [, holder, target, via, reason] of lost) {
      lines.push(`  lost reference: ${names[holder]} is gone, but ${names[target]}.${via} still counts it (${reason})`);
    }
    for (const ring of cycles.values()) lines.push(`  cycle: ${chain(ring)}`);
    return lines;
  }

  search(goal) {
    const { names, links, roots } = this.data;
    const held = new Map();
    for (const number of this.links) {
      const link = links[number];
      if (!held.has(link[2])) held.set(link[2], []);
      held.get(link[2]).push(link);
    }
    const found = { paths: [], lost: [], cycles: new Map() };
    let left = PATIENCE;
    const walk = (name, below) => {
      for (const link of held.get(name) || []) {
        left -= 1;
        const [chain, holder] = [[link, ...below], link[1]];
        const before = chain.findIndex((later) => later[2] === holder);
        if (before >= 0) {
          const ring = chain.slice(0, before + 1);
          const key = String(ring.map((part) => part[2]).sort());
          if (!found.cycles.has(key)) found.cycles.set(key, ring);
        } else if (this.alive.has(holder) && (roots[holder] || names[holder].startsWith("thread "))) {
          found.paths.push(chain);
        } else if (!this.alive.has(holder)) {
          if (!found.lost.includes(link)) found.lost.push(link);
        } else if (left > 0 && found.paths.length <= ENOUGH) walk(holder, chain);
      }
    };
    walk(goal, []);
    return found;
  }
}

// What the things in the picture are, and how a change of one is told.
class Parts {
  constructor(parts) {
    this.parts = parts;
    this.keys = Object.keys(parts);
    this.labels = new Map(); // by edge, the keys of its labels
    for (const key of this.keys) if (parts[key][0] === "label") this.below(parts[key][1]).push(key);
    this.edges = this.keys.filter((key) => parts[key][0] === "edge");
  }

  below(edge) {
    if (!this.labels.has(edge)) this.labels.set(edge, []);
    return this.labels.get(edge);
  }

  node(oid) {
    return this.keys.find((key) => this.parts[key][0] === "node" && this.parts[key][1] === oid);
  }

  oid(key) {
    return this.parts[key][1];
  }

  ends(edge) {
    const [, holder, target, sort] = this.parts[edge];
    return `${this.oid(holder)} ${sort === "waits" ? "⇢" : "→"} ${this.oid(target)}`;
  }

  touching(node) {
    return this.edges.filter((edge) => this.parts[edge][1] === node || this.parts[edge][2] === node);
  }

  // All keys that tell of a node or an edge.
  about(key) {
    if (this.parts[key][0] === "edge") return new Set(this.below(key));
    const rows = this.keys.filter((one) => this.parts[one][0] === "row" && this.parts[one][1] === key);
    return new Set([key, ...rows, ...this.touching(key).flatMap((edge) => this.below(edge))]);
  }

  // A change in words; "" for an arrow, whose labels tell it.
  tell(key, was, now) {
    const [kind, owner, cell] = this.parts[key];
    if (was === now || kind === "edge") return "";
    if (kind === "node") return `${owner} ${now === "freed" ? "is freed, and still referred to" : now ? "is there" : "is gone"}`;
    if (kind === "row") return `${this.oid(owner)}.${cell}: ${was || "–"} → ${now || "–"}`;
    const text = was && now ? `${was} → ${now}` : now ? `+ ${now}` : `− ${was}`;
    return `${this.ends(owner)}: ${text}`;
  }
}

// Who holds a reference to whom. Nodes can be picked; one of them is reached with Tab, the others from there with arrows.
class GraphView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.root = element("div", { class: "stage" });
    this.root.addEventListener("click", ({ target }) => this.player.click(target.closest(".node"), target.closest(".edge, .label")));
  }

  load(data) {
    const before = this.places();
    this.root.innerHTML = data.svg || "";
    this.elements = new Map();
    for (const part of this.root.querySelectorAll("[data-key]")) this.elements.set(part.dataset.key, part);
    this.nodes = [...this.elements.values()].filter((part) => part.classList.contains("node"));
    this.marked = [...this.elements.keys()];
    this.describes = this.root.querySelector("desc");
    this.here = null;
    const [, , wide, high] = data.svg ? this.root.querySelector("svg").getAttribute("viewBox").split(" ") : [0, 0, 0, 1];
    this.player.root.style.setProperty("--wide", wide);
    this.player.root.style.setProperty("--aspect", String(wide / high));
    if (!data.svg) this.root.append(element("p", { class: "hint" }, data.hint), this.tree = element("pre"));
    else this.reach(this.root.querySelector("svg"));
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.glide(before);
  }

  // Where each box is, by its name, counted from the corner of the picture.
  places() {
    const paper = this.root.querySelector("svg > .paper");
    const place = (part) => [Number(part.getAttribute("x")), Number(part.getAttribute("y"))];
    return new Map(paper ? this.nodes.map((node) => {
      const [[x, y], [left, top]] = [node.querySelector(".box"), paper].map(place);
      return [node.dataset.oid, [x - left, y - top]];
    }) : []);
  }

  // What has another place than before glides there.
  glide(before) {
    const now = this.places();
    for (const node of this.nodes) {
      const [[x, y], [wasX, wasY]] = [now.get(node.dataset.oid), before.get(node.dataset.oid) || now.get(node.dataset.oid)];
      if (Math.hypot(x - wasX, y - wasY) > 2) node.animate([{ transform: `translate(${wasX - x}px, ${wasY - y}px)` }, {}], { duration: 500, easing: "ease-in-out" });
    }
  }

  reach(svg) {
    svg.setAttribute("role", "group"); // a picture may hold no controls
    for (const node of this.nodes) {
      const all = { role: "button", "aria-label": node.dataset.oid, "aria-pressed": "false", "data-lm-suppress-shortcuts": "true" };
      for (const [name, value] of Object.entries(all)) node.setAttribute(name, value);
    }
    for (const edge of this.root.querySelectorAll(".edge")) {
      const line = edge.querySelector(".line");
      edge.append(drawn("path", { class: "hit", d: line.getAttribute("d") }));
    }
  }

  // `was` has the texts to compare with, where they may differ.
  show(now, was, touched) {
    const marked = [];
    for (const key of new Set([...touched, ...this.marked, ...Object.keys(was)])) {
      const part = this.elements.get(key);
      if (part && this.dress(part, now[key] || "", key in was ? was[key] || "" : now[key] || "")) marked.push(key);
    }
    this.marked = marked;
    this.stop();
  }

  dress(part, now, was) {
    const { mark, text } = look(now, was);
    const has = part.classList;
    has.remove("off", "new", "gone", "changed");
    if (mark) has.add(mark);
    if (has.contains("row")) {
      part.querySelector(".value").textContent = mark === "changed" ? changeText(was, text) : text;
    } else if (has.contains("label")) {
      part.textContent = `${BADGES[mark] || ""} ${text}`.trim();
    } else if (has.contains("node")) {
      has.toggle("freed", now === "freed");
      part.querySelector("text.badge").textContent = BADGES[mark] || "";
    }
    return mark && mark !== "off";
  }

  there() {
    return this.nodes.filter((node) => !node.classList.contains("off"));
  }

  // See to it that Tab reaches one node that is there. If the one with the focus is gone, the player gets it.
  stop(wanted) {
    const before = this.here;
    const focused = document.activeElement;
    if (focused.matches(".node.off") && this.root.contains(focused)) this.player.root.focus();
    if (wanted) this.here = wanted;
    else if (!this.here || this.here.classList.contains("off")) this.here = this.there()[0] || null;
    if (this.here === before) return;
    for (const node of this.nodes) node.setAttribute("tabindex", node === this.here ? 0 : -1);
  }

  key(event) {
    const arrows = { ArrowDown: 1, ArrowUp: -1, ...(this.player.selecting ? { ArrowRight: 1, ArrowLeft: -1 } : {}) };
    if (event.key in arrows) {
      const there = this.there();
      this.stop(there.at((there.indexOf(event.target) + arrows[event.key]) % there.length));
      this.here.focus();
    } else if (event.key === "Enter" || event.key === " ") this.player.click(event.target, null);
    else return false;
    return true;
  }

  // Show what is picked, and bring out one node and its arrows, or several and the arrows between them, or one arrow.
  mark({ picked, selecting, brought, edge }) {
    const names = brought.length ? brought : selecting ? [] : picked;
    const keys = new Set();
    for (const node of this.nodes) if (names.includes(node.dataset.oid)) keys.add(node.dataset.key);
    for (const part of this.elements.values()) {
      const arrow = part.classList.contains("label") ? this.elements.get(part.dataset.edge) : part;
      const ends = [arrow.dataset.from, arrow.dataset.to].filter((end) => keys.has(end)).length;
      const dim = !arrow.dataset.from ? arrow.dataset.oid && keys.size > 1 && !keys.has(arrow.dataset.key)
        : edge ? arrow.dataset.key !== edge : ends < Math.min(keys.size, 2);
      part.classList.toggle("dim", Boolean(dim));
    }
    for (const node of this.nodes) {
      const is = picked.includes(node.dataset.oid);
      node.classList.toggle("picked", is);
      node.setAttribute("aria-pressed", is);
      this.tick(node, is && selecting);
    }
  }

  tick(node, wanted) {
    const old = node.querySelector(".tick");
    if (Boolean(old) === wanted) return;
    if (old) { old.remove(); return; }
    const box = node.querySelector(".box");
    const [x, y] = ["x", "y"].map((name) => Number(box.getAttribute(name)) + 4);
    const tick = node.appendChild(drawn("g", { class: "tick", transform: `translate(${x} ${y})` }));
    tick.append(drawn("circle", { r: 11 }), drawn("text", { y: 6 }));
    tick.lastChild.textContent = "✓";
  }
}

// A lane for each thread: its steps, the locks that it holds, whom it waits for. With one thread a single row.
class LanesView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.root = element("div", { class: "lanes" });
  }

  load({ lanes, steps }) {
    this.lanes = lanes;
    this.count = Math.max(steps.length, 1);
    this.cursor = element("div", { class: "cursor" });
    this.segments = [];
    const alone = lanes.names.length < 2;
    this.states = lanes.names.map(() => element("span", { class: "state" }));
    const tracks = lanes.names.map((name, lane) => this.track(lane, steps, alone));
    const names = lanes.names.map((name, lane) => {
      const label = element("div", { class: "name" }, element("span", {}, name), this.states[lane]);
      label.style.height = tracks[lane].style.height;
      return label;
    });
    this.scroller = element("div", { class: "scroller", "aria-hidden": "true" }, element("div", { class: "tracks" }, ...tracks, this.cursor));
    this.scroller.firstChild.style.minWidth = `${this.count * 1.35}em`;
    this.root.classList.toggle("alone", alone);
    const column = element("div", { class: "names" }, ...names);
    if (!alone) column.style.width = `${this.longest()}ch`;
    this.root.replaceChildren(column, this.scroller);
    this.current = null;
  }

  track(lane, steps, alone) {
    const made = element("div", { class: "track" });
    const bars = this.lanes.bars.filter((bar) => bar[0] === lane);
    const levels = Math.max(0, ...bars.map((bar) => bar[5] + 1));
    const height = alone ? 0.35 : 1.5;
    made.style.height = `${2 + levels * height}em`;
    steps.forEach((step, number) => {
      if (this.lanes.steps[number] !== lane) return;
      const sign = step.refused ? "✕" : step.waits ? "…" : LETTERS[step.phase] || "";
      const segment = element("span", {
        class: `segment phase-${step.phase}${step.refused ? " refused" : ""}`, title: `${number + 1}. ${step.phase}: ${step.sentence}`,
        onclick: () => this.player.by(() => this.player.goTo(number + 1)),
      }, sign);
      this.span(segment, number + 1, number + 2);
      this.segments[number] = segment;
      made.append(segment);
    });
    for (const [, sort, first, end, text, level] of bars) {
      const words = `${sort === "waits" ? "waits for" : "holds"} ${text}`;
      const bar = element("span", { class: `lock ${sort}`, title: words }, alone ? "" : words);
      this.span(bar, Math.max(first, 1), end);
      bar.style.top = `${2 + level * height}em`;
      made.append(bar);
    }
    return made;
  }

  span(part, first, end) {
    part.style.left = `${((first - 1) / this.count) * 100}%`;
    part.style.width = `${((end - first) / this.count) * 100}%`;
  }

  // What a lane holds and waits for after a step, in words.
  status(lane, step) {
    const bars = this.lanes.bars.filter((bar) => bar[0] === lane && bar[2] <= step && step < bar[3]);
    return bars.map(([, sort, , , text]) => `${sort === "waits" ? "waits for" : "holds"} ${text}`);
  }

  // How many letters ever stand beside a lane: with a place for them the lanes stay where they are.
  longest() {
    const states = this.lanes.bars.map(([lane, , first]) => this.status(lane, first).join(", "));
    return Math.max(...[...this.lanes.names, ...states].map((text) => text.length), 0);
  }

  show(step) {
    this.span(this.cursor, step, step + 1);
    this.cursor.hidden = step === 0;
    if (this.current) this.current.classList.remove("current");
    this.current = this.segments[step - 1];
    if (this.current) this.current.classList.add("current");
    this.states.forEach((state, lane) => {
      const text = this.status(lane, step).join(", ");
      if (state.textContent !== text) { state.textContent = text; state.title = text; }
    });
    const width = this.count * 20;
    if (width > 800) {
      const [from, all] = [(step - 1) / this.count, this.scroller.scrollWidth];
      if (all > this.scroller.clientWidth) this.scroller.scrollLeft = from * all - this.scroller.clientWidth / 2;
    }
  }
}

// Every count that changes, over the steps: drawn in Python once, with a line here that follows; or as rows of letters.
class CountersView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.root = element("section", { class: "counters", "aria-label": "Counters" });
  }

  load({ counters, steps }) {
    this.data = counters;
    this.last = steps.length;
    const names = Object.keys(counters.counts);
    this.values = names.map(() => element("td", { class: "now" }));
    const rows = names.map((name, row) => element("tr", {}, element("th", { scope: "row" }, name),
      element("td", { class: "spark", "aria-hidden": "true" }, this.spark(counters.counts[name])), this.values[row]));
    const head = element("tr", {}, ...["Count", "Over the steps", "Now"].map((title) => element("th", { scope: "col" }, title)));
    this.table = element("table", { class: counters.svg ? "hidden" : "" }, element("thead", {}, head), element("tbody", {}, ...rows));
    this.root.replaceChildren(element("div", { class: "title" }, "Counters"));
    this.line = null;
    if (!names.length) this.root.append(element("p", {}, "No count changes in these steps."));
    else this.root.append(this.table);
    if (counters.hint) this.root.append(element("p", { class: "hint" }, counters.hint));
    if (counters.svg) this.draw();
  }

  draw() {
    const box = this.root.appendChild(control("div", { class: "drawing", tabindex: 0, role: "group", "aria-label": "Drawing of the counters" }));
    box.innerHTML = this.data.svg;
    const svg = box.querySelector("svg");
    for (const [name, value] of [["role", "img"], ["aria-label", "How each count changes over the steps; the table has its value now"]]) svg.setAttribute(name, value);
    const [, , , height] = svg.getAttribute("viewBox").split(" ");
    svg.removeAttribute("height");
    this.line = svg.appendChild(drawn("line", { class: "cursor", y1: 0, y2: height }));
  }

  spark(values) {
    const all = Array.from({ length: Math.min(this.last + 1, 60) }, (_, place, of = Math.min(this.last, 59) || 1) =>
      this.value(values, Math.round((place / of) * this.last)));
    const most = Math.max(1, ...all);
    return all.map((value) => (value === null ? "·" : "▁▂▃▄▅▆▇█"[Math.round((value / most) * 7)])).join("");
  }

  value(values, step) {
    let found = null;
    for (const [since, value] of values) if (since <= step) found = value;
    return found;
  }

  show(step) {
    Object.values(this.data.counts).forEach((values, row) => { this.values[row].textContent = this.value(values, step) ?? "–"; });
    if (!this.line) return;
    const x = this.data.from + (this.last ? (step / this.last) * (this.data.to - this.data.from) : 0);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    if (this.player.open.has("counters")) this.follow(x);
  }

  // Scroll to where the line is, if it would be out of sight.
  follow(x) {
    const svg = this.line.ownerSVGElement;
    const box = svg.parentElement;
    const [, , width] = svg.getAttribute("viewBox").split(" ");
    const [at, room] = [(x * svg.clientWidth) / width, box.clientWidth];
    if (at < box.scrollLeft + 20 || at > box.scrollLeft + room - 20) box.scrollLeft = at - room / 2;
  }
}

// The Python of the running function, with the line that runs.
class SourceView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.title = element("div", { class: "where" });
    this.kernel = element("div", { class: "mirrors" });
    this.code = control("div", { class: "code", tabindex: 0, role: "group", "aria-label": "Source of the running function" });
    this.root = element("section", { class: "function", "aria-label": "Source" }, element("div", { class: "title" }, "Source"), this.title, this.kernel, this.code);
  }

  load() {
    this.shown = null;
    this.current = null;
  }

  show(place) {
    const [fn, line] = place || [];
    if (this.shown !== fn) this.build(this.shown = fn);
    if (this.current) { this.current.classList.remove("current"); this.current.removeAttribute("aria-current"); }
    const made = fn !== undefined && this.code.children[line - this.player.data.functions[fn].first];
    this.current = made || null;
    if (!made) return;
    this.title.textContent = `${this.player.data.functions[fn].file}:${line}`;
    made.classList.add("current");
    made.setAttribute("aria-current", "true");
    this.code.scrollTop = made.offsetTop - this.code.offsetTop - this.code.clientHeight / 2;
  }

  build(fn) {
    const { first, text: number, kernel, origin } = this.player.data.functions[fn] || { first: 1, kernel: "", origin: "" };
    const text = this.player.data.texts[number] || "";
    this.code.replaceChildren(...text.split("\n").map((line, index) =>
      element("div", { class: "line" }, element("span", { class: "no" }, first + index), element("code", {}, line))));
    this.title.textContent = "";
    this.kernel.textContent = kernel ? `mirrors ${kernel}, ${origin}` : "";
  }
}

// The picture in words: always there for who reads with the ears, and for everybody on request.
class TextView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.list = element("ul");
    this.root = element("section", { class: "words", "aria-label": "The picture in words" }, element("div", { class: "title" }, "In words"), this.list);
  }

  load() {
    const { parts } = this.player;
    this.nodes = parts.keys.filter((key) => parts.parts[key][0] === "node").map((key) => ({
      key,
      rows: parts.keys.filter((row) => parts.parts[row][0] === "row" && parts.parts[row][1] === key),
      edges: parts.touching(key),
    }));
  }

  show(now, was) {
    const lines = this.nodes.map((node) => this.line(node, now, was)).filter(Boolean);
    this.player.views.lanes.lanes.names.forEach((name, lane) => {
      const status = this.player.views.lanes.status(lane, this.player.step);
      if (status.length) lines.push(`${name} ${status.join(", ")}.`);
    });
    if (!lines.length) lines.push("There is nothing in the picture.");
    this.list.replaceChildren(...lines.map((line) => element("li", {}, line)));
  }

  arrow(sort, other, text) {
    if (sort === "owns") return `owns ${other}`;
    if (sort === "waits") return `${text}: ${other} is in the way`;
    return sort === "weak" ? `points at ${other} (${text.replace("weak: ", "")})` : `held by ${other} (${text})`;
  }

  line({ key, rows, edges }, now, was) {
    const { parts } = this.player;
    const before = (one) => (one in was ? was[one] : now[one]) || "";
    if (!now[key]) return before(key) ? `${parts.oid(key)}: gone now.` : "";
    const words = rows.filter((row) => now[row]).map((row) =>
      `${parts.parts[row][2]} ${now[row]}${before(row) && before(row) !== now[row] ? ` (was ${before(row)})` : ""}`);
    for (const edge of edges) {
      const [, holder, target, sort] = parts.parts[edge];
      const incoming = target === key;
      if (incoming !== (sort === "counted")) continue;
      for (const label of parts.below(edge)) {
        const [text, old] = [now[label], before(label)];
        const news = text === old ? "" : !old ? ", new" : !text ? ", no longer" : `, was ${old}`;
        if (text || old) words.push(this.arrow(incoming ? "held by" : sort, parts.oid(incoming ? holder : target), text || old) + news);
      }
    }
    const state = now[key] === "freed" ? ", freed but still referred to" : before(key) ? "" : ", new";
    return `${parts.oid(key)}${state}${words.length ? `: ${words.join("; ")}` : ""}.`;
  }
}

// What the step changed, where it is in the code, its effects; and all about what the reader follows.
class FactsView {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.follow = element("div", { class: "follow" });
    this.facts = element("div", { class: "facts" });
    this.root = element("div", { class: "side" }, this.follow, this.facts);
    this.asked = false;
  }

  load() {
    this.key = null;
    this.follow.replaceChildren();
  }

  section(title, ...content) {
    return element("section", {}, element("div", { class: "title" }, title), ...content);
  }

  show(step, effect, frame) {
    const { data } = this.player;
    const sections = [];
    const code = !this.player.presenter && !this.player.open.has("source");
    if (this.player.base !== null) sections.push(this.compared());
    if (step) {
      const changes = effect ? effect.changes : step.changes;
      if (changes.length) sections.push(this.section("Changed", element("ul", { class: "changes" }, ...changes.map((text) => element("li", {}, text)))));
      const [fn, line] = data.places[(effect || step).place];
      const { file, first, text, kernel, origin } = data.functions[fn];
      if (code && file) sections.push(this.section("Python", element("div", { class: "where" }, `${file}:${line}`), element("pre", { class: "source" }, statement(data.texts[text].split("\n").slice(line - first, line - first + 8)))));
      if (code && kernel) sections.push(this.section("Kernel", element("code", { class: "kernel" }, kernel), element("div", { class: "where" }, origin)));
      if (!this.player.presenter) sections.push(...this.effects(step, effect, frame));
    }
    this.facts.replaceChildren(...sections);
    const current = this.facts.querySelector("li.current");
    if (current) current.parentElement.scrollTop = current.offsetTop - current.parentElement.offsetTop - 40;
    this.mark();
  }

  effects(step, effect, frame) {
    const first = this.player.endOf(this.player.step - 1);
    const items = this.player.data.effects.slice(first, step.frame).map((one, index) => element("li", {
      class: effect && first + index + 1 === frame ? "current" : "",
      onclick: () => this.player.by(() => this.player.goToEffect(first + index + 1)),
    }, one.text));
    const list = control("ol", { tabindex: 0, "aria-label": "Details of this step" }, ...items);
    return items.length ? [this.section(items.length === 1 ? "1 detail" : `${items.length} details`, list)] : [];
  }

  compared() {
    const { player } = this;
    const there = player.moments.at(player.endOf(player.base));
    const told = Object.keys(there).map((key) => player.parts.tell(key, there[key] || "", player.moments.now[key] || "")).filter(Boolean);
    const items = told.length ? told : ["Nothing is different."];
    return this.section(`Since step ${player.base}`, control("ul", { class: "compared", tabindex: 0, "aria-label": "What is different" }, ...items.map((text) => element("li", {}, text))));
  }

  // Begin to follow a node or an edge by its key, or end it with null.
  about(key) {
    this.key = key;
    this.follow.replaceChildren();
    if (!key) return;
    const { parts, moments, data } = this.player;
    const about = parts.about(key);
    const node = parts.parts[key][0] === "node";
    this.entries = [];
    for (let step = 1; step <= data.steps.length; step++) {
      const changes = [...moments.between(this.player.endOf(step - 1), this.player.endOf(step))];
      changes.sort(([one], [other]) => Number(other === key) - Number(one === key)); // first that it is born
      for (const [one, [was, now]] of changes) {
        const text = about.has(one) ? parts.tell(one, was, now) : "";
        if (text) this.entries.push([step, text]);
      }
    }
    const name = node ? parts.oid(key) : parts.ends(key);
    const close = control("button", { "aria-label": "End following", title: "Escape", onclick: () => this.player.leave() }, "✕");
    const items = this.entries.map(([step, text]) => element("li", {}, control("button", {
      "data-to": step, onclick: () => this.player.by(() => this.player.goTo(step)),
    }, `${step}. ${text.startsWith(`${name}.`) ? text.slice(name.length + 1) : text}`)));
    const ask = control("button", { class: "ask", "aria-expanded": "false", title: "w", onclick: () => this.ask(!this.asked) }, "Why is it alive?");
    this.answer = control("pre", { class: "why", tabindex: 0, role: "group", "aria-label": "Why it is alive", "aria-live": "polite" });
    this.follow.append(element("div", { class: "following" }, element("span", { class: "title" }, `Following ${name}`), close));
    if (node && !/^\+\d+ /.test(name)) this.follow.append(ask, this.answer);
    this.follow.append(items.length ? element("ul", { class: "history", "aria-label": `Changes of ${name}` }, ...items) : element("p", {}, "It does not change in these steps."));
    if (node) this.arrows(key);
    this.mark();
  }

  arrows(key) {
    const { parts } = this.player;
    const edges = parts.touching(key).map((edge) => element("li", {}, control("button", { onclick: () => this.player.followEdge(edge) }, parts.ends(edge))));
    if (edges.length) this.follow.append(element("details", {}, control("summary", {}, `${edges.length} arrow${edges.length > 1 ? "s" : ""} to follow`), element("ul", {}, ...edges)));
  }

  ask(asked) {
    this.asked = asked;
    this.mark();
  }

  mark() {
    if (!this.key) return;
    for (const one of this.follow.querySelectorAll("[data-to]")) one.toggleAttribute("aria-current", Number(one.dataset.to) === this.player.step);
    const ask = this.follow.querySelector(".ask");
    if (!ask) return;
    ask.setAttribute("aria-expanded", this.asked);
    const text = this.asked ? this.player.why(this.player.parts.oid(this.key)) : "";
    if (this.answer.textContent !== text) this.answer.textContent = text;
  }
}

class Player {
  /**
   * @param {HTMLElement & { vfiosim?: Player }} root
   * @param {any} data
   * @param {{ onMove?: (step: number) => void, onPick?: (names: string[]) => void, onViews?: (names: string[]) => void }} told
   */
  constructor(root, data, { onMove = () => {}, onPick = () => {}, onViews = () => {} } = {}) {
    this.root = root;
    this.onMove = onMove;
    this.onPick = onPick;
    this.onViews = onViews;
    this.timer = null;
    this.typed = "";
    this.base = null;
    this.picked = []; // the names of the objects that the reader clicked
    this.edge = null; // or the key of an arrow
    this.brought = []; // the objects that the lesson brings out
    this.selecting = false;
    this.presenter = Boolean(data.presenter);
    this.open = new Set(data.views);
    root.replaceChildren();
    root.classList.add("vfiosim-player");
    root.classList.toggle("presenter", this.presenter);
    for (const [name, value] of Object.entries({
      role: "group", tabindex: "0", "aria-label": "Step through what the kernel did", "data-lm-suppress-shortcuts": "true",
    })) root.setAttribute(name, value);
    // A frame may be made as high as what is in it: what is in it must not get higher with the frame.
    if (window !== window.parent) {
      const most = 0.75 * screen.availHeight;
      root.style.setProperty("--sight", `${window.innerHeight < 400 ? most : Math.min(most, window.innerHeight)}px`);
    }
    this.actions = this.listed();
    this.build();
    if (!root.dataset.listens) {
      root.dataset.listens = "yes";
      root.addEventListener("keydown", (event) => root.vfiosim.key(event));
    }
    root.vfiosim = this;
    this.load(data, data.step);
  }

  // ---- the controls

  /** @typedef {{ key: string, shown: string, tells: string, run: () => void, says: any }} Action */

  // What there is to do: name, key, the key as told, what it does, what the button says.
  listed() {
    /** @type {[string, string, string, string, () => void, any?][]} */
    const list = [
      ["next", "ArrowRight", "→", "next step", () => this.move(1), "Next →"],
      ["back", "ArrowLeft", "←", "step back", () => this.move(-1), "← Back"],
      ["effect", "Shift+ArrowRight", "Shift →", "next detail", () => this.effect(1), "detail ›"],
      ["uneffect", "Shift+ArrowLeft", "Shift ←", "detail back", () => this.effect(-1), "‹ detail"],
      ["first", "Home", "Home", "before the first step", () => this.goTo(0), "First"],
      ["last", "End", "End", "last step", () => this.goTo(this.last), "Last"],
      ["play", " ", "Space", "play, pause", () => this.toggle(), "Play"],
      ["faster", "+", "+", "play faster", () => this.faster(1)],
      ["slower", "-", "−", "play slower", () => this.faster(-1)],
      ["change", "c", "c", "next change (of what you follow)", () => this.seek(1, this.changing(), "change"), "change ›"],
      ["unchange", "C", "Shift c", "change before", () => this.seek(-1, this.changing(), "change"), "‹ change"],
      ["phase", "p", "p", "next phase", () => this.seek(1, this.phases(), "phase"), "phase ›"],
      ["unphase", "P", "Shift p", "phase before", () => this.seek(-1, this.phases(), "phase"), "‹ phase"],
      ["error", "e", "e", "next refusal or oops, or what is broken", () => this.seek(1, this.errors(), "error"), "error ›"],
      ["unerror", "E", "Shift e", "refusal or oops before, or what was broken", () => this.seek(-1, this.errors(), "error"), "‹ error"],
      ["why", "w", "w", "why is it alive? (what you follow)", () => this.askWhy()],
      ["compare", "d", "d", "compare with the step you are at; again: end", () => this.compare(this.base === null ? this.step : null), "Compare"],
      ["share", "y", "y", "text to share, for this step", () => this.share(), "Share"],
      ["graph", "g", "g", "graph", () => this.toggleView("graph"), VIEWS.graph],
      ["lanes", "l", "l", "lanes: who holds which lock", () => this.toggleView("lanes"), VIEWS.lanes],
      ["counters", "k", "k", "counters", () => this.toggleView("counters"), VIEWS.counters],
      ["source", "s", "s", "source", () => this.toggleView("source"), VIEWS.source],
      ["text", "t", "t", "picture as text", () => this.toggleView("text"), VIEWS.text],
      ["more", "m", "m", "more buttons", () => this.more(this.second.hidden), "More"],
      ["help", "?", "?", "this list", () => this.help(this.sheet.hidden), [element("span", { class: "wide" }, "Keys "), "?"]],
      ["leave", "Escape", "Escape", "end following, comparing, this list", () => this.leave()],
    ];
    return new Map(list.map(([name, key, shown, tells, run, says]) => /** @type {[string, Action]} */ ([name, { key, shown, tells, run, says }])));
  }

  button(name) {
    const { shown, tells, run, says } = this.actions.get(name);
    return control("button", { title: `${tells} (${shown})`, "data-do": name, onclick: () => (name === "play" ? run() : this.by(run)) }, ...[says].flat());
  }

  // A move by hand ends playing.
  by(action) {
    this.stop();
    action();
  }

  build() {
    const bar = (name, ...children) => element("div", { class: `bar ${name}` }, ...children);
    const number = (name, change) => {
      const field = control("input", { type: "text", inputmode: "numeric", role: "spinbutton", "aria-label": name, "aria-valuemin": 0, "aria-valuenow": 0 });
      field.addEventListener("change", () => change(field.value.trim()));
      return field;
    };
    this.jump = number("Go to step", (text) => this.jumpTo(text));
    this.with = number("Compare with step", (text) => this.compareWith(text));
    this.total = element("span", { class: "total" });
    this.problem = element("span", { class: "problem", role: "alert" });
    this.speed = control("select", { "aria-label": "Speed" });
    for (const name of Object.keys(PERIODS)) this.speed.append(element("option", { value: name }, name));
    this.speed.value = "normal";
    this.speed.addEventListener("change", () => this.retime());
    this.playButton = this.button("play");
    this.bar = bar("first", this.button("first"), this.button("back"), this.playButton, this.button("next"), this.button("last"),
      element("span", { class: "number" }, this.jump, this.total),
      this.button("uneffect"), this.button("effect"), this.speed, this.button("more"), this.button("help"));
    this.second = bar("second", ...["unchange", "change", "unphase", "phase", "unerror", "error"].map((name) => this.button(name)),
      element("span", { class: "gap" }, this.button("compare"), " with step ", this.with), this.button("share"),
      element("span", { class: "gap", role: "group", "aria-label": "Views" }, ...Object.keys(VIEWS).map((name) => this.button(name))));
    this.second.hidden = true;
    this.shared = control("input", { class: "shared", readonly: "", "aria-label": "Text to share" });
    this.shared.hidden = true;
    this.strip = element("div", { class: "strip", "aria-hidden": "true" });
    this.chips = element("span", { class: "chips" });
    this.sentence = element("span", { class: "sentence" });
    this.context = element("div", { class: "context" });
    this.live = element("div", { class: "say", "aria-live": "polite" }, this.chips, element("div", {}, this.sentence, this.context));
    this.views = {
      graph: new GraphView(this), lanes: new LanesView(this), counters: new CountersView(this), source: new SourceView(this), text: new TextView(this),
    };
    this.facts = new FactsView(this);
    this.facts.root.prepend(this.views.source.root);
    const { graph, lanes, counters, text } = this.views;
    this.sheet = this.keysSheet();
    this.root.append(this.strip, lanes.root, this.bar, this.second, this.shared, this.problem, this.live,
      element("div", { class: "main" }, element("div", { class: "left" }, graph.root, counters.root, text.root), this.facts.root), this.sheet);
    this.more(false);
  }

  keysSheet() {
    const rows = [...this.actions.values()].map(({ shown, tells }) => element("tr", {}, element("td", {}, element("kbd", {}, shown)), element("td", {}, tells)));
    rows.push(element("tr", {}, element("td", {}, element("kbd", {}, "0–9")), element("td", {}, "go to the step of this number")));
    rows.push(element("tr", {}, element("td", {}, element("kbd", {}, "Tab, ↑ ↓, Enter")), element("td", {}, "reach a node of the graph; follow it")));
    const phases = Object.entries(LETTERS).map(([phase, letter]) => `${letter} ${phase}`).join(", ");
    rows.push(element("tr", {}, element("td", {}, "letters"), element("td", {}, `what a step is for: ${phases}; ✕ refused, … waits`)));
    const close = control("button", { onclick: () => this.help(false) }, "Close");
    const sheet = element("div", { class: "sheet", role: "dialog", "aria-label": "Keys" }, close, element("table", {}, element("tbody", {}, ...rows)));
    sheet.hidden = true;
    return sheet;
  }

  more(wanted) {
    this.second.hidden = !wanted;
    this.root.classList.toggle("more", wanted);
    this.bar.querySelector("[data-do=more]").setAttribute("aria-expanded", wanted);
  }

  help(wanted) {
    if (wanted) this.returnTo = document.activeElement;
    this.sheet.hidden = !wanted;
    for (const part of /** @type {Iterable<any>} */ (this.root.children)) part.inert = wanted && part !== this.sheet;
    const to = wanted ? this.sheet.querySelector("button") : this.root.contains(this.returnTo) ? this.returnTo : this.root;
    /** @type {HTMLElement} */ (to).focus();
  }

  toggleView(name) {
    const open = new Set(this.open);
    if (!open.delete(name)) open.add(name);
    this.setViews(open);
    if (open.has(name)) this.views[name].root.scrollIntoView({ block: "nearest" }); // it may stand below the picture
    this.onViews(Object.keys(VIEWS).filter((one) => open.has(one) && one !== "text"));
  }

  setViews(names) {
    this.open = new Set(names);
    for (const name of Object.keys(VIEWS)) {
      const open = this.open.has(name);
      this.root.classList.toggle(`with-${name}`, open);
      this.second.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", open);
    }
    this.show(this.frame, this.shownBefore, this.shownEffect);
  }

  load(data, step) {
    this.data = data;
    this.last = data.steps.length;
    this.moments = new Moments(data.changes);
    this.parts = new Parts(data.parts);
    this.reasons = new Reasons(data.reasons);
    this.base = null;
    this.edge = null;
    /** @type {{ load: (data: any) => void }[]} */
    const views = [...Object.values(this.views), this.facts];
    for (const view of views) view.load(data);
    for (const field of [this.jump, this.with]) field.setAttribute("aria-valuemax", this.last);
    this.total.textContent = ` / ${this.last}`;
    this.second.querySelector("[data-do=share]").hidden = !data.share;
    this.mark = 0;
    this.strip.replaceChildren(...data.steps.map((one, number) => element("span", {
      class: `phase-${one.phase}${one.refused ? " refused" : ""}`, title: `${number + 1}. ${one.sentence}`,
      onclick: () => this.by(() => this.goTo(number + 1)),
    })));
    this.goTo(step);
    this.setViews(this.open);
    this.pick(this.picked.filter((name) => this.parts.node(name)));
  }

  draw(drawing) {
    if (!drawing.counts) return;
    this.data.counters = drawing;
    this.views.counters.load(this.data);
    this.views.counters.show(this.step);
  }

  // ---- moving: `step` counts from 1, 0 is before the first; `frame` is the number of effects done

  goTo(step) {
    this.step = Math.max(0, Math.min(this.last, Math.round(step) || 0));
    this.frame = this.endOf(this.step);
    this.show(this.frame, this.before(this.step), null);
  }

  // What was written into the field; anything but a step of this trace is said to be none, and moves nothing.
  jumpTo(text) {
    this.stop();
    if (this.known(text)) this.goTo(Number(text));
  }

  known(text) {
    const is = /^[0-9]+$/.test(text) && Number(text) <= this.last;
    if (!is) this.complain(`${text ? `There is no step ${text}` : "A number is missing"}: write 0 to ${this.last}.`);
    return is;
  }

  complain(text) {
    this.problem.textContent = text;
    this.jump.toggleAttribute("aria-invalid", Boolean(text));
  }

  // A step that tells what is broken shows what the step before it has changed.
  before(step) {
    return step > 0 && this.data.steps[step - 1].refused === "broken" ? this.before(step - 1) : this.endOf(step - 1);
  }

  endOf(step) {
    return step > 0 ? this.data.steps[step - 1].frame : 0;
  }

  move(by) {
    if (this.shownEffect && by > 0 && this.frame < this.endOf(this.step)) this.goTo(this.step);
    else this.goTo(this.step + by);
  }

  effect(by) {
    this.goToEffect(this.frame + by);
  }

  goToEffect(frame) {
    if (frame < 0 || frame >= this.data.changes.length) return;
    if (frame === 0) { this.goTo(0); return; }
    this.frame = frame;
    this.step = 1 + this.data.steps.findIndex((one) => one.frame >= frame);
    this.show(frame, frame - 1, this.data.effects[frame - 1]);
  }

  // The next or the last of these steps that is after or before this one.
  seek(by, steps, what) {
    const found = by > 0 ? steps.find((step) => step > this.step) : steps.filter((step) => step < this.step).pop();
    if (found === undefined) this.complain(`There is no ${what} ${by > 0 ? "after" : "before"} step ${this.step}.`);
    else this.goTo(found);
  }

  changing() {
    if (this.facts.key) return [...new Set(this.facts.entries.map(([step]) => step))];
    return this.where((_, step) => this.moments.between(this.endOf(step - 1), this.endOf(step)).size > 0);
  }

  phases() {
    return this.where((one, step) => step === 1 || this.data.steps[step - 2].phase !== one.phase);
  }

  errors() {
    return this.where((one) => one.refused);
  }

  where(is) {
    return this.data.steps.flatMap((one, index) => (is(one, index + 1) ? [index + 1] : []));
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(Tab|F\d+)$/.test(event.key)) return;
    event.stopPropagation(); // a key that means nothing here may mean "delete this cell" to the page around it
    if (event.key !== "Escape" && event.target.matches("input, select")) return;
    if (event.target.matches(".node") && this.views.graph.key(event)) return this.taken(event);
    if ((event.key === " " || event.key === "Enter") && event.target.matches("button, summary")) return;
    const name = event.key.startsWith("Arrow") && event.shiftKey ? `Shift+${event.key}` : event.key;
    const action = [...this.actions.entries()].find(([, one]) => one.key === name);
    if (action) {
      if (action[0] === "play") this.toggle();
      else if (["faster", "slower"].includes(action[0])) action[1].run();
      else this.by(action[1].run);
    } else if (/^\d$/.test(event.key)) this.digit(event.key);
    else return;
    this.taken(event);
  }

  // What a key has hidden cannot keep the focus: without it the next key would be lost.
  taken(event) {
    event.preventDefault();
    const at = document.activeElement;
    if (!this.root.contains(at) || !at.getClientRects().length) this.root.focus();
  }

  digit(digit) {
    clearTimeout(this.typing);
    this.typed += digit;
    this.typing = setTimeout(() => { this.typed = ""; }, 900);
    this.jumpTo(this.typed);
  }

  toggle() {
    if (this.timer) this.stop();
    else this.play();
  }

  faster(by) {
    const names = Object.keys(PERIODS);
    this.speed.value = names[Math.max(0, Math.min(names.length - 1, names.indexOf(this.speed.value) + by))];
    this.retime();
  }

  retime() {
    if (this.timer) { this.stop(); this.play(); }
  }

  play() {
    if (this.step >= this.last) this.goTo(0);
    this.playButton.textContent = "Pause";
    this.timer = setInterval(() => {
      if (!this.root.isConnected) this.stop();
      else if (this.step < this.last) this.move(1);
      if (this.step >= this.last) this.stop();
    }, PERIODS[this.speed.value]);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = "Play";
  }

  // ---- showing

  show(frame, before, effect) {
    this.shownBefore = before;
    this.shownEffect = effect;
    const step = this.data.steps[this.step - 1];
    const touched = this.moments.seek(frame);
    const was = this.moments.at(this.base === null ? before : this.endOf(this.base));
    this.jump.value = this.step;
    this.jump.setAttribute("aria-valuenow", this.step);
    this.complain("");
    this.words(step, effect);
    this.views.graph.show(this.moments.now, was, touched);
    this.views.lanes.show(this.step);
    this.views.counters.show(this.step);
    if (this.open.has("source")) this.views.source.show(step && this.data.places[(effect || step).place]);
    this.views.text.show(this.moments.now, was);
    this.facts.show(step, effect, frame);
    this.progress();
    if (this.views.graph.describes) this.views.graph.describes.textContent = this.sentence.textContent;
    if (this.data.trees) this.views.graph.tree.textContent = this.data.trees[frame] || "";
    this.root.dataset.step = this.step;
    this.root.dataset.frame = frame;
    this.onMove(this.step);
  }

  progress() {
    const marks = this.strip.children;
    for (let one = Math.min(this.mark, this.step); one < Math.max(this.mark, this.step); one++) marks[one].classList.toggle("done", one < this.step);
    if (this.mark) marks[this.mark - 1].classList.remove("current");
    if (this.step) marks[this.step - 1].classList.add("current");
    this.mark = this.step;
  }

  words(step, effect) {
    const chip = (name, text) => element("span", { class: `chip ${name}` }, text);
    const chips = [];
    this.root.classList.toggle("refused", Boolean(step && step.refused));
    if (this.presenter) chips.push(chip("place", `${this.step} / ${this.last}`));
    if (this.base !== null) chips.push(chip("base", `against step ${this.base}`));
    if (!step) chips.push(chip("start", "start"));
    else {
      chips.push(chip(`phase-${step.phase}`, step.phase));
      if (step.refused) chips.push(chip("errno", `✕ ${step.refused}`));
      if (step.waits) chips.push(chip("waits", "waits"));
      chips.push(chip("thread", step.thread));
      if (effect) chips.push(chip("effect", "detail"));
    }
    this.chips.replaceChildren(...chips);
    this.sentence.textContent = effect ? effect.text : step ? step.sentence : this.beginning();
    this.context.textContent = effect ? step.sentence : "";
  }

  // What is said at step 0.
  beginning() {
    if (!this.last) return "No steps yet: this is how things stand.";
    return this.presenter ? "Before the first step." : "Before the first step. Next → or the key → goes on.";
  }

  // ---- picking, following, asking

  // A click brings a node out with the arrows that touch it, a second one ends that; while `selecting` it adds or takes.
  click(node, arrow) {
    const oid = node && node.dataset.oid;
    if (this.selecting && !node) return;
    if (!node && arrow) { this.followEdge(arrow.dataset.edge || arrow.dataset.key); return; }
    const rest = this.picked.filter((name) => name !== oid);
    const more = node && rest.length === this.picked.length ? [oid] : [];
    if (node) this.views.graph.stop(node);
    this.brought = [];
    this.pick(this.selecting ? [...rest, ...more] : more);
    this.onPick(this.picked);
  }

  pick(names) {
    this.picked = names;
    this.edge = null;
    this.facts.about(!this.selecting && names.length === 1 ? this.parts.node(names[0]) || null : null);
    this.marks();
  }

  followEdge(edge) {
    const had = this.picked.length > 0;
    const again = this.edge === edge;
    this.pick([]);
    if (had) this.onPick([]);
    if (!again) {
      this.edge = edge;
      this.brought = [];
      this.facts.about(edge);
      this.marks();
    }
  }

  select(selecting) {
    this.selecting = selecting;
    this.root.classList.toggle("selecting", selecting);
    this.marks();
  }

  highlight(names) {
    this.brought = names;
    this.marks();
  }

  marks() {
    this.root.classList.toggle("follows", Boolean(this.facts.key));
    this.views.graph.mark(this);
  }

  why(oid) {
    return this.reasons.why(oid, this.shownEffect && this.frame < this.endOf(this.step) ? this.step - 1 : this.step).join("\n");
  }

  askWhy() {
    if (this.facts.key && this.follows()) this.facts.ask(!this.facts.asked);
    else this.complain("Choose a node first: click it, or reach it with Tab and press Enter.");
  }

  follows() {
    return this.facts.follow.querySelector(".ask");
  }

  leave() {
    if (!this.sheet.hidden) { this.help(false); return; }
    this.shared.hidden = true;
    if (this.base !== null) this.compare(null);
    if (this.facts.key) {
      const inside = this.facts.follow.contains(document.activeElement);
      this.pick([]);
      this.onPick([]);
      if (inside) this.root.focus();
    }
  }

  compare(base) {
    this.base = base;
    this.with.value = base === null ? "" : base;
    this.with.setAttribute("aria-valuenow", base || 0);
    this.second.querySelector("[data-do=compare]").setAttribute("aria-pressed", base !== null);
    this.show(this.frame, this.shownBefore, this.shownEffect);
  }

  compareWith(text) {
    if (text === "") this.compare(null);
    else if (this.known(text)) this.compare(Number(text));
  }

  share() {
    if (!this.data.share) { this.complain("These steps cannot be made again from a short text."); return; }
    const made = this.data.steps.slice(0, this.step).filter((one) => one.refused !== "broken"); // what is broken is told, not done
    this.shared.value = `replay("${this.data.share}@${this.data.skipped + made.length}")`;
    this.shared.hidden = false;
    this.shared.focus();
    this.shared.select();
    if (navigator.clipboard) navigator.clipboard.writeText(this.shared.value).catch(() => {});
  }
}

// In a page: wherever the picture can be seen until now. A copy of an output has the same places again.
function inline(places, css, data) {
  for (const place of places) {
    const still = place.querySelector(".vfiosim-still");
    if (!still || !place.offsetWidth) continue;
    const root = element("div");
    place.append(element("style", {}, css));
    still.replaceWith(root);
    new Player(root, { ...data, step: linked(place) ?? data.step });
  }
  if (window["vfiosimLinks"]) return;
  window["vfiosimLinks"] = true; // once for all of them: who listens is kept for ever
  window.addEventListener("hashchange", () => {
    /** @type {NodeListOf<Player["root"]>} */
    const players = document.querySelectorAll(".vfiosim-place > .vfiosim-player");
    for (const { parentElement, vfiosim } of players) {
      const step = linked(parentElement);
      if (step !== null) vfiosim.by(() => vfiosim.goTo(step));
    }
  });
}

// The step that the address names, if it is for the player in this place: page.html#step=7 is for the first one of the page,
// page.html#player=2&step=7 for the second.
function linked(place) {
  const named = new URLSearchParams(window.location.hash.slice(1));
  const places = [...document.querySelectorAll(".vfiosim-place")];
  if (!named.has("step") || places[(Number(named.get("player")) || 1) - 1] !== place) return null;
  place.scrollIntoView({ block: "nearest" });
  return Number(named.get("step"));
}

// After a press in the lab: scroll so that the picture is to be seen, but never the pressed button away.
function reveal(root) {
  const lab = root.closest(".vfiosim-lab");
  let scroller = lab && lab.parentElement;
  while (scroller && !(/auto|scroll/.test(getComputedStyle(scroller).overflowY) && scroller.scrollHeight > scroller.clientHeight + 1)) scroller = scroller.parentElement;
  const pressed = document.activeElement;
  if (!scroller || !lab.contains(pressed) || root.contains(pressed)) return;
  const box = (part) => part.getBoundingClientRect();
  const view = box(scroller);
  const lowest = [root.querySelector(".stage"), ...lab.querySelectorAll(".vfiosim-controls .vfiosim-result")].map((part) => box(part).bottom);
  const missing = Math.max(...lowest) + 4 - view.bottom;
  const room = Math.min(box(pressed).top, box(root).top) - 4 - view.top;
  if (Math.min(missing, room) > 0) scroller.scrollTop += Math.min(missing, room);
}

function render({ model, el }) {
  const root = element("div");
  el.append(root);
  const tell = (name, value) => { model.set(name, value); model.save_changes(); };
  let resting = null;
  const player = new Player(root, { ...model.get("data"), views: model.get("shown"), step: model.get("step") }, {
    onMove: (step) => {
      clearTimeout(resting);
      resting = setTimeout(() => { if (model.get("step") !== step) tell("step", step); }, REST);
    },
    onPick: (names) => tell("picked", names),
    onViews: (names) => tell("shown", names),
  });
  let loaded = model.get("data");
  const mirror = () => {
    player.select(model.get("selecting"));
    player.highlight(model.get("highlight"));
    if (String(player.picked) !== String(model.get("picked"))) player.pick(model.get("picked"));
  };
  model.on("change:data", () => {
    player.stop();
    loaded = model.get("data");
    player.load(loaded, loaded.step);
    player.draw(model.get("drawing"));
    mirror();
    for (const wait of [0, 400]) setTimeout(() => reveal(root), wait); // the words about the call come after the picture
  });
  // A new trace and its step come together, in no fixed order: the step is for the trace that is still to be loaded.
  const stale = () => loaded.edition !== model.get("data").edition;
  model.on("change:step", () => { if (!stale() && player.step !== model.get("step")) player.goTo(model.get("step")); });
  model.on("change:shown", () => player.setViews([...model.get("shown"), ...(player.open.has("text") ? ["text"] : [])]));
  model.on("change:drawing", () => { if (!stale()) player.draw(model.get("drawing")); });
  for (const name of ["selecting", "highlight", "picked"]) model.on(`change:${name}`, mirror);
  player.draw(model.get("drawing"));
  mirror();
  requestAnimationFrame(() => player.setViews(player.open)); // what scrolls can do so only now that it is on the page
  return () => { player.stop(); clearTimeout(resting); };
}

// anywidget waits two seconds for this file. A model that had to wait longer, on a slow machine, would be deaf for ever to what the
// kernel tells it; here it learns to listen by itself, and asks for what it has missed.
async function listen(model) {
  const whole = await model.widget_manager?.get_model?.(model.get("itself"));
  const nothing = { content: { data: {} } };
  whole?._handle_comm_msg?.(nothing).catch(() => {
    const heard = Object.getPrototypeOf(Object.getPrototypeOf(whole))._handle_comm_msg;
    whole.comm.on_msg((message) => heard.call(whole, message));
    whole.comm.send({ method: "request_state" });
  });
}

export default { initialize: ({ model }) => { listen(model).catch(() => {}); }, render };
