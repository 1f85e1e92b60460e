// The kernel does one thing after the other: a press while another cell runs is answered when that has ended. Who presses is
// told so after a second, beside the button. Seen with JupyterLab 4.6, whose manager of widgets has the kernel; others tell nothing.

import { element } from "./dom.js";

const TOLD_AFTER = 1000; // milliseconds
const BUSY = "The notebook is busy with another cell. This press is not lost: it is answered when that cell has ended.";
const watched = globalThis.vfiosimWatched ??= new WeakSet(); // kernels; each widget has a copy of this module
const work = new Map(); // what the kernel is at: the number of a message, and its type

const cellRuns = () => [...work.values()].includes("execute_request");

export function watchKernel(kernel) {
  if (!kernel?.iopubMessage || watched.has(kernel)) return;
  if (kernel.status === "busy") work.set("", "execute_request"); // the cell that has made this widget
  watched.add(kernel);
  addEventListener("click", mayWait, true);
  kernel.iopubMessage.connect((_, { header, content, parent_header }) => {
    if (header.msg_type !== "status") return;
    work.delete(""); // what was under way at first has told something since
    if (content.execution_state === "busy") work.set(parent_header.msg_id, parent_header.msg_type);
    else work.delete(parent_header.msg_id);
    if (!cellRuns()) { for (const one of document.querySelectorAll(".vfiosim-waiting")) one.remove(); }
  });
}

function mayWait({ target }) {
  const button = target instanceof Element ? target.closest(".vfiosim-lab .jupyter-button") : null;
  if (button && cellRuns()) setTimeout(() => cellRuns() && sayBusy(button), TOLD_AFTER);
}

function sayBusy(button) {
  const lab = button.closest(".vfiosim-lab");
  if (!lab || lab.querySelector(".vfiosim-waiting")) return;
  (button.closest(".vfiosim-row") ?? button).after(element("div", { class: "vfiosim-waiting", role: "status" }, BUSY));
}
