import { element } from "./dom.js";
import { Player } from "./player.js";

// In a page: wherever the picture can be seen until now. A copy of an output has the same places again.
export function inline(places, css, data) {
  for (const place of places) {
    const still = place.querySelector(".vfiosim-still");
    if (!still || !place.offsetWidth) continue;
    const root = element("div");
    place.append(element("style", {}, css));
    still.replaceWith(root);
    const step = linked(place);
    new Player(root, { ...data, step: step ?? data.step });
    if (step !== null) show(root);
    for (const line of place.querySelectorAll(".vfiosim-log [data-step]")) lead(line, root);
  }
  if (globalThis["vfiosimLinks"]) return;
  globalThis["vfiosimLinks"] = true; // once for all of them: who listens is kept for ever
  /** @type {() => NodeListOf<Player["root"]>} */
  const all = () => document.querySelectorAll(".vfiosim-place > .vfiosim-player");
  addEventListener("beforeprint", () => print(all()));
  addEventListener("afterprint", () => printed(all()));
  addEventListener("hashchange", () => {
    for (const { parentElement, vfiosim } of all()) {
      const step = linked(parentElement);
      if (step === null) continue;
      vfiosim.by(() => vfiosim.goTo(step));
      show(vfiosim.root);
    }
  });
}

// A line of the log leads to the step of its call.
function lead(line, root) {
  const link = element("button", { type: "button", title: "show this call in the picture" }, line.textContent);
  link.addEventListener("click", () => {
    root.vfiosim.by(() => root.vfiosim.goTo(Number(line.dataset.step)));
    root.scrollIntoView({ block: "nearest" });
  });
  line.replaceChildren(link);
}

// On paper a player shows its last step, and tells all of them.
function print(players) {
  for (const { vfiosim } of players) {
    vfiosim.left = vfiosim.step;
    vfiosim.by(() => vfiosim.goTo(vfiosim.run.last));
    const sentences = vfiosim.whole.steps.map(({ sentence }) => element("li", {}, sentence));
    vfiosim.root.append(element("ol", { class: "printed" }, ...sentences));
  }
}

function printed(players) {
  for (const { vfiosim } of players) {
    vfiosim.root.lastElementChild.remove();
    vfiosim.goTo(vfiosim.left);
  }
}

// The step that the address names, if it is for the player in this place: page.html#step=7 is for the first one of the page,
// page.html#player=2&step=7 for the second.
function linked(place) {
  const named = new URLSearchParams(location.hash.slice(1));
  const places = [...document.querySelectorAll(".vfiosim-place")];
  if (!named.has("step") || places[(Number(named.get("player")) || 1) - 1] !== place) return null;
  return Number(named.get("step"));
}

// At the top, and the next key is for it.
function show(root) {
  root.focus({ preventScroll: true });
  root.scrollIntoView({ block: "start" });
}
