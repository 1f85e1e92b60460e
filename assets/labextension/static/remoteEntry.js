// What JupyterLab has of us. To present: a command, with its button, key and entry in a menu (in `schemas`); it hides all but the
// notebook, fills the screen, and listens to what a presenter's remote control sends. And links: notebook.ipynb#player=2&step=7.
// A script as JupyterLab loads those of extensions (seen with 4.6), written by hand: there is nothing to build.

(() => {
  const PLAYER = ".vfiosim-player";
  const PATIENCE = 2000; // milliseconds within which a kernel says that it has heard
  const MOVES = ["wheel", "keydown", "pointerdown"]; // with which a reader goes somewhere
  const SETTLED = 30_000; // ms in which the picture of a cell that was run comes, also where much else runs
  const stage = import(new URL("stage.js", document.currentScript["src"]).href);
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("presenter.css", document.currentScript["src"]).href;
  document.head.append(style);

  // All that stands beside a widget, and beside what it is in.
  function around(widget) {
    const found = [];
    for (let one = widget; one.parent; one = one.parent) {
      for (const other of one.parent.layout ?? []) if (other !== one && !other.isHidden) found.push(other);
    }
    return found;
  }

  class Presenting {
    constructor(app) {
      this.app = app;
      this.panel = null;
      this.left = () => document.fullscreenElement || this.end();
      this.status = (_, status) => this.followed(status);
      this.gone = () => this.end();
    }

    get notebook() {
      const { currentWidget } = this.app.shell;
      return currentWidget?.content?.widgets && currentWidget.sessionContext ? currentWidget : null;
    }

    async toggle() {
      const { Stage } = await stage;
      if (this.panel) this.end();
      else if (this.notebook) this.begin(this.notebook, Stage);
    }

    begin(panel, Stage) {
      this.panel = panel;
      const { node } = panel.content;
      this.stage = new Stage(panel.node, node.querySelector(".jp-WindowedPanel-outer") ?? node, () => this.end());
      this.dock = panel.parent?.mode === "multiple-document" ? panel.parent : null;
      this.was = this.dock?.saveLayout();
      const at = document.activeElement;
      if (this.dock) {
        this.dock.mode = "single-document"; // of several notebooks beside each other it shows the first
        this.dock.selectWidget(panel);
      }
      this.hidden = around(panel.content);
      for (const one of this.hidden) one.hide();
      panel.disposed.connect(this.gone);
      panel.sessionContext.statusChanged.connect(this.status);
      document.documentElement.requestFullscreen?.().then(
        () => addEventListener("fullscreenchange", this.left),
        () => {}, // a page may not everywhere: then the browser's own bars stay
      );
      at["focus"]?.({ preventScroll: true });
      this.show(true);
    }

    end() {
      const { panel } = this;
      removeEventListener("fullscreenchange", this.left);
      panel.disposed.disconnect(this.gone);
      panel.sessionContext?.statusChanged.disconnect(this.status);
      if (document.fullscreenElement) document.exitFullscreen();
      for (const one of this.hidden) if (!one.isDisposed) one.show();
      if (this.dock) {
        const at = document.activeElement;
        this.dock.mode = "multiple-document";
        this.dock.restoreLayout(this.was);
        at["focus"]?.({ preventScroll: true });
      }
      this.show(false);
      this.panel = null;
    }

    // Letters and code on the page, and in the kernel whether answers are revealed or asked for.
    show(on) {
      this.stage.show(on);
      this.tell(on);
      this.app.commands.notifyCommandChanged("vfiosim:present");
    }

    tell(on) {
      const code = `__import__("vfiosim.lab").lab.presenter.on = ${on ? "True" : "False"}`;
      this.panel.sessionContext.session?.kernel?.requestExecute({ code, silent: true, store_history: false });
    }

    // A kernel that has been restarted has to be told again.
    followed(status) {
      if (status.includes("restarting")) this.anew = true;
      else if (status === "idle" && this.anew) {
        this.anew = false;
        this.tell(true);
      }
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

  // JupyterLab scrolls to the cell after the one that was run. What has buttons to press is scrolled to instead: as soon as it stands
  // there, and again when what is in it has come, which takes its time on a busy machine; until the reader goes somewhere by himself.
  function bring(panel, ran) {
    const { widgets = [], activeCellIndex = 0 } = panel?.content ?? {};
    const cell = widgets[activeCellIndex - 1]; // the active one is the next one already
    if (!cell) return;
    const sized = new ResizeObserver(() => {
      if (cell.isDisposed) return stop();
      if (!cell.node.querySelector(".jp-OutputArea .vfiosim-lab")?.checkVisibility()) return;
      const around = cell.node.closest(".jp-WindowedPanel-outer");
      const { top, bottom } = cell.node.getBoundingClientRect(), view = around.getBoundingClientRect();
      if (top < view.top || bottom > view.bottom) {
        around.scrollTop += bottom - top > view.height
          ? top - view.top
          : Math.min(top - view.top, bottom - view.bottom);
      }
    });
    const stop = () => {
      sized.disconnect();
      for (const name of MOVES) removeEventListener(name, stop, { capture: true });
    };
    for (const name of MOVES) addEventListener(name, stop, { capture: true });
    sized.observe(cell.node);
    Promise.resolve(ran).finally(() => setTimeout(stop, SETTLED)).catch(() => {});
  }

  // Widgets that have lost their kernel say so. ipywidgets (8.1, with jupyterlab_widgets 3.0) hears of that only where the restart was
  // asked for in this page: where the kernel was restarted from elsewhere, has died or was shut down, buttons would look alive.
  function watch({ node, sessionContext }) {
    const lost = () => sessionContext.statusChanged.emit("restarting");
    let process = "", waiting = 0;
    // A kernel that is frozen, as one is whose computer sleeps, tells nothing at all, not even that it is busy.
    const heard = () => {
      clearTimeout(waiting);
      waiting = 0;
      node.classList.remove("vfiosim-unheard");
    };
    const spoken = ({ status }, { direction, msg }) => {
      if (direction === "recv") heard();
      else if (!waiting && msg.channel === "shell" && status === "idle") {
        waiting = setTimeout(() => node.classList.add("vfiosim-unheard"), PATIENCE);
      }
    };
    sessionContext.iopubMessage.connect((_, { header, parent_header }) => {
      const other = process && process !== header.session;
      if (other || parent_header["msg_type"] === "shutdown_request") lost(); // its last words reach every page
      process = header.session;
    });
    sessionContext.statusChanged.connect((_, status) => status === "dead" && lost());
    sessionContext.kernelChanged.connect((_, { oldValue, newValue }) => {
      heard();
      newValue?.anyMessage.connect(spoken);
      if (oldValue) lost();
    });
    sessionContext.connectionStatusChanged.connect((_, status) => {
      node.classList.toggle("vfiosim-cut", status !== "connected");
    });
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
        isToggled: () => Boolean(presenting.panel),
        execute: () => presenting.toggle(),
      });
      // Players and buttons keep keys from JupyterLab (`kept_keys.js`), but not this one.
      addEventListener("keydown", ({ key, target }) => {
        if (key === "F8" && target["closest"]?.("[data-lm-suppress-shortcuts]")) presenting.toggle();
      }, true);
      // Enter in the field of a question answers it; the field tells what is in it once the focus leaves it.
      addEventListener("keydown", (event) => {
        const { key, target, isComposing } = event;
        if (
          key !== "Enter" || event.shiftKey || event.ctrlKey || isComposing || !target["matches"]?.("input[type=text]")
        ) return;
        const answer = target["closest"](".vfiosim-prediction")?.querySelector("button.vfiosim-primary:enabled");
        if (!answer) return;
        event.preventDefault();
        answer.focus();
        answer.click();
      }, true);
      // A press in a cell makes it the active one again; Shift+Enter would run it anew, and what was answered in it would be gone.
      // So it goes on with the next cell, also where the button that was pressed has lost the focus, as one that rests does.
      let touched = null;
      for (const name of ["pointerdown", "focusin"]) {
        addEventListener(name, ({ target }) => touched = target["closest"]?.(".jp-OutputArea .vfiosim-lab"), true);
      }
      addEventListener("keydown", (event) => {
        const { key, shiftKey, target } = event;
        if (key !== "Enter" || !shiftKey || !touched || (target !== document.body && !touched.contains(target))) return;
        const { content } = presenting.notebook ?? {};
        const at = content?.widgets.findIndex(({ node }) => node.contains(touched)) ?? -1;
        if (at < 0 || at + 1 === content.widgets.length) return;
        event.preventDefault();
        event.stopPropagation();
        content.activeCellIndex = at + 1;
        content.activate();
        app.commands.execute("notebook:run-cell-and-select-next");
      }, true);
      app.commands.commandExecuted.connect((_, { id, result }) => {
        if (id === "notebook:run-cell-and-select-next") bring(presenting.notebook, result);
      });
      app.docRegistry.addWidgetExtension("Notebook", { createNew: watch });
      follow(app, asked);
      addEventListener("hashchange", () => follow(app, location.hash));
    },
  };

  (globalThis["_JUPYTERLAB"] ??= {}).vfiosim = {
    init: () => {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin })),
  };
})();
