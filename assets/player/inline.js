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
    new Player(root, { ...data, step: linked(place) ?? data.step });
  }
  if (globalThis["vfiosimLinks"]) return;
  globalThis["vfiosimLinks"] = true; // once for all of them: who listens is kept for ever
  addEventListener("hashchange", () => {
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
  const named = new URLSearchParams(location.hash.slice(1));
  const places = [...document.querySelectorAll(".vfiosim-place")];
  if (!named.has("step") || places[(Number(named.get("player")) || 1) - 1] !== place) return null;
  place.scrollIntoView({ block: "nearest" });
  return Number(named.get("step"));
}
