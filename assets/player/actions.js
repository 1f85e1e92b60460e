// What there is to do, in the order of the list behind "?": a name, the key, the key as told, what it does, and what its
// button says, if it has one.

export const VIEWS = {
  graph: "Picture",
  lanes: "Locks",
  counters: "Counters",
  details: "Details",
  source: "Source",
  text: "As text",
};

/** @type {[string, string, string, string, string?][]} */
const LIST = [
  ["next", "ArrowRight", "→", "next step", "Next →"],
  ["back", "ArrowLeft", "←", "step back", "← Back"],
  ["single", "n", "n", "next step, where → takes several"],
  ["unsingle", "N", "Shift n", "step back, where ← takes several"],
  ["effect", "Shift+ArrowRight", "Shift →", "next detail", "detail ›"],
  ["uneffect", "Shift+ArrowLeft", "Shift ←", "detail back", "‹ detail"],
  ["first", "Home", "Home", "from the start: before the first step", "From the start"],
  ["last", "End", "End", "last step", "Last"],
  ["play", " ", "Space", "play, pause", "Play"],
  ["faster", "+", "+", "play faster"],
  ["slower", "-", "−", "play slower"],
  ["phase", "p", "p", "next phase", "phase ›"],
  ["unphase", "P", "Shift p", "phase before", "‹ phase"],
  ["change", "c", "c", "next change (of what you follow)", "change ›"],
  ["unchange", "C", "Shift c", "change before", "‹ change"],
  ["error", "e", "e", "next refusal or oops, or what is broken", "error ›"],
  ["unerror", "E", "Shift e", "refusal or oops before, or what was broken", "‹ error"],
  ["why", "w", "w", "why is it alive? (what you follow)"],
  ["compare", "d", "d", "compare with the step you are at; again: end", "Compare"],
  ["share", "y", "y", "text to share, for this step", "Share"],
  ["source", "s", "s", "source: the line that runs, and the kernel's function", VIEWS.source],
  ["details", "i", "i", "details: what the step changed, and how", VIEWS.details],
  ["lanes", "l", "l", "locks: who holds which, over the steps", VIEWS.lanes],
  ["counters", "k", "k", "counters over the steps", VIEWS.counters],
  ["text", "t", "t", "picture as text", VIEWS.text],
  ["graph", "g", "g", "picture", VIEWS.graph],
  ["all", "a", "a", "every box and every field, where a walk shows few; again: few", "All fields"],
  ["room", "f", "f", "large letters, for a room; again: end", "Large letters"],
  ["more", "m", "m", "more buttons", "More ▾"],
  ["legend", "h", "h", "legend: what strokes, colours and words mean", "Legend"],
  ["help", "?", "?", "this list", "Keys ?"],
  ["leave", "Escape", "Escape", "end following, comparing, this list, the legend"],
];

// What the list of keys tells at once, and all of them by what they are for.
export const FIRST = ["next", "back", "single", "first", "last", "play", "source", "legend"];
export const GROUPS = {
  "Step by step": ["next", "back", "single", "unsingle", "effect", "uneffect", "first", "last"],
  Playing: ["play", "faster", "slower"],
  "On to the next": ["phase", "unphase", "change", "unchange", "error", "unerror"],
  Asking: ["why", "compare", "share"],
  Showing: ["source", "details", "lanes", "counters", "text", "graph", "all", "room", "more"],
  Help: ["legend", "help", "leave"],
};

export const ACTIONS = new Map(LIST.map(([name, key, shown, tells, says]) => [name, { key, shown, tells, says }]));

// On the slider these mean the same as everywhere on sliders.
const ON_SLIDER = { ArrowUp: "next", ArrowDown: "back", PageUp: "phase", PageDown: "unphase" };

// The name of what a key does.
export function meant({ key, shiftKey, target }) {
  if (target.matches("[role=slider]") && key in ON_SLIDER) return ON_SLIDER[key];
  const name = key.startsWith("Arrow") && shiftKey ? `Shift+${key}` : key;
  return [...ACTIONS].find(([, one]) => one.key === name)?.[0];
}
