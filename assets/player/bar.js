// The controls: two rows of buttons and fields, the second on demand. It tells what is wanted, and is told how things stand.

import { ACTIONS, VIEWS } from "./actions.js";
import { control, element } from "./dom.js";
import { SPEEDS } from "./playing.js";

export class Bar {
  /**
   * @param {{ act: (name: string) => void, jump: (text: string) => void, compare: (text: string) => void, speed: (name: string) => void }} told
   */
  constructor({ act, jump, compare, speed }) {
    this.act = act;
    this.jump = this.number("Go to step", jump);
    this.with = this.number("Compare with step", compare);
    this.total = element("span", { class: "total" });
    this.problem = element("span", { class: "problem", role: "alert" });
    this.speed = control("select", { "aria-label": "Speed" });
    for (const name of SPEEDS) this.speed.append(element("option", { value: name }, name));
    this.speed.addEventListener("change", () => speed(this.speed.value));
    this.speed.value = "normal";
    this.buttons = new Map();
    const buttons = (...names) => names.map((name) => this.button(name));
    this.first = element(
      "div",
      { class: "bar first" },
      ...buttons("first", "back", "play", "next", "last"),
      element("span", { class: "number" }, this.jump, this.total),
      ...buttons("uneffect", "effect"),
      this.speed,
      ...buttons("more", "help"),
    );
    this.second = element(
      "div",
      { class: "bar second" },
      ...buttons("unchange", "change", "unphase", "phase", "unerror", "error"),
      element("span", { class: "gap" }, ...buttons("compare"), " with step ", this.with),
      ...buttons("share"),
      element("span", { class: "gap", role: "group", "aria-label": "Views" }, ...buttons(...Object.keys(VIEWS))),
    );
    this.shared = control("input", { class: "shared", readonly: "", "aria-label": "Text to share" });
    this.shared.hidden = true;
    this.parts = [this.first, this.second, this.shared, this.problem];
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
    const words = name === "help" ? [element("span", { class: "wide" }, "Keys "), "?"] : [says];
    const made = control(
      "button",
      { title: `${tells} (${shown})`, "data-do": name, onclick: () => this.act(name) },
      ...words,
    );
    this.buttons.set(name, made);
    return made;
  }

  load({ last, data }) {
    for (const field of [this.jump, this.with]) field.setAttribute("aria-valuemax", last);
    this.total.textContent = ` / ${last}`;
    this.buttons.get("share").hidden = !data.share;
  }

  /** @param {import("./run.js").Moment} moment */
  show({ step, base, open }) {
    this.jump.value = step;
    this.jump.setAttribute("aria-valuenow", step);
    this.with.value = base ?? "";
    this.with.setAttribute("aria-valuenow", base || 0);
    this.buttons.get("compare").setAttribute("aria-pressed", base !== null);
    for (const name of Object.keys(VIEWS)) this.buttons.get(name).setAttribute("aria-pressed", open.has(name));
    this.complain("");
  }

  complain(text) {
    this.problem.textContent = text;
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
    this.shared.hidden = false;
    this.shared.value = text;
    this.shared.focus();
    this.shared.select();
    if (navigator.clipboard) navigator.clipboard.writeText(text).catch(() => {});
  }
}
