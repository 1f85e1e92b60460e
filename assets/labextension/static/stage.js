// What a presenter's keys, or a remote control, do with a notebook that is shown to a room: in JupyterLab, and in a page made of it.

const [PLAYER, REVEAL, HEADING] = [".vfiosim-player", ".vfiosim-reveal:enabled", ":is(h1, h2, h3)"];
const BORDER = 24; // pixels: a cell that begins nearer to the edge is there; the first one has 12 above it

// Something that Escape ends before it ends the presentation.
const OPEN = ".vfiosim-player:is(.follows, .compares, .selecting), .vfiosim-player .sheet:not([hidden])";

// `place` is the notebook; `scroller` shows a part of it; `leave` ends the presentation.
export class Stage {
  constructor(place, scroller, leave) {
    this.place = place;
    this.scroller = scroller;
    this.out = document.createElement("button");
    this.out.className = "vfiosim-leave";
    this.out.textContent = "Leave presenting (Esc)";
    this.out.onclick = leave;
    this.blank = document.createElement("div");
    this.blank.className = "vfiosim-blank";
    this.keys = {
      PageDown: () => this.go(1),
      PageUp: () => this.go(-1),
      b: () => this.blank.toggleAttribute("hidden"),
      ".": () => this.blank.toggleAttribute("hidden"),
      r: () => this.seen(REVEAL)?.click(),
      Escape: leave,
    };
    this.key = (event) => this.pressed(event);
  }

  show(on) {
    const near = this.seen(`${PLAYER}, .jp-Cell`);
    const within = this.all(".jp-Cell").findLast((one) => this.top(one) <= 0); // of a long cell the middle may be far away
    const seen = this.scroller.scrollTop > 0 && (near ?? within); // the beginning stays the beginning
    this.blank.hidden = true;
    for (const one of [this.out, this.blank]) on ? document.body.append(one) : one.remove();
    (on ? addEventListener : removeEventListener)("keydown", this.key, true);
    this.place.classList.toggle("vfiosim-presented", on);
    for (const root of this.place.querySelectorAll(PLAYER)) root.vfiosim?.room(on);
    requestAnimationFrame(() =>
      seen ? seen.scrollIntoView({ block: near ? "center" : "nearest" }) : this.scroller.scrollTo({ top: 0 })
    );
  }

  get height() {
    return this.scroller.clientHeight;
  }

  // How far below the upper edge of what is to be seen.
  top(part) {
    const root = this.scroller === document.scrollingElement;
    return part.getBoundingClientRect().top - (root ? 0 : this.scroller.getBoundingClientRect().top);
  }

  all(selector) {
    return [...this.place.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  }

  // The one of these that is seen best; of those at the border no one.
  seen(selector) {
    const off = (part) => Math.abs(this.top(part) + part.getBoundingClientRect().height / 2 - this.height / 2);
    const near = this.all(selector).filter((one) => off(one) < this.height * 0.45);
    return near.sort((one, other) => off(one) - off(other))[0];
  }

  // On by a screen, but not beyond the next heading, so that what is there begins at the top; back likewise. In a cell longer than the
  // screen its picture begins at the top: that is nearly as high as the screen.
  turn(by) {
    const far = this.height * 0.9;
    const ways = (selector) =>
      this.all(selector).map((part) => ({ way: by * this.top(part), part }))
        .filter(({ way }) => way > BORDER).sort((one, other) => one.way - other.way);
    const ahead = ways(".jp-Cell");
    const heading = ahead.findIndex(({ part }) => part.querySelector(HEADING));
    const reach = (heading < 0 ? ahead : ahead.slice(0, heading + 1)).filter(({ way }) => way <= far);
    const near = Math.min(ahead[0]?.way ?? this.left(by), ways(PLAYER)[0]?.way ?? Infinity);
    this.scroller.scrollBy({ top: by * (reach.at(-1)?.way ?? (near <= this.height ? near : far)) });
  }

  // How much of the last cell is still to come; below it JupyterLab has an empty screen.
  left(by) {
    const last = this.all(".jp-Cell").at(-1);
    return by > 0 && last ? Math.max(0, this.top(last) + last.getBoundingClientRect().height - this.height) : Infinity;
  }

  // A step of the player that is seen, or on to what comes after it.
  go(by) {
    const player = this.seen(PLAYER)?.vfiosim;
    if (player && (by > 0 ? player.step < player.run.last : player.step > 0)) player.act(by > 0 ? "next" : "back");
    else this.turn(by);
  }

  pressed(event) {
    const does = this.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const typing = event.target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, .cm-content");
    if (event.key === "Escape" && this.place.querySelector(OPEN)) return;
    if (!does || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    does();
  }
}
