/** What progress calls a step whose client gave it no name; the forms are those clients of BuildKit know. */
import type { FileAction, Op } from '../proto/gen/pb/ops_pb.ts';

// A merge is named after its inputs, and an input can be a merge: without a bound, n merges make a name of 2^n characters.
const MAX_NAME_LENGTH = 4096;
const SCRATCH = -1n;

/** `inputNames`: names of the op's inputs, in their order. */
export function nameOf({ op }: Op, inputNames: readonly string[]): string {
  switch (op.case) {
    case 'source':
      return op.value.identifier;
    case 'exec':
      return clip((op.value.meta?.args ?? []).join(' '));
    case 'file':
      return clip(op.value.actions.map(fileActionName).filter(Boolean).join(', '));
    case 'build':
      return 'build';
    case 'merge':
      return clip(`merge (${inputNames.join(', ')})`);
    case 'diff':
      return clip(
        `diff ${diffSideName(op.value.lower?.input, inputNames)} -> ${diffSideName(op.value.upper?.input, inputNames)}`,
      );
    case 'passthrough':
      return `passthrough ${op.value.id}`;
    default:
      return 'unknown';
  }
}

function diffSideName(input: bigint | undefined, inputNames: readonly string[]): string {
  return input === undefined || input === SCRATCH ? 'scratch' : `(${inputNames[Number(input)] ?? 'unknown'})`;
}

function fileActionName({ action }: FileAction): string {
  switch (action.case) {
    case 'mkdir':
    case 'mkfile':
    case 'rm':
      return `${action.case} ${action.value.path}`;
    case 'symlink':
      return `symlink ${action.value.newpath} -> ${action.value.oldpath}`;
    case 'copy':
      return `copy ${action.value.src} ${action.value.dest}`;
    default:
      return '';
  }
}

const clip = (name: string): string => (name.length > MAX_NAME_LENGTH ? `${name.slice(0, MAX_NAME_LENGTH)}...` : name);
