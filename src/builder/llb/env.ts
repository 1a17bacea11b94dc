/**
 * Environment variables of a state: immutable, in the order of their last assignment, cheap to extend. A Dockerfile may set ten
 * thousand of them one by one, so a new list is a link to the old one; now and then the chain is folded into a map.
 */
export class Env {
  static readonly empty = new Env(undefined, '', '', new Map());

  readonly #parent: Env | undefined;
  readonly #key: string;
  readonly #value: string;
  readonly #base: ReadonlyMap<string, string>;
  readonly #depth: number;

  private constructor(parent: Env | undefined, key: string, value: string, base: ReadonlyMap<string, string>) {
    this.#parent = parent;
    this.#key = key;
    this.#value = value;
    this.#base = base;
    this.#depth = parent === undefined ? 0 : parent.#depth + 1;
  }

  /** `K=V` texts; a text without `=` is a variable with an empty value. */
  static of(entries: Iterable<string>): Env {
    const map = new Map<string, string>();
    for (const entry of entries) assign(map, ...splitEntry(entry));
    return new Env(undefined, '', '', map);
  }

  set(key: string, value: string): Env {
    // The longer the folded part, the rarer it is copied: all copies together stay proportional to the number of variables.
    if (this.#depth < 64 + this.#base.size / 4) return new Env(this, key, value, this.#base);
    const map = this.toMap();
    assign(map, key, value);
    return new Env(undefined, '', '', map);
  }

  delete(key: string): Env {
    const map = this.toMap();
    map.delete(key);
    return new Env(undefined, '', '', map);
  }

  get(key: string): string | undefined {
    let node: Env = this;
    while (node.#parent !== undefined) {
      if (node.#key === key) return node.#value;
      node = node.#parent;
    }
    return this.#base.get(key);
  }

  keys(): string[] {
    return [...this.toMap().keys()];
  }

  /** `K=V`, as a process gets them. */
  toArray(): string[] {
    return Array.from(this.toMap(), ([key, value]) => `${key}=${value}`);
  }

  toMap(): Map<string, string> {
    const links: Env[] = [];
    for (let node: Env = this; node.#parent !== undefined; node = node.#parent) links.push(node);
    const map = new Map(this.#base);
    for (const link of links.reverse()) assign(map, link.#key, link.#value);
    return map;
  }
}

/** Assigning again moves a variable to the end. */
function assign(map: Map<string, string>, key: string, value: string): void {
  map.delete(key);
  map.set(key, value);
}

export function splitEntry(entry: string): [key: string, value: string] {
  const equals = entry.indexOf('=');
  return equals === -1 ? [entry, ''] : [entry.slice(0, equals), entry.slice(equals + 1)];
}
