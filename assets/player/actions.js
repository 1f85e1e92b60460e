// What there is to do, in the order of the list behind "?": a name, the key, the key as told, what it does, and what its
// button says, if it has one.

export const VIEWS = { graph: "Graph", lanes: "Lanes", counters: "Counters", source: "Source", text: "As text" };

/** @type {[string, string, string, string, string?][]} */
const LIST = [
  ["next", "ArrowRight", "→", "next step", "Next →"],
  ["back", "ArrowLeft", "←", "step back", "← Back"],
  ["effect", "Shift+ArrowRight", "Shift →", "next detail", "detail ›"],
  ["uneffect", "Shift+ArrowLeft", "Shift ←", "detail back", "‹ detail"],
  ["first", "Home", "Home", "before the first step", "First"],
  ["last", "End", "End", "last step", "Last"],
  ["play", " ", "Space", "play, pause", "Play"],
  ["faster", "+", "+", "play faster"],
  ["slower", "-", "−", "play slower"],
  ["change", "c", "c", "next change (of what you follow)", "change ›"],
  ["unchange", "C", "Shift c", "change before", "‹ change"],
  ["phase", "p", "p", "next phase", "phase ›"],
  ["unphase", "P", "Shift p", "phase before", "‹ phase"],
  ["error", "e", "e", "next refusal or oops, or what is broken", "error ›"],
  ["unerror", "E", "Shift e", "refusal or oops before, or what was broken", "‹ error"],
  ["why", "w", "w", "why is it alive? (what you follow)"],
  ["compare", "d", "d", "compare with the step you are at; again: end", "Compare"],
  ["share", "y", "y", "text to share, for this step", "Share"],
  ["graph", "g", "g", "graph", VIEWS.graph],
  ["lanes", "l", "l", "lanes: who holds which lock", VIEWS.lanes],
  ["counters", "k", "k", "counters", VIEWS.counters],
  ["source", "s", "s", "source", VIEWS.source],
  ["text", "t", "t", "picture as text", VIEWS.text],
  ["more", "m", "m", "more buttons", "More"],
  ["help", "?", "?", "this list", "Keys ?"],
  ["leave", "Escape", "Escape", "end following, comparing, this list"],
];

export const ACTIONS = new Map(LIST.map(([name, key, shown, tells, says]) => [name, { key, shown, tells, says }]));

// The name of what a key does.
export function meant({ key, shiftKey }) {
  const name = key.startsWith("Arrow") && shiftKey ? `Shift+${key}` : key;
  return [...ACTIONS].find(([, one]) => one.key === name)?.[0];
}
