// In the text field beside it Tab indents and Shift+Tab takes that back; after Escape they go to the next control, as everywhere.

const FOUR = "    ";

function indent(field, back) {
  const at = field.selectionStart;
  if (!back) {
    document.execCommand("insertText", false, FOUR); // so that the browser's own Undo knows of it
    return;
  }
  const start = field.value.lastIndexOf("\n", at - 1) + 1;
  const blanks = /^ {0,4}/.exec(field.value.slice(start))[0].length;
  if (!blanks) return;
  field.setSelectionRange(start, start + blanks);
  document.execCommand("delete");
  field.setSelectionRange(Math.max(start, at - blanks), Math.max(start, at - blanks));
}

function render({ el }) {
  let place = null;
  let leaves = false;
  const listen = (event) => {
    const field = event.target.closest(".vfiosim-code textarea");
    if (!field) return;
    if (event.key === "Tab" && !leaves && !(event.ctrlKey || event.altKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      indent(field, event.shiftKey);
    } else if (event.key !== "Tab" && event.key !== "Shift") leaves = event.key === "Escape";
  };
  const stay = () => (leaves = false);
  requestAnimationFrame(() => {
    place = el.closest(".vfiosim-lab");
    place?.addEventListener("keydown", listen, true); // a text field of ipywidgets lets no key go up
    place?.addEventListener("focusin", stay);
  });
  return () => {
    place?.removeEventListener("keydown", listen, true);
    place?.removeEventListener("focusin", stay);
  };
}

export default { render };
