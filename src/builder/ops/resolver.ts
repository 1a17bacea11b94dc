/** Turns a vertex into an op that can be keyed and run. */
import { BuildError } from '../../core/errors.ts';
import type { Vertex } from '../llb/definition.ts';
import type { Op, OpResolver } from '../solver/ports.ts';
import type { OpDeps } from './deps.ts';
import { execOp } from './exec.ts';
import { fileOp } from './file.ts';

export function createOpResolver(deps: OpDeps): OpResolver {
  return { resolve: (vertex) => opOf(vertex, deps) };
}

function opOf(vertex: Vertex, deps: OpDeps): Op {
  const { op } = vertex.op;
  switch (op.case) {
    case 'source':
      return deps.source(vertex);
    case 'exec':
      return execOp(vertex, op.value, deps);
    case 'file':
      return fileOp(vertex, op.value, deps);
    default:
      throw new BuildError('unsupported', `this daemon does not know ops of kind ${op.case ?? 'none'}`);
  }
}
