/** Read-only mounts of snapshots, one per snapshot however many look at it. */
import { join } from 'node:path';
import type { View } from './ports.ts';
import type { Trees } from './trees.ts';

interface Mounted {
  readonly dir: string;
  readonly mounted: boolean;
  users: number;
}

export class Views {
  readonly #snapshots: string;
  readonly #trees: Trees;
  readonly #open = new Map<string, Mounted>();

  constructor(snapshots: string, trees: Trees) {
    this.#snapshots = snapshots;
    this.#trees = trees;
  }

  /** A merged tree of the chain (ids, lowest first, at least one). The caller sees to it that the snapshot stays. */
  open(chain: readonly string[]): View {
    const id = chain.at(-1) ?? '';
    let view = this.#open.get(id);
    if (view === undefined) {
      view = { ...this.#trees.mountView(chain, this.#at(id)), users: 0 };
      this.#open.set(id, view);
    }
    const { dir } = view;
    view.users += 1;
    let open = true;
    return {
      dir,
      [Symbol.asyncDispose]: async () => {
        if (open) this.#close(id);
        open = false;
      },
    };
  }

  close(): void {
    for (const [id, { mounted }] of this.#open) if (mounted) this.#trees.unmountView(this.#at(id));
    this.#open.clear();
  }

  #close(id: string): void {
    const view = this.#open.get(id);
    if (view === undefined) return;
    view.users -= 1;
    if (view.users > 0) return;
    this.#open.delete(id);
    if (view.mounted) this.#trees.unmountView(this.#at(id));
  }

  #at(id: string): string {
    return join(this.#snapshots, id, 'view');
  }
}
