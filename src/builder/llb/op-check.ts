/**
 * What every op of a kind must have before anyone looks at it closer: checked once, when a graph is loaded, so that the code that
 * keys and runs ops meets no op without a root mount or with an input that does not exist.
 */
import { BuildError } from '../../core/errors.ts';
import {
  type DiffOp,
  type ExecOp,
  type FileOp,
  type MergeOp,
  type Mount,
  MountType,
  type Op,
  type PassthroughOp,
} from '../proto/gen/pb/ops_pb.ts';

const NONE = -1n;

/** @throws BuildError `invalid-input` that says what is missing. */
export function checkOp({ op, inputs }: Op): void {
  const inputCount = BigInt(inputs.length);
  switch (op.case) {
    case 'exec':
      checkExec(op.value, inputCount);
      break;
    case 'file':
      checkFile(op.value, inputCount);
      break;
    case 'merge':
      checkMerge(op.value, inputCount);
      break;
    case 'diff':
      checkDiff(op.value, inputCount);
      break;
    case 'passthrough':
      checkPassthrough(op.value, inputCount);
      break;
    case 'source':
    case 'build':
      break;
    default:
      throw invalid('invalid nil op');
  }
}

/** How many outputs an op has, by what it says itself. */
export function outputCountOf({ op }: Op): number {
  switch (op.case) {
    case 'exec':
      return countOf(op.value.mounts.filter(hasContent));
    case 'file':
      return countOf(op.value.actions);
    case 'passthrough':
      return op.value.outputs.length;
    default:
      return 1;
  }
}

/** A tmpfs or a secret becomes nobody's input; a cache hands its input on. */
const hasContent = ({ mountType, input }: Mount): boolean =>
  mountType === MountType.BIND || (mountType === MountType.CACHE && input !== NONE);

/** Mounts and actions name the output they become; -1 is none. */
const countOf = (parts: readonly { readonly output: bigint }[]): number =>
  new Set(parts.map(({ output }) => output).filter((output) => output !== NONE)).size;

function checkExec({ meta, mounts }: ExecOp, inputCount: bigint): void {
  if (meta === undefined) throw invalid('invalid exec op with no meta');
  if (meta.args.length === 0) throw invalid('invalid exec op with no args');
  if (mounts.length === 0) throw invalid('invalid exec op with no mounts');
  if (!mounts.some((mount) => mount.dest === '/')) throw invalid('invalid exec op with no rootfs');
  for (const mount of mounts) {
    if (mount.input < NONE || mount.input >= inputCount) throw invalid(`invalid mount input index ${mount.input}`);
  }
}

/** Indexes from the number of inputs on name the results of earlier actions. */
function checkFile({ actions }: FileOp, inputCount: bigint): void {
  if (actions.length === 0) throw invalid('invalid file op with no actions');
  for (const [i, action] of actions.entries()) {
    const known = inputCount + BigInt(i);
    for (const index of [action.input, action.secondaryInput]) {
      if (index < NONE || index >= known) throw invalid(`invalid input index ${index} of file action ${i}`);
    }
  }
}

function checkMerge({ inputs }: MergeOp, inputCount: bigint): void {
  for (const { input } of inputs) if (input < 0n || input >= inputCount) throw invalid(`invalid merge input index ${input}`);
}

function checkDiff({ lower, upper }: DiffOp, inputCount: bigint): void {
  if (lower === undefined || upper === undefined) throw invalid('invalid diff op with nil lower or upper input');
  for (const { input } of [lower, upper]) {
    if (input < NONE || input >= inputCount) throw invalid(`invalid diff input index ${input}`);
  }
}

function checkPassthrough({ id, outputs }: PassthroughOp, inputCount: bigint): void {
  if (id === '') throw invalid('invalid passthrough op with no id');
  if (outputs.length === 0) throw invalid('invalid passthrough op with no outputs');
  for (const input of outputs) {
    if (input < 0n || (inputCount > 0n && input >= inputCount)) throw invalid(`invalid passthrough output input index ${input}`);
  }
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
