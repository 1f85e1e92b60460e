// The player as the front end of a widget, by the rules of anywidget.

import { element } from "./dom.js";
import { keepKeys } from "./kept_keys.js";
import { listen } from "./listen.js";
import { Player } from "./player.js";
import { reveal } from "./reveal.js";
import { watchKernel } from "./waiting.js";

// How long the reader must rest at a step, in milliseconds, for the kernel to be told of it. On a slow machine keys that come one after
// the other come so late that a shorter time passes between two of them.
const REST = 300;

// What a model has under a name, which comes as a text.
function reader(model, name) {
  let [text, data] = ["", null];
  return () => {
    if (text !== model.get(name)) [text, data] = [model.get(name), JSON.parse(model.get(name))];
    return data;
  };
}

function render({ model, el }) {
  const [data, lasting, recent, reasons] = ["data", "lasting", "recent", "reasons"].map((name) => reader(model, name));
  // Code and words: what was told once, and what has come since then; and why things are alive, which comes after the picture.
  const known = () => ({
    ...Object.fromEntries(Object.entries(lasting()).map(([name, some]) => [name, { ...some, ...recent()[name] }])),
    reasons: reasons().edition === data().edition ? reasons() : null,
  });
  const root = element("div");
  el.append(root);
  const tell = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  let resting = null;
  const rests = () => {
    if (resting !== null && model.get("step") !== player.step) tell("step", player.step);
    goesOn();
  };
  const goesOn = () => {
    clearTimeout(resting);
    resting = null;
  };
  const player = new Player(root, { ...known(), ...data(), views: model.get("shown"), step: model.get("step") }, {
    onMove: () => {
      goesOn();
      resting = setTimeout(rests, REST);
    },
    onPick: (names) => tell("picked", names),
    onViews: (names) => tell("shown", names),
    onUnfold: (name) => model.send({ unfold: name }),
    onShare: () => model.send({ share: data().edition }),
  });
  const seen = () => [0, 400].forEach((wait) => setTimeout(() => reveal(root), wait)); // the words about the call come after the picture
  let loaded = data();
  const mirror = () => {
    player.select(model.get("selecting"));
    player.highlight(model.get("highlight"));
    if (String(player.picked) !== String(model.get("picked"))) player.pick(model.get("picked"));
  };
  // Who goes on to something else may ask about this step.
  root.addEventListener("focusout", ({ relatedTarget }) => root.contains(relatedTarget) || rests());
  model.on("change:data", () => {
    player.stop();
    goesOn();
    loaded = data();
    player.load({ ...known(), ...loaded }, loaded.step);
    mirror();
    seen();
  });
  for (const name of ["lasting", "recent", "reasons"]) model.on(`change:${name}`, () => player.know(known()));
  // A new trace and its step come together, in no fixed order: the step is for the trace that is still to be loaded.
  const stale = () => loaded.edition !== data().edition;
  model.on("msg:custom", ({ share, edition, reveal: wanted }) => {
    if (wanted) seen();
    else if (edition === loaded.edition) player.shareAs(share);
  });
  model.on("change:step", () => {
    if (!stale() && player.step !== model.get("step")) player.goTo(model.get("step"));
  });
  model.on(
    "change:shown",
    () => player.setViews([...model.get("shown"), ...(player.open.has("text") ? ["text"] : [])]),
  );
  for (const name of ["selecting", "highlight", "picked"]) model.on(`change:${name}`, mirror);
  // Who has asked why something is alive reads the answer, which stands below the picture: it comes to the screen.
  model.on("change:highlight", () =>
    setTimeout(() => {
      const asked = document.activeElement?.closest(".vfiosim-row")?.parentElement?.querySelector(".vfiosim-why");
      if (asked && !el.contains(asked)) asked.scrollIntoView({ block: "nearest" });
    }, 200));
  mirror();
  requestAnimationFrame(() => player.placed());
  seen(); // it may be the answer to a press
  return () => {
    player.stop();
    goesOn();
  };
}

export default {
  initialize: ({ model }) => {
    keepKeys();
    watchKernel(model.widget_manager?.kernel);
    listen(model).catch(() => {});
  },
  render,
};
