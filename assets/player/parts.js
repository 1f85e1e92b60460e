// What the things in the picture are, and how a change of one is told.
export class Parts {
  constructor(parts) {
    this.parts = parts;
    this.keys = Object.keys(parts);
    this.edges = this.keys.filter((key) => parts[key][0] === "edge");
  }

  node(oid) {
    return this.keys.find((key) => this.parts[key][0] === "node" && this.parts[key][2].includes(oid));
  }

  // Has a counter of an object no row, though the object has a box?
  aside(oid, counter) {
    const row = ([kind, , cell, sort, of]) => kind === "row" && sort === "count" && of === oid && cell === counter;
    return this.node(oid) !== undefined && !Object.values(this.parts).some(row);
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
    if (this.parts[key][0] === "edge") return new Set([key]);
    const inside = this.keys.filter((one) =>
      ["row", "stub"].includes(this.parts[one][0]) && this.parts[one][1] === key
    );
    return new Set([key, ...inside, ...this.touching(key)]);
  }

  // A change in words.
  tell(key, was, now) {
    const [kind, owner, cell, sort, reason] = this.parts[key];
    if (was === now) return "";
    if (kind === "node") {
      return `${owner} ${now === "freed" ? "is freed, and still referred to" : now ? "is there" : "is gone"}`;
    }
    if (kind === "edge") {
      const times = Math.max(was, now) > 1 ? ` ${was || 0} → ${now || 0}` : "";
      return `${this.ends(key)}: ${now ? "+" : "−"} ${reason}${times}`;
    }
    const [, , name, what, oid] = kind === "stub" ? this.parts[cell] : this.parts[key];
    if (kind === "stub") return `${oid}.${name}, not drawn: ${was || "–"} → ${now || "–"}`;
    return sort === "pointer" && what ? "" : `${oid}.${name}: ${was || "–"} → ${now || "–"}`;
  }
}
