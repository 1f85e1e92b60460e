// After a press in the lab: scroll so that the picture is to be seen, but never the pressed button away; where steps prove a verdict
// that stands above them, never the beginning of the verdict.

/** @type {Element | null} what has had the focus last: a button that cannot be pressed again loses it */
let focused = null;
document.addEventListener("focusin", ({ target }) => focused = target instanceof Element ? target : null);

export function reveal(root) {
  const lab = root.closest(".vfiosim-lab");
  let scroller = lab && lab.parentElement;
  while (
    scroller &&
    !(/auto|scroll/.test(getComputedStyle(scroller).overflowY) && scroller.scrollHeight > scroller.clientHeight + 1)
  ) scroller = scroller.parentElement;
  const verdict = lab?.matches(".vfiosim-ask") && lab.querySelector(".vfiosim-verdict");
  const answered = verdict && navigator.userActivation?.isActive
    ? lab.querySelector(".vfiosim-primary:disabled")
    : null;
  const gone = focused?.matches(":disabled") ? focused : answered; // the steps of an answer come too late to have seen its press
  const pressed = document.activeElement === document.body && gone || document.activeElement;
  if (!scroller || !lab.contains(pressed) || root.contains(pressed)) return;
  const box = (part) => part.getBoundingClientRect();
  const view = box(scroller);
  const results = [...lab.querySelectorAll(".vfiosim-controls .vfiosim-result")].map((part) => box(part).bottom);
  const [picture, foot] = [".stage", ".foot"].map((name) => box(root.querySelector(name)));
  const missing = Math.max(picture.bottom + foot.height, ...results) + 1 - view.bottom; // wherever the foot is seen now
  const room = Math.min(box(verdict || pressed).top, box(root).top) - 4 - view.top;
  if (Math.min(missing, room) > 0) scroller.scrollTop += Math.min(missing, room);
}
