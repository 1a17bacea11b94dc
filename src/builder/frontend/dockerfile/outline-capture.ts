/** What a stage can be given from outside (arguments, secrets, agents), noted while it is built; outline.ts reports it. */
import type { SourceRange } from '../../../core/errors.ts';
import type { ArgDefinition } from './instruction.ts';

export interface ArgUse {
  readonly definition: ArgDefinition;
  readonly value: string;
  /** Arguments its default value mentions. */
  readonly deps: ReadonlySet<string>;
  readonly ranges: readonly SourceRange[];
}
export interface MountUse {
  readonly required: boolean;
  readonly ranges: readonly SourceRange[];
}

export class OutlineCapture {
  readonly args: Map<string, ArgUse>;
  readonly used: Set<string>;
  readonly secrets: Map<string, MountUse>;
  readonly ssh: Map<string, MountUse>;

  constructor(from?: OutlineCapture) {
    this.args = new Map(from?.args);
    this.used = new Set(from?.used);
    this.secrets = new Map(from?.secrets);
    this.ssh = new Map(from?.ssh);
  }

  clone(): OutlineCapture {
    return new OutlineCapture(this);
  }

  /** Used arguments, with those their defaults are made of. */
  usedArgs(): Set<string> {
    const all = new Set(this.used);
    for (const name of all) for (const dep of this.args.get(name)?.deps ?? []) all.add(dep);
    return all;
  }
}
