// What the things in the picture are, and how a change of one is told.
export class Parts {
  constructor(parts) {
    this.parts = parts;
    this.keys = Object.keys(parts);
    this.labels = new Map(); // by edge, the keys of its labels
    for (const key of this.keys) if (parts[key][0] === "label") this.below(parts[key][1]).push(key);
    this.edges = this.keys.filter((key) => parts[key][0] === "edge");
  }

  below(edge) {
    if (!this.labels.has(edge)) this.labels.set(edge, []);
    return this.labels.get(edge);
  }

  node(oid) {
    return this.keys.find((key) => this.parts[key][0] === "node" && this.parts[key][1] === oid);
  }

  oid(key) {
    return this.parts[key][1];
  }

  ends(edge) {
    const [, holder, target, sort] = this.parts[edge];
    return `${this.oid(holder)} ${sort === "waits" ? "⇢" : "→"} ${this.oid(target)}`;
  }

  touching(node) {
    return this.edges.filter((edge) => this.parts[edge][1] === node || this.parts[edge][2] === node);
  }

  // All keys that tell of a node or an edge.
  about(key) {
    if (this.parts[key][0] === "edge") return new Set(this.below(key));
    const rows = this.keys.filter((one) => this.parts[one][0] === "row" && this.parts[one][1] === key);
    return new Set([key, ...rows, ...this.touching(key).flatMap((edge) => this.below(edge))]);
  }

  // A change in words; "" for an arrow, whose labels tell it.
  tell(key, was, now) {
    const [kind, owner, cell] = this.parts[key];
    if (was === now || kind === "edge") return "";
    if (kind === "node") {
      return `${owner} ${now === "freed" ? "is freed, and still referred to" : now ? "is there" : "is gone"}`;
    }
    if (kind === "row") return `${this.oid(owner)}.${cell}: ${was || "–"} → ${now || "–"}`;
    const text = was && now ? `${was} → ${now}` : now ? `+ ${now}` : `− ${was}`;
    return `${this.ends(owner)}: ${text}`;
  }
}
