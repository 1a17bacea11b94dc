/**
 * File ops: a chain (in principle a graph) of actions on trees. Actions that follow one another on the same tree run as one task in a
 * thread; a tree is frozen where it becomes an output or where something else reads it.
 */
import { BuildError } from '../../core/errors.ts';
import { taskRef } from '../../core/worker-pool.ts';
import type { Vertex } from '../llb/definition.ts';
import type { ChownOpt, FileAction, FileOp } from '../proto/gen/pb/ops_pb.ts';
import type { MutableSnapshot, Snapshot } from '../snapshot/ports.ts';
import type { Op, OpContext, Result } from '../solver/ports.ts';
import type { OpDeps } from './deps.ts';
import { fileCacheMap } from './file-key.ts';
import type { FileActionsArgs, FileStep } from './file-task.ts';
import { openResult, UNTYPED } from './results.ts';

const runFileActions = taskRef<FileActionsArgs, null>(new URL('./file-task.ts', import.meta.url), 'runFileActions');
const SCRATCH = -1;

export function fileOp(vertex: Vertex, file: FileOp, deps: OpDeps): Op {
  return {
    resource: 'io',
    cacheMap: async () => ({ map: fileCacheMap(file, vertex.inputs.length, deps), done: true }),
    exec: async (context, inputs) => {
      await using stack = new AsyncDisposableStack();
      return await new FileRun(file.actions, vertex, inputs, context, deps, stack).run();
    },
  };
}

/** Actions on one tree, one after the other. */
interface Chain {
  /** Index of what the tree begins as: an input, a frozen action or SCRATCH. */
  readonly start: number;
  readonly actions: readonly number[];
}

class FileRun {
  readonly #actions: readonly FileAction[];
  readonly #vertex: Vertex;
  readonly #inputs: readonly Result[];
  readonly #context: OpContext;
  readonly #deps: OpDeps;
  readonly #stack: AsyncDisposableStack;
  /** Snapshots by index: inputs first, then the last action of each chain. Undefined is scratch. */
  readonly #snapshots = new Map<number, Snapshot | undefined>();

  constructor(
    actions: readonly FileAction[],
    vertex: Vertex,
    inputs: readonly Result[],
    context: OpContext,
    deps: OpDeps,
    stack: AsyncDisposableStack,
  ) {
    this.#actions = actions;
    this.#vertex = vertex;
    this.#inputs = inputs;
    this.#context = context;
    this.#deps = deps;
    this.#stack = stack;
  }

  async run(): Promise<Result[]> {
    const outputs = this.#outputs();
    for (const chain of chainsOf(this.#actions, this.#inputs.length)) await this.#runChain(chain);
    return outputs.map((index) => {
      const snapshot = this.#snapshots.get(index);
      if (snapshot === undefined) throw new BuildError('internal', `file action ${index - this.#inputs.length} left no snapshot`);
      return snapshot.clone();
    });
  }

  /** Index of each output, in order. */
  #outputs(): number[] {
    const byOutput = new Map<number, number>();
    for (const [i, { output }] of this.#actions.entries()) {
      if (output === -1n) continue;
      if (byOutput.has(Number(output))) throw new BuildError('invalid-input', `duplicate output ${output}`);
      byOutput.set(Number(output), this.#inputs.length + i);
    }
    if (byOutput.size === 0) throw new BuildError('invalid-input', 'no outputs specified');
    return Array.from({ length: byOutput.size }, (_, output) => {
      const index = byOutput.get(output);
      if (index === undefined) throw new BuildError('invalid-input', `missing output index ${output}`);
      return index;
    });
  }

  async #runChain({ start, actions }: Chain): Promise<void> {
    const parent = await this.#snapshotAt(start);
    const mutable = this.#stack.use(await this.#deps.snapshots.prepare(parent, { description: this.#vertex.name }));
    const members = new Set(actions.map((i) => this.#inputs.length + i));
    const steps: FileStep[] = [];
    for (const i of actions) steps.push(await this.#stepOf(this.#actionAt(i), members));
    const tree = await this.#treeOf(mutable, parent, actions, members);
    try {
      await this.#deps.pool.run(runFileActions, { ...tree, below: mutable.below, steps }, { signal: this.#context.signal });
    } catch (error) {
      const { signal } = this.#context;
      throw signal.aborted ? BuildError.from(signal.reason) : BuildError.from(error).wrap('', UNTYPED);
    }
    this.#snapshots.set(this.#inputs.length + (actions.at(-1) ?? 0), this.#stack.use(await mutable.commit()));
  }

  /**
   * Straight into the layer where that is possible: no mount to make, and files can be shared with their source by hard links. Not when
   * something is removed, or when an owner's name is looked up in what the chain itself made.
   */
  async #treeOf(
    mutable: MutableSnapshot,
    parent: Snapshot | undefined,
    actions: readonly number[],
    members: ReadonlySet<number>,
  ): Promise<{ layer: string; base: string | undefined }> {
    const { layer } = mutable;
    const plain = actions
      .map((i) => this.#actionAt(i))
      .every((action) => !removes(action) && !ownerRoots(action).some((at) => members.has(at)));
    if (layer === undefined || !plain) return { layer: await mutable.mount(), base: undefined };
    return { layer, base: parent === undefined ? undefined : this.#stack.use(await parent.view()).dir };
  }

  async #stepOf(action: FileAction, members: ReadonlySet<number>): Promise<FileStep> {
    const { owner } = ownedBy(action);
    const namedRoot = async (option: ChownOpt['user']): Promise<string | undefined> => {
      if (option?.user.case !== 'byName') return undefined;
      const index = Number(option.user.value.input);
      return members.has(index) ? undefined : await this.#dirAt(index);
    };
    return {
      action: action.action,
      source: action.action.case === 'copy' ? await this.#dirAt(Number(action.secondaryInput)) : undefined,
      userRoot: await namedRoot(owner?.user),
      groupRoot: await namedRoot(owner?.group),
    };
  }

  #actionAt(i: number): FileAction {
    const action = this.#actions[i];
    if (action === undefined) throw new BuildError('internal', `there is no file action ${i}`);
    return action;
  }

  async #snapshotAt(index: number): Promise<Snapshot | undefined> {
    if (index === SCRATCH) return undefined;
    if (!this.#snapshots.has(index)) {
      const result = this.#inputs[index];
      if (result === undefined) throw new BuildError('invalid-input', `invalid input index ${index}`);
      const snapshot = await openResult(this.#deps.snapshots, result);
      this.#snapshots.set(index, snapshot === undefined ? undefined : this.#stack.use(snapshot));
    }
    return this.#snapshots.get(index);
  }

  /** Where a tree can be read; undefined for scratch. */
  async #dirAt(index: number): Promise<string | undefined> {
    const snapshot = await this.#snapshotAt(index);
    return snapshot === undefined ? undefined : this.#stack.use(await snapshot.view()).dir;
  }
}

/**
 * Splits the actions into chains, in an order in which each finds its inputs ready. An action goes on where another ended when it is
 * the only one that wants that tree.
 */
export function chainsOf(actions: readonly FileAction[], inputCount: number): Chain[] {
  const readers = new Map<number, number>();
  const count = (index: bigint | number): void => void readers.set(Number(index), (readers.get(Number(index)) ?? 0) + 1);
  for (const action of actions) {
    count(action.input);
    // Read beside being written to: two readers, so that it is frozen first. An owner looked up in the tree itself is no other reader.
    if (action.secondaryInput !== -1n) count(action.secondaryInput);
    for (const index of ownerRoots(action)) if (index !== Number(action.input)) count(index);
  }
  const chains: { start: number; actions: number[] }[] = [];
  const byEnd = new Map<number, { start: number; actions: number[] }>();
  for (const [i, action] of actions.entries()) {
    const from = Number(action.input);
    const previous = actions[from - inputCount];
    const open = byEnd.get(from);
    const goesOn = open !== undefined && previous?.output === -1n && readers.get(from) === 1 && open === chains.at(-1);
    const chain = goesOn ? open : { start: from, actions: [] };
    if (!goesOn) chains.push(chain);
    chain.actions.push(i);
    byEnd.delete(from);
    byEnd.set(inputCount + i, chain);
  }
  return chains;
}

/** Unpacking an archive replaces what it finds, so it counts too. */
function removes({ action }: FileAction): boolean {
  if (action.case !== 'copy') return action.case === 'rm';
  return action.value.alwaysReplaceExistingDestPaths || action.value.attemptUnpackDockerCompatibility;
}

function ownedBy({ action }: FileAction): { readonly owner?: ChownOpt | undefined } {
  return action.case === undefined || action.case === 'rm' ? {} : action.value;
}

/** Indexes of the trees in which names of owners are looked up. */
function ownerRoots(action: FileAction): number[] {
  const { owner } = ownedBy(action);
  return [owner?.user, owner?.group].flatMap((option) =>
    option?.user.case === 'byName' ? [Number(option.user.value.input)] : [],
  );
}
