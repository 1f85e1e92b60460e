// What the reader has picked, follows or is shown: nodes by their names, or one arrow by its key.

export class Picking {
  /**
   * @param {import("./graph.js").GraphView} graph
   * @param {import("./facts.js").FactsView} facts
   * @param {{ marked: () => void, onPick: (names: string[]) => void, onUnfold?: (name: string) => boolean }} told
   */
  constructor(graph, facts, { marked, onPick, onUnfold }) {
    this.graph = graph;
    this.facts = facts;
    this.marked = marked;
    this.onPick = onPick;
    this.onUnfold = onUnfold; // true if it does; not where nobody draws
    this.picked = []; // the names of the objects that the reader clicked
    this.edge = null; // or the key of an arrow
    this.brought = []; // the objects that the lesson brings out
    this.lit = []; // the objects on the ways that are told
    this.selecting = false;
  }

  // Of another trace; what was picked and is in it stays so.
  load(parts) {
    this.parts = parts;
    this.edge = null;
    this.pick(this.picked.filter((name) => parts.node(name)));
  }

  // A click brings a node out with the arrows that touch it, a second one ends that; while `selecting` it adds or takes.
  // The titles of what is in a box stand for that.
  click(node, arrow, part) {
    const oid = node && (part || node.dataset.oid);
    if (this.selecting && !node) return;
    if (!this.selecting && node?.classList.contains("folded") && this.onUnfold?.(node.dataset.oid)) return;
    if (!node && arrow) {
      this.followEdge(arrow.dataset.edge || arrow.dataset.key);
      return;
    }
    const rest = this.picked.filter((name) => name !== oid);
    const more = node && rest.length === this.picked.length ? [oid] : [];
    if (node) this.graph.stop(node);
    this.brought = [];
    this.pick(this.selecting ? [...rest, ...more] : more);
    this.onPick(this.picked);
  }

  pick(names) {
    this.picked = names;
    this.edge = null;
    this.facts.about(!this.selecting && names.length === 1 ? this.parts.node(names[0]) || null : null);
    this.marks();
  }

  followEdge(edge) {
    const had = this.picked.length > 0;
    const again = this.edge === edge;
    this.pick([]);
    if (had) this.onPick([]);
    if (!again) {
      this.edge = edge;
      this.brought = [];
      this.facts.about(edge);
      this.marks();
    }
  }

  // End following; true if that had the focus.
  leave() {
    if (!this.facts.key) return false;
    const inside = this.facts.follow.contains(document.activeElement);
    this.pick([]);
    this.onPick([]);
    return inside;
  }

  select(selecting) {
    if (selecting === this.selecting) return;
    this.selecting = selecting;
    this.marks();
  }

  highlight(names) {
    if (String(names) === String(this.brought)) return;
    this.brought = names;
    this.marks();
  }

  light(names) {
    this.lit = names;
    this.marks();
  }

  marks() {
    const { picked, selecting, edge, lit, brought } = this;
    this.marked();
    this.graph.mark({ picked, selecting, edge, brought: lit.length ? lit : brought });
  }
}
