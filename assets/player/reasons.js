// Who keeps it alive? By the rules of why.py.

const ENOUGH = 100, PATIENCE = 20000; // as in why.py: paths to tell, references to look at

export class Reasons {
  constructor(data) {
    this.data = data;
    this.step = -1;
    this.links = new Set();
    this.alive = new Set();
  }

  seek(step) {
    const move = (set, come, go) => {
      go.forEach((one) => set.delete(one));
      come.forEach((one) => set.add(one));
    };
    const both = ([came, went, born, died]) => {
      move(this.links, came, went);
      move(this.alive, born, died);
    };
    while (this.step < step) both(this.data.steps[++this.step]);
    while (this.step > step) {
      const [came, went, born, died] = this.data.steps[this.step--];
      both([went, came, died, born]);
    }
  }

  // The answer as lines of text.
  why(oid, step) {
    this.seek(step);
    const { names, roots } = this.data;
    const goal = names.indexOf(oid);
    if (!this.alive.has(goal)) return [`${oid} is not alive here.`];
    if (oid.startsWith("thread ")) return [`${oid} is a call that runs.`];
    const { paths, lost, cycles } = this.search(goal);
    const chain = (links) =>
      links.reduce(
        (text, [owns, , target, , reason, n]) =>
          `${text} --${owns ? "owns" : reason}${n === 1 ? "" : ` ×${n}`}--> ${names[target]}`,
        names[links[0][1]],
      );
    const lines = [];
    if (roots[goal]) lines.push(`${oid} needs no holder: it is ${roots[goal]}.`);
    else if (paths.length) lines.push(`${oid} is kept alive by:`);
    else if (lost.length || cycles.size) {
      lines.push(`Nothing that can be reached keeps ${oid} alive, yet it is counted: it has leaked.`);
    } else lines.push(`Nothing keeps ${oid} alive.`);
    paths.sort((a, b) => a.length - b.length);
    lines.push(...paths.slice(0, ENOUGH).map((path) => `  ${chain(path)}`));
    if (paths.length > ENOUGH) lines.push(`  … and more than ${ENOUGH} ways in all`);
    for (const [, holder, target, via, reason] of lost) {
      lines.push(`  lost reference: ${names[holder]} is gone, but ${names[target]}.${via} still counts it (${reason})`);
    }
    for (const ring of cycles.values()) lines.push(`  cycle: ${chain(ring)}`);
    const said = this.data.members.findLast(([since, group]) => group === oid && since <= step);
    if (said?.[2]) lines.push(`In it: ${said[2]}.`);
    return lines;
  }

  // The answer in words: each direct holder with the shortest way from a root to it. What owns it is no holder that is counted.
  // `aside`: has a counter of an object no row in the picture, though the object has a box? Those come last.
  holders(oid, step, aside) {
    const all = this.why(oid, step);
    const { names, roots } = this.data;
    const goal = names.indexOf(oid);
    const { paths, lost } = this.alive.has(goal) && !roots[goal] ? this.search(goal) : { paths: [], lost: [] };
    if (!paths.length) return { lines: all, names: [] };
    paths.sort((a, b) => a.length - b.length);
    const [shortest] = paths;
    let owned = 0;
    const shared = (path) => path.length > owned + 1 && path.at(-1 - owned) === shortest.at(-1 - owned);
    while (shortest.at(-1 - owned)[0] && paths.every(shared)) owned += 1;
    const target = names[shortest.at(-1 - owned)[2]], ways = new Map();
    const last = (path) => Number(aside(target, path.at(-1 - owned)[3]));
    for (const path of paths.toSorted((a, b) => last(a) - last(b))) {
      ways.set(path.at(-1 - owned), [...(ways.get(path.at(-1 - owned)) ?? []), path]);
    }
    const kept = owned ? `${oid} lives as long as ${names[shortest.at(-owned)[1]]}, which` : oid;
    const told = [...ways.values()].map(([path, ...longer]) =>
      `${this.words(path.slice(0, path.length - owned))}${longer.length ? `; and ${longer.length} longer` : ""}`
    );
    return {
      lines: [
        `${kept} is kept alive by ${this.counted([...ways.keys()], lost, (via) => aside(target, via))}:`,
        ...told,
        ...all.filter((line) => /^( {2}lost|In it)/.test(line)).map((line) => line.trim()),
      ],
      names: [...ways.values()].flatMap(([path]) =>
        path.flatMap(([, holder, target]) => [names[holder], names[target]])
      ),
    };
  }

  // How many references these are, by the counters that count them; those that are lost are counted, and keep nothing.
  counted(ways, lost, aside) {
    const tally = (links) => {
      const found = new Map();
      for (const [, , , via, , n] of links) found.set(via, (found.get(via) ?? 0) + n);
      return found;
    };
    const counters = tally(ways), gone = tally(lost.filter(([, , target]) => target === ways[0][2]));
    const number = [...counters.values()].reduce((all, n) => all + n, 0);
    const told = ([via, n]) =>
      gone.has(via) ? `${n} of ${n + gone.get(via)} in ${via}` : counters.size > 1 ? `${n} in ${via}` : via;
    const some = (hidden) => [...counters].filter(([via]) => aside(via) === hidden).map(told).join(", ");
    const where = [some(false), some(true) && `not drawn here: ${some(true)}`].filter(Boolean).join("; ");
    return `${number} reference${number === 1 ? "" : "s"} (${where})`;
  }

  // A way, from the object to the root.
  words(path) {
    const { names } = this.data;
    const called = (name, reason) => {
      const [kind, label] = [name.slice(0, name.indexOf(" ")), name.slice(name.indexOf(" ") + 1)];
      if (kind === "fds") return `descriptor ${reason.replace(/^fd /, "")} of ${label}`;
      return kind === "thread" ? `the running call of ${label}` : null;
    };
    const told = path.toReversed().map(([owns, holder, , , reason, n]) =>
      called(names[holder], reason) ?? `${names[holder]} (${owns ? "owns it" : reason}${n === 1 ? "" : ` ×${n}`})`
    );
    return told.join(", held by ");
  }

  search(goal) {
    const { names, links, roots } = this.data;
    const held = new Map();
    for (const number of this.links) {
      const link = links[number];
      if (!held.has(link[2])) held.set(link[2], []);
      held.get(link[2]).push(link);
    }
    const found = { paths: [], lost: [], cycles: new Map() };
    let left = PATIENCE;
    const walk = (name, below) => {
      for (const link of held.get(name) || []) {
        left -= 1;
        const [chain, holder] = [[link, ...below], link[1]];
        const before = chain.findIndex((later) => later[2] === holder);
        if (before >= 0) {
          const ring = chain.slice(0, before + 1);
          const key = String(ring.map((part) => part[2]).sort());
          if (!found.cycles.has(key)) found.cycles.set(key, ring);
        } else if (this.alive.has(holder) && (roots[holder] || names[holder].startsWith("thread "))) {
          found.paths.push(chain);
        } else if (!this.alive.has(holder)) {
          if (!found.lost.includes(link)) found.lost.push(link);
        } else if (left > 0 && found.paths.length <= ENOUGH) walk(holder, chain);
      }
    };
    walk(goal, []);
    return found;
  }
}
