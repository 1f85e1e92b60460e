// The key F8 presents a page made of a notebook, as it does in JupyterLab; page.html#slides is presented from the start.

import { Stage } from "../../labextension/static/stage.js";

let presented = false;
const whole = new Stage(document.body, document.scrollingElement, present);

function present() {
  presented = !presented;
  whole.show(presented);
}

addEventListener("keydown", ({ key }) => key === "F8" && present());
if (location.hash === "#slides") present();

// What is a notebook beside this one is a page beside this page.
for (const link of document.querySelectorAll('a[href*=".ipynb"]')) {
  link.setAttribute("href", link.getAttribute("href")?.replace(".ipynb", ".html") ?? "");
}
