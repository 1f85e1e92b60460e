// What JupyterLab has of us. To present: a command, with its button, key and entry in a menu (in `schemas`); it hides all but the
// notebook, fills the screen, and listens to what a presenter's remote control sends. And links: notebook.ipynb#player=2&step=7.
// A script as JupyterLab loads those of extensions (seen with 4.6), written by hand: there is nothing to build.

(() => {
  const SHOWN = "vfiosim-presented";
  const [PLAYER, REVEAL] = [".vfiosim-player", ".vfiosim-reveal:enabled"];

  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("presenter.css", document.currentScript["src"]).href;

  // All that stands beside a widget, and beside what it is in.
  function around(widget) {
    const found = [];
    for (let one = widget; one.parent; one = one.parent) {
      for (const other of one.parent.layout ?? []) if (other !== one && !other.isHidden) found.push(other);
    }
    return found;
  }

  // The part of the notebook that is to be seen, and where something lies in it.
  class Pane {
    constructor(panel) {
      this.panel = panel;
      this.scroller = panel.content.node.querySelector(".jp-WindowedPanel-outer") ?? panel.content.node;
    }

    all(selector) {
      return [...this.scroller.querySelectorAll(selector)].filter((one) => one.checkVisibility());
    }

    // How far the middle of it is from the middle of the pane.
    off(part) {
      const [{ top, height }, pane] = [part.getBoundingClientRect(), this.scroller.getBoundingClientRect()];
      return top + height / 2 - pane.top - pane.height / 2;
    }

    // The one of these that is seen best; of those at the border no one.
    seen(selector) {
      const near = this.all(selector).filter((one) => Math.abs(this.off(one)) < this.scroller.clientHeight * 0.45);
      return near.sort((one, other) => Math.abs(this.off(one)) - Math.abs(this.off(other)))[0];
    }

    // To the next thing that is shown, or by a screen where that is farther away.
    turn(by) {
      const { top, height } = this.scroller.getBoundingClientRect();
      const tops = this.all(".jp-Cell").map((cell) => cell.getBoundingClientRect().top - top);
      const next = by > 0 ? tops.filter((one) => one > 8) : tops.filter((one) => one < -8).reverse();
      const way = Math.min(Math.abs(next[0] ?? height), height * 0.9);
      this.scroller.scrollBy({ top: by * way });
    }

    // A step of the player that is seen, or on to what comes after it.
    go(by) {
      const player = this.seen(PLAYER)?.vfiosim;
      if (player && (by > 0 ? player.step < player.run.last : player.step > 0)) player.act(by > 0 ? "next" : "back");
      else this.turn(by);
    }
  }

  class Presenting {
    constructor(app) {
      this.app = app;
      this.pane = null;
      this.key = (event) => this.pressed(event);
      this.left = () => document.fullscreenElement || this.end();
      this.status = (_, status) => this.followed(status);
      this.gone = () => this.end();
      this.keys = {
        PageDown: () => this.pane.go(1),
        PageUp: () => this.pane.go(-1),
        b: () => this.blank.toggleAttribute("hidden"),
        ".": () => this.blank.toggleAttribute("hidden"),
        r: () => this.pane.seen(REVEAL)?.click(),
      };
      this.blank = document.createElement("div");
      this.blank.className = "vfiosim-blank";
    }

    get notebook() {
      const { currentWidget } = this.app.shell;
      return currentWidget?.content?.widgets && currentWidget.sessionContext ? currentWidget : null;
    }

    toggle() {
      if (this.pane) this.end();
      else if (this.notebook) this.begin(this.notebook);
    }

    begin(panel) {
      document.head.append(style);
      this.pane = new Pane(panel);
      this.dock = panel.parent?.mode === "multiple-document" ? panel.parent : null;
      this.was = this.dock?.saveLayout();
      if (this.dock) this.dock.mode = "single-document";
      this.hidden = around(panel.content);
      for (const one of this.hidden) one.hide();
      this.blank.hidden = true;
      document.body.append(this.blank);
      panel.disposed.connect(this.gone);
      panel.sessionContext.statusChanged.connect(this.status);
      addEventListener("keydown", this.key, true);
      document.documentElement.requestFullscreen?.().then(
        () => addEventListener("fullscreenchange", this.left),
        () => {}, // a page may not everywhere: then the browser's own bars stay
      );
      this.show(true);
    }

    end() {
      const { panel } = this.pane;
      removeEventListener("keydown", this.key, true);
      removeEventListener("fullscreenchange", this.left);
      panel.disposed.disconnect(this.gone);
      panel.sessionContext?.statusChanged.disconnect(this.status);
      if (document.fullscreenElement) document.exitFullscreen();
      this.blank.remove();
      for (const one of this.hidden) if (!one.isDisposed) one.show();
      if (this.dock) {
        this.dock.mode = "multiple-document";
        this.dock.restoreLayout(this.was);
      }
      this.show(false);
      this.pane = null;
    }

    // Letters and code on the page, and in the kernel whether answers are revealed or asked for.
    show(on) {
      const { panel } = this.pane;
      const seen = this.pane.seen(`${PLAYER}, .jp-Cell`);
      panel.node.classList.toggle(SHOWN, on);
      for (const root of panel.node.querySelectorAll(PLAYER)) root.vfiosim?.room(on);
      this.tell(on);
      this.app.commands.notifyCommandChanged("vfiosim:present");
      requestAnimationFrame(() => seen?.scrollIntoView({ block: "center" }));
    }

    tell(on) {
      const code = `__import__("vfiosim.lab").lab.presenter.on = ${on ? "True" : "False"}`;
      this.pane.panel.sessionContext.session?.kernel?.requestExecute({ code, silent: true, store_history: false });
    }

    // A kernel that has been restarted has to be told again.
    followed(status) {
      if (status.includes("restarting")) this.anew = true;
      else if (status === "idle" && this.anew) {
        this.anew = false;
        this.tell(true);
      }
    }

    pressed(event) {
      const does = this.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const typing = event.target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, .cm-content");
      if (!does || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      does();
    }
  }

  const asked = location.hash; // before JupyterLab writes another address
  const PLACE = 'class="vfiosim-place"'; // in the HTML of an output: here is a player, or is what is left of a living one

  // The cell with this player of a notebook, counted from 0, and its number in it. Cells out of sight are not on the page.
  function holder(panel, player) {
    for (const [cell, { outputs }] of [...panel.content.model.cells].entries()) {
      const html = (outputs?.toJSON() ?? []).flatMap(({ data }) => data?.["text/html"] ?? "").join("");
      const has = html.split(PLACE).length - 1;
      if (player < has) return { cell, player };
      player -= has;
    }
    return null;
  }

  // Scroll to the player, alive or saved, show the step and let the next key be for it.
  async function reach(panel, { cell, player }, step) {
    const { content } = panel;
    await content.scrollToItem(cell, "start");
    const { node } = content.widgets[cell];
    const go = () => {
      const output = node.querySelectorAll(".vfiosim-place")[player]?.closest(".jp-OutputArea-child");
      const found = [output, output?.previousElementSibling].flatMap((one) => [...one?.querySelectorAll(PLAYER) ?? []]);
      const shown = found.find((one) => one.vfiosim && one.checkVisibility());
      if (!shown) return;
      watch.disconnect();
      shown.vfiosim.goTo(step);
      shown.focus({ preventScroll: true });
      shown.scrollIntoView({ block: "start" });
    };
    const watch = new MutationObserver(go);
    watch.observe(node, { childList: true, subtree: true });
    go();
  }

  // The notebook in front, once there is one.
  function opened({ shell }) {
    return new Promise((resolve) => {
      const look = () => {
        if (!shell.currentWidget?.content?.model?.cells) return;
        shell.currentChanged.disconnect(look);
        resolve(shell.currentWidget);
      };
      shell.currentChanged.connect(look);
      look();
    });
  }

  // What the address names is shown as soon as it is there, at the latest when the cell has run.
  async function follow(app, hash) {
    const named = new URLSearchParams(hash.slice(1));
    if (!named.has("step")) return;
    const panel = await opened(app);
    await panel.revealed;
    const { statusChanged } = panel.sessionContext;
    const look = () => {
      const found = holder(panel, (Number(named.get("player")) || 1) - 1);
      if (!found) return;
      statusChanged.disconnect(look);
      reach(panel, found, Number(named.get("step")));
    };
    statusChanged.connect(look);
    look();
  }

  const plugin = {
    id: "vfiosim:present",
    autoStart: true,
    activate: (app) => {
      const presenting = new Presenting(app);
      app.commands.addCommand("vfiosim:present", {
        label: "Present",
        caption: "Show the notebook to a room; again: end. PageUp and PageDown step, B blanks, R reveals (F8)",
        isEnabled: () => Boolean(presenting.notebook),
        isToggled: () => Boolean(presenting.pane),
        execute: () => presenting.toggle(),
      });
      follow(app, asked);
      addEventListener("hashchange", () => follow(app, location.hash));
    },
  };

  (globalThis["_JUPYTERLAB"] ??= {}).vfiosim = {
    init: () => {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin })),
  };
})();
