// A trace, step by step. It gets data: an SVG with all that ever occurs, and for each effect what it changed. A step is a set
// of class changes. The player knows the moment; the views show that moment, each in its own way, and tell what is wanted.

import { VIEWS } from "./actions.js";
import { Bar } from "./bar.js";
import { CountersView } from "./counters.js";
import { doing } from "./doing.js";
import { element, settled } from "./dom.js";
import { FactsView } from "./facts.js";
import { sight } from "./frames.js";
import { GraphView } from "./graph.js";
import { Keys, keyTable } from "./keys.js";
import { LegendView, marks } from "./legend.js";
import { KEEPS_KEYS } from "./lumino.js";
import { Moving } from "./moving.js";
import { Picking } from "./picking.js";
import { Playing } from "./playing.js";
import { toSight } from "./reveal.js";
import { Run } from "./run.js";
import { Scrubber } from "./scrubber.js";
import { Sheet } from "./sheet.js";
import { SourceView } from "./source.js";
import { Tips } from "./tips.js";
import { TextView } from "./text.js";
import { WordsView } from "./words.js";

const SLIT = 220; // pixels: of a lower one the controls that are always seen would leave too little
const SLICES = [...Array(21).keys()].map((part) => part / 20);
const PRESENTED = ".vfiosim-presented"; // a notebook that is shown to a room

// Is it the beginning of a picture that is on the screen, and not enough of it? The controls stay below it then.
function beginning(root, stage) {
  const looked = (entries) => {
    const { intersectionRect: seen, boundingClientRect: whole } = entries.at(-1);
    root.classList.toggle("begins", seen.bottom < whole.bottom - 1 && seen.height < Math.min(SLIT, whole.height));
  };
  new IntersectionObserver(looked, { threshold: SLICES }).observe(stage);
}

export class Player extends Moving {
  /**
   * @param {HTMLElement & { vfiosim?: Player }} root
   * @param {any} data
   * @param {{ onMove?: (step: number) => void, onPick?: (names: string[]) => void, onViews?: (names: string[]) => void,
   *   onShare?: () => void, onUnfold?: (name: string) => void }} told
   */
  constructor(
    root,
    data,
    { onMove = () => {}, onPick = () => {}, onViews = () => {}, onShare = () => {}, onUnfold } = {},
  ) {
    super(root);
    this.onMove = onMove;
    this.onViews = onViews;
    this.onShare = onShare;
    this.left = 0; // the step at which the reader was while it was printed
    this.open = new Set(data.views);
    this.presenter = Boolean(data.presenter || root.closest(PRESENTED));
    root.replaceChildren();
    root.classList.add("vfiosim-player");
    for (
      const [name, value] of Object.entries({
        role: "group",
        tabindex: "0",
        "aria-label": "Step through what the kernel did",
        ...KEEPS_KEYS,
      })
    ) root.setAttribute(name, value);
    sight(root);
    this.does = doing(this);
    this.build();
    this.picking = new Picking(this.graph, this.facts, {
      marked: () => this.marked(),
      onPick,
      onUnfold: onUnfold && ((name) => !this.brief && (onUnfold(name), true)),
    });
    if (!root.dataset.listens) {
      root.dataset.listens = "yes";
      root.addEventListener("keydown", (event) => root.vfiosim.keys.press(event));
    }
    root.vfiosim = this;
    this.load(data, data.step);
  }

  // ---- what it is made of

  build() {
    const go = (step) => this.by(() => this.goTo(step));
    const near = (step) => this.by(() => this.near(step));
    this.playing = new Playing({ tick: () => this.tick(), changed: (plays) => this.bar.plays(plays) });
    this.bar = new Bar({
      act: (name) => this.act(name),
      jump: (text) => this.jumpTo(text),
      compare: (text) => this.compareWith(text),
      speed: (name) => this.playing.at(name),
    });
    this.legend = new LegendView();
    this.sheets = {
      help: new Sheet("Keys", () => this.sheets.help.open(false), keyTable()),
      legend: new Sheet("Legend", () => this.read("legend"), this.legend.root, false),
    };
    this.graph = new GraphView({
      click: (node, arrow, part) => this.picking.click(node, arrow, part),
      sized: (wide, high) => this.sized(wide, high),
      lost: () => this.root.focus(),
    });
    this.keys = new Keys(this.root, {
      act: (name) => this.act(name),
      jump: (text) => this.jumpTo(text),
      inGraph: (event) => this.graph.key(event),
    });
    this.counters = new CountersView();
    this.words = new WordsView();
    this.tips = new Tips(this.root);
    const [scrubber, source, text] = [new Scrubber({ go: near }), new SourceView(), new TextView()];
    this.facts = new FactsView({
      go,
      effect: (frame) => this.by(() => this.goToEffect(frame)),
      edge: (key) => this.picking.followEdge(key),
      light: (names) => this.picking.light(names),
      leave: () => this.leave(),
    });
    this.facts.root.prepend(source.root);
    this.stands = {
      graph: this.graph.root,
      lanes: scrubber.root,
      counters: this.counters.root,
      details: this.facts.root,
      source: source.root,
      text: text.root,
    };
    this.views = [scrubber, this.bar, this.words, this.graph, this.counters, source, text, this.facts];
    const main = element("div", { class: "main" }, this.graph.root, this.facts.root);
    const { help, legend } = this.sheets;
    const below = [legend.root, this.bar.second, this.counters.root, text.root, help.root, this.tips.root];
    const foot = element("div", { class: "foot" }, this.bar.first, scrubber.root);
    this.key = element("div", { class: "key vfiosim-graph" });
    this.root.append(this.words.root, this.key, main, foot, ...below);
  }

  sized(wide, high) {
    this.root.style.setProperty("--wide", wide);
    this.root.style.setProperty("--high", high);
    this.root.style.setProperty("--aspect", String(wide / high));
  }

  // First the brief picture, if there is one; whoever takes finer steps, or wants it, sees all.
  /** @override */
  load(data, step) {
    this.whole = data;
    this.key.replaceChildren(...(data.brief ? marks() : []));
    this.brief = Boolean(data.brief) && !this.full;
    this.run = new Run(this.brief ? { ...data, ...data.brief } : data);
    this.base = null;
    for (const view of [...this.views, this.tips, this.legend]) view.load(this.run);
    this.openViews(this.open);
    this.goTo(step);
    this.picking.load(this.run.parts);
  }

  // More is known of code, words and reasons than when this was loaded.
  know(known) {
    Object.assign(this.whole, known);
    Object.assign(this.run.data, known, this.brief && this.whole.brief);
    this.run.know(known);
    if (this.open.has("source") || this.open.has("details") || this.facts.key) this.again();
  }

  // ---- doing

  by(action) {
    this.playing.stop(); // a move by hand ends it
    this.seen(action);
  }

  // What the next step changes is to be seen, wherever the picture is cut by the screen.
  seen(move) {
    const { frame } = this.moment, goesOn = move();
    if (this.moment.frame !== frame) settled(this, () => toSight(this.root));
    return goesOn;
  }

  /** @override */
  tick() {
    return this.seen(() => super.tick());
  }

  act(name) {
    if (["play", "faster", "slower"].includes(name)) this.does[name]();
    else this.by(this.does[name]);
  }

  /** @override */
  complain(text) {
    this.bar.complain(text);
  }

  /** @override */
  tell(text) {
    this.bar.tell(text);
  }

  // The steps in which something changes, of what the reader follows if there is anything.
  changing() {
    return this.facts.changing() ?? this.run.changing();
  }

  // ---- showing

  /** @override */
  show(frame, before, effect) {
    this.before = before;
    const { moments, steps } = this.run;
    const touched = moments.seek(frame);
    const since = this.base === null ? before : this.run.endOf(this.base);
    const [was, read] = [moments.at(since), this.run.read(since, frame)];
    const { step, base, open, brief, presenter } = this;
    const told = steps[step - 1];
    /** @type {import("./run.js").Moment} */
    this.moment = { step, frame, effect, base, open, brief, presenter, told, now: moments.now, was, touched, read };
    for (const view of this.views) view.show(this.moment);
    this.graph.describe(this.words.sentence.textContent);
    this.root.classList.toggle("refused", Boolean(told?.refused));
    this.root.classList.toggle("presenter", presenter);
    this.beside();
    this.root.dataset.step = String(step);
    this.root.dataset.frame = frame;
    this.onMove(step);
  }

  /** @override */
  again() {
    this.show(this.moment.frame, this.before, this.moment.effect);
  }

  toggleView(name) {
    const open = new Set(this.open);
    if (!open.delete(name)) open.add(name);
    this.setViews(open);
    if (open.has(name)) (name === "source" ? this.root : this.stands[name]).scrollIntoView({ block: "nearest" }); // it may stand below the picture
    this.onViews(Object.keys(VIEWS).filter((one) => open.has(one) && one !== "text"));
  }

  openViews(names) {
    this.open = new Set(names);
    for (const name of Object.keys(VIEWS)) this.root.classList.toggle(`with-${name}`, this.open.has(name));
  }

  setViews(names) {
    this.openViews(names);
    this.again();
  }

  // Something stands beside the picture.
  beside() {
    const { open, base } = this;
    const beside = open.has("source") || open.has("details") || base !== null;
    this.root.classList.toggle("with-side", beside || Boolean(this.facts.key));
    this.root.classList.toggle("under", !beside); // what is followed leaves the picture as it is
    this.root.classList.toggle("compares", base !== null);
  }

  // Show a sheet, or put it away.
  read(name) {
    const sheet = this.sheets[name];
    if (name === "legend" && sheet.root.hidden) this.legend.fill();
    sheet.open(sheet.root.hidden);
    if (name === "legend") this.bar.buttons.get(name).setAttribute("aria-pressed", !sheet.root.hidden);
  }

  room(wanted) {
    this.presenter = wanted;
    this.again();
  }

  // It stands on the page now: what scrolls can do so, and where a notebook is presented, it is, too.
  placed() {
    this.presenter ||= Boolean(this.root.closest(PRESENTED));
    this.setViews(this.open);
    beginning(this.root, this.graph.root);
    const controls = this.root.closest(".vfiosim-above")?.firstElementChild;
    if (!controls) return;
    const first = this.root.closest(".vfiosim-task")?.parentElement ?? controls; // what is asked stands above them
    const told = () => {
      const high = controls.getBoundingClientRect().bottom - first.getBoundingClientRect().top;
      this.root.style.setProperty("--controls", `${high}px`);
    };
    new ResizeObserver(() => this.presenter && told()).observe(controls);
  }

  more(wanted) {
    this.bar.more(wanted);
    this.root.classList.toggle("more", wanted);
    if (wanted) this.bar.second.scrollIntoView({ block: "nearest" });
  }

  // ---- picking, following, asking

  get picked() {
    return this.picking.picked;
  }

  pick(names) {
    this.picking.pick(names);
  }

  select(selecting) {
    this.picking.select(selecting);
  }

  highlight(names) {
    this.picking.highlight(names);
  }

  marked() {
    this.root.classList.toggle("selecting", this.picking.selecting);
    this.root.classList.toggle("follows", Boolean(this.facts.key));
    this.beside();
  }

  why(oid) {
    return this.run.why(oid, this.moment);
  }

  askWhy() {
    if (!this.facts.ask()) this.complain("Choose a node first: click it, or reach it with Tab and press Enter.");
  }

  leave() {
    this.tips.show(null);
    const read = Object.keys(this.sheets).find((name) => !this.sheets[name].root.hidden);
    if (read) {
      this.read(read);
      return;
    }
    this.bar.shared.hidden = true;
    if (this.base !== null) this.compare(null);
    if (this.picking.leave()) this.root.focus();
  }

  // A text that is not there yet is made by who is told so, and comes to `shareAs`.
  share() {
    if (this.run.data.share === true) this.onShare();
    else this.shareAs(this.run.data.share);
  }

  shareAs(whole) {
    const text = this.run.shared(this.step, whole);
    if (text) this.bar.share(text);
    else this.complain("These steps cannot be made again from a short text.");
  }
}
