// The controls: one row with what a reader always needs, and all the rest on demand. It tells what is wanted, and is told how
// things stand.

import { ACTIONS, VIEWS } from "./actions.js";
import { control, element } from "./dom.js";
import { SPEEDS } from "./playing.js";
import { refusal } from "./words.js";

function group(title, ...parts) {
  return element("div", { class: "group", role: "group", "aria-label": title }, element("b", {}, title), ...parts);
}

export class Bar {
  /**
   * @param {{ act: (name: string) => void, jump: (text: string) => void, compare: (text: string) => void, speed: (name: string) => void }} told
   */
  constructor({ act, jump, compare, speed }) {
    this.act = act;
    this.jump = this.number("Go to step", jump);
    this.with = this.number("Compare with step", compare);
    this.total = element("span", {});
    this.at = element("span", { class: "at" });
    this.problem = element("span", { class: "problem", role: "alert" });
    this.speed = control("select", { "aria-label": "Speed" });
    for (const name of SPEEDS) this.speed.append(element("option", { value: name }, name));
    this.speed.addEventListener("change", () => speed(this.speed.value));
    this.speed.value = "normal";
    this.buttons = new Map();
    const buttons = (...names) => names.map((name) => this.button(name));
    const row = [
      ...buttons("back", "play", "next"),
      this.at,
      this.problem,
      ...buttons("all", "legend", "source", "more"),
    ];
    this.first = element("div", { class: "bar first" }, ...row);
    this.shared = control("input", { class: "shared", readonly: "", "aria-label": "Text to share" });
    this.second = element(
      "div",
      { class: "bar second" },
      group(
        "Go to",
        ...buttons("first"),
        element("span", { class: "number" }, this.jump, this.total),
        ...buttons("last"),
      ),
      group("By", ...buttons("uneffect", "effect", "unphase", "phase", "unchange", "change", "unerror", "error")),
      group("Show", ...buttons(...Object.keys(VIEWS).filter((name) => name !== "source"), "room")),
      group("Compare", ...buttons("compare"), "step", this.with),
      group("Speed", this.speed),
      group("Help", ...buttons("help", "share"), this.shared),
    );
    this.shared.hidden = true;
    this.more(false);
  }

  number(name, change) {
    const field = control("input", {
      type: "text",
      inputmode: "numeric",
      role: "spinbutton",
      "aria-label": name,
      "aria-valuemin": 0,
      "aria-valuenow": 0,
    });
    field.addEventListener("change", () => change(field.value.trim()));
    return field;
  }

  button(name) {
    const { shown, tells, says } = ACTIONS.get(name);
    const made = control("button", {
      title: `${tells} (${shown})`,
      "data-do": name,
      onclick: () => this.act(name),
    }, says);
    this.buttons.set(name, made);
    return made;
  }

  load(run) {
    this.run = run;
    for (const field of [this.jump, this.with]) field.setAttribute("aria-valuemax", run.last);
    this.total.textContent = ` / ${run.last}`;
    this.buttons.get("share").hidden = !run.data.share;
    this.buttons.get("all").hidden = !run.data.brief;
    this.buttons.get("play").disabled = !run.last;
  }

  /** @param {import("./run.js").Moment} moment */
  show(moment) {
    const { step, base, open, brief, presenter } = moment;
    const [which, code] = this.where(moment);
    this.at.replaceChildren(which, ...(code ? [" ", element("span", {}, `· in ${code}`)] : []));
    this.at.title = this.at.textContent;
    this.jump.value = step;
    this.jump.setAttribute("aria-valuenow", step);
    this.with.value = base ?? "";
    this.with.setAttribute("aria-valuenow", base || 0);
    const pressed = { compare: base !== null, room: presenter, all: !brief };
    for (const name of Object.keys(VIEWS)) pressed[name] = open.has(name);
    for (const [name, is] of Object.entries(pressed)) this.buttons.get(name).setAttribute("aria-pressed", is);
    this.ends(moment);
    this.complain("");
  }

  // Where nothing comes any more, or nothing was before, its button rests; the keys stay with the player.
  ends({ frame }) {
    const at = document.activeElement;
    for (const [name, rests] of [["back", !frame], ["next", frame === this.run.endOf(this.run.last)]]) {
      const button = this.buttons.get(name);
      if (rests && button === at) {
        /** @type {HTMLElement} */ (button.closest(".vfiosim-player")).focus({ preventScroll: true });
      }
      button.disabled = rests;
    }
  }

  // Which step it is, which detail of it or why one looks at it, and in which function.
  where({ step, told, effect, frame, brief }) {
    const { data, stops } = this.run;
    const walk = brief && !effect ? stops.indexOf(step) + 1 : 0; // on a walk only its own steps are counted
    const all = this.run.last, count = (number) => `${number} step${number === 1 ? "" : "s"}`;
    const main = brief && stops.length ? `${stops.length} main ones of ${count(all)}` : "";
    if (!told) return [all ? `before the first of ${main || count(all)}` : "no steps yet"];
    const first = this.run.endOf(step - 1);
    const detail = effect ? `, detail ${frame - first} of ${told.frame - first}` : "";
    const code = data.running[(effect || told).place];
    const about = told.refused === "broken"
      ? "what is broken"
      : told.refused
      ? (refusal(told.refused) ? "refused here" : "it goes wrong here")
      : {
        [data.step]: "look here",
        1: "the first",
        [data.tells]: "the last change that stays",
        [this.run.last]: "the last",
      }[step];
    const which = walk ? `main step ${walk} of ${stops.length}` : `step ${step} of ${all}`;
    return [`${which}${detail || (about ? `: ${about}` : "")}`, code];
  }

  // What is neither a complaint nor of one step; it goes with the next move.
  tell(text) {
    this.problem.textContent = text;
    this.problem.classList.add("told");
  }

  complain(text) {
    this.problem.textContent = text;
    this.problem.classList.remove("told");
    this.jump.toggleAttribute("aria-invalid", Boolean(text));
  }

  plays(plays) {
    this.buttons.get("play").textContent = plays ? "Pause" : "Play";
  }

  more(wanted) {
    this.second.hidden = !wanted;
    this.buttons.get("more").setAttribute("aria-expanded", wanted);
  }

  // Show a text to copy, copied already where that is allowed.
  share(text) {
    this.more(true);
    this.shared.hidden = false;
    this.shared.value = text;
    this.shared.focus();
    this.shared.select();
    if (navigator.clipboard) navigator.clipboard.writeText(text).catch(() => {});
  }
}
