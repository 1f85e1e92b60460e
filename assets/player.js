// A trace, step by step. The same file serves twice: inlined into a page of its own, and as the front end of a widget.
// It gets data: an SVG with all that ever occurs, and for each effect what it changed. A step is a set of class changes.

const PERIODS = { slow: 4000, normal: 2200, fast: 1000 };
const BADGES = { new: "+", gone: "−" };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
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

class Player {
  constructor(root, data, onMove = () => {}) {
    this.root = root;
    this.onMove = onMove;
    this.timer = null;
    this.typed = "";
    root.replaceChildren();
    root.classList.add("vfiosim-player");
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Step through what the kernel did");
    root.setAttribute("data-lm-suppress-shortcuts", "true");
    this.build();
    if (!root.dataset.listens) {
      root.dataset.listens = "yes";
      root.addEventListener("keydown", (event) => root.vfiosim.key(event));
    }
    root.vfiosim = this;
    this.load(data, data.step);
  }

  // ---- the controls

  build() {
    const plain = (label, title, action) =>
      element("button", { type: "button", title, "data-lm-suppress-shortcuts": "true", onclick: action }, label);
    const button = (label, title, action) => plain(label, title, () => { this.stop(); action(); });
    this.playButton = plain("Play", "Space", () => this.toggle());
    this.jump = element("input", {
      type: "text", inputmode: "numeric", role: "spinbutton", "aria-label": "Go to step", "aria-valuemin": 0,
      title: "or type the number anywhere", "data-lm-suppress-shortcuts": "true",
    });
    this.jump.addEventListener("change", () => this.jumpTo(this.jump.value.trim()));
    this.total = element("span", { class: "total" });
    this.problem = element("span", { class: "problem", role: "alert" });
    this.speed = element("select", { "aria-label": "Speed", "data-lm-suppress-shortcuts": "true" });
    for (const name of Object.keys(PERIODS)) this.speed.append(element("option", { value: name }, name));
    this.speed.value = "normal";
    this.speed.addEventListener("change", () => { if (this.timer) { this.stop(); this.play(); } });
    this.bar = element("div", { class: "bar" },
      button("First", "Home", () => this.goTo(0)),
      button("← Back", "Arrow left", () => this.move(-1)),
      this.playButton,
      button("Next →", "Arrow right", () => this.move(1)),
      button("Last", "End", () => this.goTo(this.last)),
      element("span", { class: "number" }, this.jump, this.total), this.problem,
      button("‹ effect", "Shift and arrow left", () => this.effect(-1)),
      button("effect ›", "Shift and arrow right", () => this.effect(1)),
      this.speed);
    this.strip = element("div", { class: "strip", "aria-hidden": "true" });
    this.chips = element("span", { class: "chips" });
    this.sentence = element("span", { class: "sentence" });
    this.context = element("div", { class: "context" });
    const said = element("div", {}, this.sentence, this.context);
    this.live = element("div", { class: "say", "aria-live": "polite" }, this.chips, said);
    this.stage = element("div", { class: "stage" });
    this.side = element("div", { class: "side" });
    this.root.append(this.strip, this.bar, this.live, element("div", { class: "main" }, this.stage, this.side));
    this.stage.addEventListener("click", (event) => this.pick(event.target.closest(".node")));
  }

  load(data, step) {
    this.data = data;
    this.last = data.steps.length;
    this.stage.innerHTML = data.svg || "";
    this.parts = new Map();
    for (const part of this.stage.querySelectorAll("[data-key]")) this.parts.set(part.dataset.key, part);
    this.describes = this.stage.querySelector("desc");
    if (!data.svg) this.stage.append(element("p", { class: "hint" }, data.hint), this.tree = element("pre"));
    this.picked = [];
    this.jump.setAttribute("aria-valuemax", this.last);
    this.total.textContent = ` / ${this.last}`;
    this.strip.replaceChildren(...data.steps.map((one, number) => element("span", {
      class: `phase-${one.phase}${one.refused ? " refused" : ""}`, title: `${number + 1}. ${one.sentence}`,
      onclick: () => { this.stop(); this.goTo(number + 1); },
    })));
    this.goTo(step);
  }

  // ---- moving: `step` counts from 1, 0 is before the first; `frame` is the number of effects done

  goTo(step) {
    this.step = Math.max(0, Math.min(this.last, Math.round(step) || 0));
    this.frame = this.endOf(this.step);
    this.show(this.frame, this.endOf(this.step - 1), null);
  }

  // What was written into the field; anything but a step of this trace is said to be none, and moves nothing.
  jumpTo(text) {
    this.stop();
    if (/^[0-9]+$/.test(text) && Number(text) <= this.last) this.goTo(Number(text));
    else this.complain(`${text ? `There is no step ${text}` : "A number is missing"}: write 0 to ${this.last}.`);
  }

  complain(text) {
    this.problem.textContent = text;
    this.jump.toggleAttribute("aria-invalid", Boolean(text));
  }

  // The texts of all keys when so many effects are done.
  moment(frame) {
    return Object.assign({}, ...this.data.changes.slice(0, frame + 1));
  }

  endOf(step) {
    return step > 0 ? this.data.steps[step - 1].frame : 0;
  }

  move(by) {
    if (this.inside && by > 0 && this.frame < this.endOf(this.step)) this.goTo(this.step);
    else this.goTo(this.step + by);
  }

  effect(by) {
    const frame = this.frame + by;
    if (frame < 0 || frame >= this.data.changes.length) return;
    if (frame === 0) { this.goTo(0); return; }
    this.frame = frame;
    this.step = 1 + this.data.steps.findIndex((one) => one.frame >= frame);
    this.show(frame, frame - 1, this.data.effects[frame - 1]);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
    const moves = {
      ArrowRight: () => (event.shiftKey ? this.effect(1) : this.move(1)),
      ArrowLeft: () => (event.shiftKey ? this.effect(-1) : this.move(-1)),
      Home: () => this.goTo(0),
      End: () => this.goTo(this.last),
      " ": () => this.toggle(),
    };
    if (event.key === " " && event.target.matches("button")) return;
    const action = moves[event.key] || (/^\d$/.test(event.key) && (() => this.digit(event.key)));
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key !== " ") this.stop();
    action();
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
    this.inside = effect !== null;
    const [now, was] = [this.moment(frame), this.moment(before)];
    for (const [key, part] of this.parts) this.dress(part, now[key] || "", was[key] || "");
    const step = this.data.steps[this.step - 1];
    this.jump.value = this.step;
    this.jump.setAttribute("aria-valuenow", this.step);
    this.complain("");
    [...this.strip.children].forEach((mark, index) => {
      mark.classList.toggle("current", index === this.step - 1);
      mark.classList.toggle("done", index < this.step);
    });
    this.words(step, effect);
    this.facts(step, effect, frame);
    if (this.describes) this.describes.textContent = this.sentence.textContent;
    if (this.tree) this.tree.textContent = this.data.trees[frame] || "";
    this.root.dataset.step = this.step;
    this.root.dataset.frame = frame;
    this.onMove(this.step);
  }

  dress(part, now, was) {
    const { mark, text } = look(now, was);
    part.classList.remove("off", "new", "gone", "changed");
    if (mark) part.classList.add(mark);
    if (part.classList.contains("row")) {
      part.querySelector(".value").textContent = mark === "changed" ? changeText(was, text) : text;
    } else if (part.classList.contains("label")) {
      part.textContent = `${BADGES[mark] || ""} ${text}`.trim();
    } else if (part.classList.contains("node")) {
      part.classList.toggle("freed", now === "freed");
      part.querySelector("text.badge").textContent = BADGES[mark] || "";
    }
  }

  words(step, effect) {
    const chip = (name, text) => element("span", { class: `chip ${name}` }, text);
    this.chips.replaceChildren();
    this.root.classList.toggle("refused", Boolean(step && step.refused));
    if (!step) {
      this.chips.append(chip("start", "start"));
      this.sentence.textContent = "Before the first step.";
      this.context.textContent = "";
      return;
    }
    this.chips.append(chip(`phase-${step.phase}`, step.phase));
    if (step.refused) this.chips.append(chip("errno", `✕ ${step.refused}`));
    if (step.waits) this.chips.append(chip("waits", "waits"));
    this.chips.append(chip("thread", step.thread));
    if (effect) this.chips.append(chip("effect", "effect"));
    this.sentence.textContent = effect ? effect.text : step.sentence;
    this.context.textContent = effect ? step.sentence : "";
  }

  facts(step, effect, frame) {
    this.side.replaceChildren();
    if (!step) return;
    const section = (title, ...content) => this.side.append(element("section", {}, element("div", { class: "title" }, title), ...content));
    const changes = effect ? effect.changes : step.changes;
    if (changes.length) section("Changed", element("ul", { class: "changes" }, ...changes.map((text) => element("li", {}, text))));
    const place = this.data.places[(effect || step).place];
    if (place.where) section("Python", element("div", { class: "where" }, place.where), element("pre", { class: "source" }, place.source));
    if (place.kernel) section("Kernel", element("code", { class: "kernel" }, place.kernel), element("div", { class: "where" }, place.origin));
    const first = this.endOf(this.step - 1);
    const effects = this.data.effects.slice(first, step.frame).map((one, index) => element("li", {
      class: effect && first + index + 1 === frame ? "current" : "",
      onclick: () => { this.stop(); this.frame = first + index; this.effect(1); },
    }, one.text));
    if (effects.length) section(effects.length === 1 ? "1 effect" : `${effects.length} effects`, element("ol", {}, ...effects));
    const current = this.side.querySelector("li.current");
    if (current) current.parentElement.scrollTop = current.offsetTop - current.parentElement.offsetTop - 40;
  }

  // A click on a node brings it out, with the arrows that touch it; a second click ends that.
  pick(node) {
    this.highlight(node && !this.picked.includes(node.dataset.oid) ? [node.dataset.oid] : []);
  }

  // Bring out one node and its arrows, or several and the arrows between them; none: everything as usual.
  highlight(names) {
    this.picked = names;
    const keys = new Set();
    for (const [key, part] of this.parts) if (names.includes(part.dataset.oid)) keys.add(key);
    for (const part of this.parts.values()) {
      const edge = part.classList.contains("label") ? this.parts.get(part.dataset.edge) : part;
      const ends = [edge.dataset.from, edge.dataset.to].filter((end) => keys.has(end)).length;
      const out = edge.dataset.from ? ends < Math.min(keys.size, 2) : edge.dataset.oid && keys.size > 1 && !keys.has(edge.dataset.key);
      part.classList.toggle("dim", Boolean(out));
    }
  }
}

function render({ model, el }) {
  const root = element("div");
  el.append(root);
  const player = new Player(root, model.get("data"), (step) => {
    if (model.get("step") !== step) { model.set("step", step); model.save_changes(); }
  });
  const highlight = () => player.highlight(model.get("highlight"));
  model.on("change:data", () => { player.stop(); player.load(model.get("data"), model.get("data").step); highlight(); });
  // A new trace and its step come together, in no fixed order: the step is for the trace that is still to be loaded.
  const stale = () => player.data !== model.get("data");
  model.on("change:step", () => { if (!stale() && player.step !== model.get("step")) player.goTo(model.get("step")); });
  model.on("change:highlight", highlight);
  highlight();
  return () => player.stop();
}

export default { render };
