// Who holds a reference to whom. Nodes can be picked; one of them is reached with Tab, the others from there with arrows.

import { drawn, element } from "./dom.js";
import { KEEPS_KEYS } from "./lumino.js";

const BADGES = { new: "+", gone: "−" };
const HEAD = 21, BELOW = 6, ALONE = 3; // of a box: how high its title is, what is left below its last row, or below a title alone
const NULL = "–"; // of a pointer that points nowhere; any other shows itself by its arrow

// What is there at a moment, and what was there before: the same rule as `look` in draw.py.
function look(now, was) {
  if (now === was) return { mark: now ? "" : "off", text: now };
  if (!now || now === "freed") return { mark: "gone", text: was };
  return { mark: was ? "changed" : "new", text: now };
}

function changeText(was, now) {
  return [...was].length + [...now].length <= 7 ? `${was}→${now}` : now;
}

// Is one of these objects drawn in a box?
function holds(node, names) {
  const { parts, oid } = node.dataset;
  return (parts ? JSON.parse(parts) : [oid]).some((name) => names.includes(name));
}

export class GraphView {
  /** @param {{ click: (node: any, arrow: any, part?: string) => void, sized: (wide: number, high: number) => void, lost: () => void }} told */
  constructor({ click, sized, lost }) {
    this.click = click;
    this.sized = sized;
    this.lost = lost; // what had the focus is hidden now
    this.selecting = false;
    this.root = element("div", { class: "stage" });
    this.root.addEventListener(
      "click",
      ({ target }) =>
        (target.closest(".stub") && !this.selecting) || // it tells who is not drawn, and moves nothing
        click(target.closest(".node"), target.closest(".edge"), target.closest("[data-part]")?.dataset.part),
    );
  }

  load({ data }) {
    const before = this.places();
    this.root.innerHTML = data.svg || "";
    this.elements = new Map();
    for (const part of this.root.querySelectorAll("[data-key]")) this.elements.set(part.dataset.key, part);
    this.nodes = [...this.elements.values()].filter((part) => part.classList.contains("node"));
    this.turns = this.takingTurns();
    this.marked = [...this.root.querySelectorAll(".new, .gone, .changed")].map((part) => part.dataset.key);
    this.drawn = data.step; // as it comes it shows this step
    this.plain = true;
    this.read = new Set();
    this.describes = this.root.querySelector("desc");
    this.here = null;
    const [, , wide, high] = data.svg
      ? this.root.querySelector("svg").getAttribute("viewBox").split(" ").map(Number)
      : [0, 0, 0, 1];
    this.sized(wide, high);
    this.trees = data.trees;
    this.harmed = data.harmed;
    if (!data.svg) this.root.append(element("p", { class: "hint" }, data.hint), this.tree = element("pre"));
    else this.reach(this.root.querySelector("svg"));
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.glide(before);
  }

  // Where each box is, by its name, counted from the corner of the picture.
  places() {
    const paper = this.root.querySelector("svg > .paper");
    const place = (part) => [Number(part.getAttribute("x")), Number(part.getAttribute("y"))];
    return new Map(
      paper
        ? this.nodes.map((node) => {
          const [[x, y], [left, top]] = [node.querySelector(".box"), paper].map(place);
          return [node.dataset.oid, [x - left, y - top]];
        })
        : [],
    );
  }

  // The boxes of each place that several have, one after the other.
  takingTurns() {
    const places = new Map();
    for (const node of this.nodes) {
      const box = node.querySelector(".box");
      const place = `${box.getAttribute("x")} ${box.getAttribute("y")}`;
      places.set(place, [...(places.get(place) || []), node]);
    }
    return [...places.values()].filter((some) => some.length > 1);
  }

  // What has another place than before glides there, and what is new comes slowly.
  glide(before) {
    const now = this.places();
    for (const node of this.nodes) {
      const [[x, y], [wasX, wasY]] = [
        now.get(node.dataset.oid),
        before.get(node.dataset.oid) || now.get(node.dataset.oid),
      ];
      if (before.size && !before.has(node.dataset.oid)) node.animate([{ opacity: 0 }, {}], { duration: 500 });
      if (Math.hypot(x - wasX, y - wasY) > 2) {
        node.animate([{ transform: `translate(${wasX - x}px, ${wasY - y}px)` }, {}], {
          duration: 500,
          easing: "ease-in-out",
        });
      }
    }
  }

  reach(svg) {
    svg.setAttribute("role", "group"); // a picture may hold no controls
    for (const node of this.nodes) {
      const all = { role: "button", "aria-label": node.dataset.oid, "aria-pressed": "false", ...KEEPS_KEYS };
      for (const [name, value] of Object.entries(all)) node.setAttribute(name, value);
    }
    for (const edge of this.root.querySelectorAll(".edge")) {
      const line = edge.querySelector(".line");
      edge.append(drawn("path", { class: "hit", d: line.getAttribute("d") }));
    }
  }

  /** @param {import("./run.js").Moment} moment */
  show({ now, was, touched, read, frame, step, told }) {
    if (this.trees) this.tree.textContent = this.trees[frame] || "";
    const marked = [];
    const other = step === this.drawn && told?.frame === frame
      ? []
      : this.drawn === null
      ? touched
      : this.elements.keys();
    this.drawn = null;
    for (const key of new Set([...other, ...this.marked, ...Object.keys(was)])) {
      const part = this.elements.get(key);
      if (part && this.dress(part, now[key] || "", key in was ? was[key] || "" : now[key] || "")) marked.push(key);
    }
    for (const some of this.turns) { // what has gone is not to be seen where another one stands
      if (!some.some((node) => !node.matches(".off, .gone"))) continue;
      for (const node of some) if (node.matches(".gone")) node.classList.replace("gone", "off");
    }
    this.marked = marked;
    for (const key of this.read) this.elements.get(key)?.classList.remove("read");
    for (const key of read) this.elements.get(key)?.classList.add("read");
    this.read = read;
    for (const part of this.root.querySelectorAll(".harmed")) part.classList.remove("harmed");
    for (const key of told && frame === told.frame ? this.harmed[step - 1] : []) {
      this.elements.get(key)?.classList.add("harmed");
    }
    for (const node of this.nodes) if (node.matches(".kind-thread")) this.fit(node);
    this.stop();
  }

  // A call is as high as what it shows: the same rule as `_height` in draw.py.
  fit(node) {
    const box = node.querySelector(".box");
    const edge = (part, name) => Number(part.getAttribute(name));
    const bars = [...node.querySelectorAll(".row:not(.passing.off, .passing.gone) > .bar")];
    const rows = bars.map((bar) => edge(bar, "y") + edge(bar, "height") - edge(box, "y"));
    box.setAttribute("height", rows.length ? Math.max(...rows) + BELOW : HEAD + ALONE);
    node.classList.toggle("alone", !rows.length);
  }

  dress(part, now, was) {
    const { mark, text } = look(now, was);
    const has = part.classList;
    has.remove("off", "new", "gone", "changed");
    if (mark) has.add(mark);
    if (has.contains("row")) {
      has.toggle("refused", text.startsWith("✕"));
      const value = has.contains("drawn")
        ? (text === NULL || part.dataset.words?.includes(text) ? text : "")
        : mark === "changed"
        ? changeText(was, text)
        : text;
      part.querySelector(".value").textContent = value;
    } else if (has.contains("stub")) {
      part.querySelector("title").textContent = text;
      part.querySelector("text").textContent = text.split(":")[0];
    } else if (has.contains("node")) {
      has.toggle("freed", now === "freed");
      part.querySelector("text.badge").textContent = BADGES[mark] || "";
    }
    return mark && mark !== "off";
  }

  // What the picture is about, for who cannot see it.
  describe(text) {
    if (this.describes) this.describes.textContent = text;
  }

  there() {
    return this.nodes.filter((node) => !node.classList.contains("off"));
  }

  // See to it that Tab reaches one node that is there. If the one with the focus is gone, the player gets it.
  stop(wanted) {
    const before = this.here;
    const focused = document.activeElement;
    if (focused.matches(".node.off") && this.root.contains(focused)) this.lost();
    if (wanted) this.here = wanted;
    else if (!this.here || this.here.classList.contains("off")) this.here = this.there()[0] || null;
    if (this.here === before) return;
    for (const node of this.nodes) node.setAttribute("tabindex", node === this.here ? 0 : -1);
  }

  key(event) {
    const arrows = { ArrowDown: 1, ArrowUp: -1, ...(this.selecting ? { ArrowRight: 1, ArrowLeft: -1 } : {}) };
    if (event.key in arrows) {
      const there = this.there();
      this.stop(there.at((there.indexOf(event.target) + arrows[event.key]) % there.length));
      this.here.focus();
    } else if (event.key === "Enter" || event.key === " ") this.click(event.target, null);
    else return false;
    return true;
  }

  // Show what is picked, and bring out one node and its arrows, or several and the arrows between them, or one arrow.
  mark({ picked, selecting, brought, edge }) {
    this.selecting = selecting;
    const plain = !selecting && !edge && !picked.length && !brought.length;
    if (plain && this.plain) return;
    this.plain = plain;
    const names = brought.length ? brought : selecting ? [] : picked;
    const keys = new Set();
    for (const node of this.nodes) if (holds(node, names)) keys.add(node.dataset.key);
    for (const part of this.elements.values()) {
      const { from, to, oid, key } = part.dataset;
      const ends = [from, to].filter((end) => keys.has(end)).length;
      const dim = !from ? oid && keys.size > 1 && !keys.has(key) : edge ? key !== edge : ends < Math.min(keys.size, 2);
      part.classList.toggle("dim", Boolean(dim));
    }
    for (const node of this.nodes) {
      const is = holds(node, picked);
      node.classList.toggle("picked", is);
      for (const title of node.querySelectorAll(".title")) {
        title.classList.toggle("picked", picked.includes(title.dataset.part));
      }
      node.setAttribute("aria-pressed", is);
      this.tick(node, is && selecting);
    }
  }

  tick(node, wanted) {
    const old = node.querySelector(".tick");
    if (Boolean(old) === wanted) return;
    if (old) {
      old.remove();
      return;
    }
    const box = node.querySelector(".box");
    const [x, y] = ["x", "y"].map((name) => Number(box.getAttribute(name)));
    const tick = node.appendChild(drawn("g", { class: "tick", transform: `translate(${x - 5} ${y + 8})` }));
    tick.append(drawn("circle", { r: 11 }), drawn("text", { y: 6 }));
    tick.lastChild.textContent = "✓";
  }
}
