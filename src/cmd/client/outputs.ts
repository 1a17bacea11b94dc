/** `-o` of `cooper build`: what leaves the builder and where it goes on this side. */
import { resolve } from 'node:path';
import type { ClientOutput } from '../../builder/session/attachables/file-send.ts';
import { BuildError } from '../../core/errors.ts';
import { splitOnce } from '../args.ts';

export interface ParsedOutput {
  readonly type: string;
  /** For the exporter; where the result goes is not its business. */
  readonly attributes: ReadonlyMap<string, string>;
  /** Undefined for results that stay with the daemon or go to a registry. */
  readonly output: ClientOutput | undefined;
}

/** A path alone is a directory, `-` a tarball to standard output. @throws BuildError `invalid-input`. */
export function parseOutput(spec: string): ParsedOutput {
  if (spec === '-') return { type: 'tar', attributes: new Map(), output: { type: 'stream', writable: process.stdout } };
  if (!spec.includes('=')) return { type: 'local', attributes: new Map(), output: { type: 'directory', path: resolve(spec) } };
  const attributes = new Map(
    spec.split(',').map((part): [string, string] => [splitOnce(part, '=')[0].trim(), splitOnce(part, '=')[1] ?? '']),
  );
  const type = attributes.get('type');
  if (type === undefined || type === '')
    throw new BuildError('invalid-input', `--output ${spec}: a type is missing`, {
      hint: 'write type=image, oci, docker, local or tar',
    });
  const dest = attributes.get('dest');
  attributes.delete('type');
  attributes.delete('dest');
  if (type === 'image') return { type, attributes, output: undefined };
  if (type === 'local') {
    if (dest === undefined)
      throw new BuildError('invalid-input', `--output ${spec}: dest is missing`, { hint: 'write dest=DIRECTORY' });
    return {
      type,
      attributes,
      output: { type: 'directory', path: resolve(dest), deleteOthers: attributes.get('mode') === 'delete' },
    };
  }
  if (dest === undefined || dest === '-') {
    if (process.stdout.isTTY)
      throw new BuildError('invalid-input', `--output ${spec}: a tarball is not written to a terminal`, {
        hint: 'add dest=FILE',
      });
    return { type, attributes, output: { type: 'stream', writable: process.stdout } };
  }
  return { type, attributes, output: { type: 'file', path: resolve(dest) } };
}
