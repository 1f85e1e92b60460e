// The descriptors of programs as buttons: one of them is pressed at a time, and the kernel hears of each press.

import { control, element } from "./dom.js";
import { keepKeys } from "./kept_keys.js";
import { listen } from "./listen.js";

function renderChips({ model, el }) {
  let made = new Map(); // by program, descriptor and file: a button that stays keeps the focus
  const root = element("div", { role: "group", "aria-label": "descriptor tables" });
  el.append(root);
  const chip = (program, fd, label) => {
    const press = () => model.send({ press: [program, fd] });
    const shown = [element("b", {}, String(fd)), ` ${label}`];
    return element("li", {}, control("button", { class: "vfiosim-chip", onclick: press }, ...shown));
  };
  const show = () => {
    const [focused, before] = [document.activeElement, made];
    made = new Map();
    const line = ({ program, title, says, chips, none }) => {
      const items = chips.map(([fd, label]) => {
        const key = JSON.stringify([program, fd, label]);
        const item = before.get(key) || chip(program, fd, label);
        item.firstChild.setAttribute("aria-pressed", String([program, fd]) === String(model.get("pressed")));
        made.set(key, item);
        return item;
      });
      const list = element("ul", {}, ...(items.length || !none ? items : [element("li", {}, none)]));
      return element("div", {}, ...(title ? [element("b", {}, title), " "] : []), `${says} `, list);
    };
    const lines = model.get("rows").map(line);
    root.replaceChildren(...lines);
    if (focused instanceof HTMLElement && root.contains(focused)) focused.focus();
  };
  for (const name of ["rows", "pressed"]) model.on(`change:${name}`, show);
  show();
}

export default {
  initialize: ({ model }) => {
    keepKeys();
    listen(model).catch(() => {});
  },
  render: renderChips,
};
