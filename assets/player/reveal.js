// After a press in the lab: scroll so that the picture is to be seen with the words about it, but never the pressed button away; where
// a verdict stands above it, never the beginning of that. Where threads are moved by hand, their buttons stay where they are.

/** @type {Element | null} what has had the focus last: a button that cannot be pressed again loses it */
let focused = null;
document.addEventListener("focusin", ({ target }) => focused = target instanceof Element ? target : null);

/** What scrolls the page around a part of it; null if nothing does. */
export function scrolls(part) {
  let one = part.parentElement;
  while (one && !(/auto|scroll/.test(getComputedStyle(one).overflowY) && one.scrollHeight > one.clientHeight + 1)) {
    one = one.parentElement;
  }
  return one;
}

export function reveal(root) {
  const lab = root.closest(".vfiosim-lab"), ask = root.closest(".vfiosim-ask") ?? lab;
  const scroller = ask && scrolls(ask);
  if (!scroller) return;
  const box = (part) => part.getBoundingClientRect();
  const verdicts = [...ask.querySelectorAll(".vfiosim-verdict, .vfiosim-because")].filter((one) =>
    box(one).height && one.textContent
  );
  const above = (one) => one.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_FOLLOWING;
  const said = verdicts.find(above);
  const answered = said && navigator.userActivation?.isActive ? ask.querySelector(".vfiosim-primary:disabled") : null;
  const gone = focused && ask.contains(focused) ? focused : answered; // the steps of an answer come too late to have seen its press
  const pressed = document.activeElement === document.body && gone || document.activeElement;
  if (!ask.contains(pressed) || root.contains(pressed)) return;
  const hand = ask.querySelector(":scope > .vfiosim-schedule .vfiosim-thread"); // while one can be moved
  const verdict = hand || pressed.closest(".vfiosim-controls") ? null : said; // a call has no verdict
  // What is moved by hand ends the verdict of the last Check: the picture comes up by as much, perhaps later than we look.
  const ending = hand && said && !pressed.matches(".vfiosim-primary")
    ? box(said.nextElementSibling).top - box(said).top
    : 0;
  const view = box(scroller);
  const results = [...lab.querySelectorAll(".vfiosim-controls .vfiosim-result")];
  const [picture, foot] = [".stage", ".foot"].map((name) => box(root.querySelector(name)));
  const ends = [...results, ...(hand ? [] : verdicts)].map((part) => box(part).bottom);
  const missing = Math.max(picture.bottom + foot.height - ending, ...ends) + 1 - view.bottom; // wherever the foot is seen now
  const begins = (verdict ? [verdict, root] : [pressed, root, ...results]).map((part) => box(part).top);
  const room = Math.min(...begins) - 4 - view.top;
  // A button that is cut at the top of the screen is brought back, where all of the rest stays on it.
  const cut = room < 0 && missing <= room && box(pressed).bottom > view.top;
  if (cut || Math.min(missing, room) > 0) scroller.scrollTop += Math.min(cut ? 0 : missing, room);
}

// After a step by hand: scroll as little as brings what it changes between the sentence and the bar, that above first.
export function toSight(root) {
  const scroller = scrolls(root), marks = ":is(.new, .changed, .gone, .read, .harmed)";
  const parts = root.querySelectorAll(`.stage .row${marks}, .stage .node${marks} > .title`);
  if (!scroller || !parts.length) return;
  const box = (part) => part.getBoundingClientRect();
  const [view, say, foot] = [scroller, root.querySelector(".say"), root.querySelector(".foot")].map(box);
  const [begin, end] = [Math.max(view.top, say.bottom), Math.min(view.bottom, foot.top)];
  const above = Math.min(...[...parts].map((part) => box(part).top)) - begin;
  const below = Math.max(...[...parts].map((part) => box(part).bottom)) + 4 - end;
  if (above < 0) scroller.scrollTop += above;
  else if (below > 0) scroller.scrollTop += Math.min(below, above);
}
