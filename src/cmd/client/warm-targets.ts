/** The list of targets that `cooper cache warm` builds: a TOML file, read whole and checked before anything is built. */
import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { BuildError } from '../../core/errors.ts';

const target = z.strictObject({
  name: z.string().min(1),
  /** A directory (relative to the file), a git or http(s) address. */
  context: z.string().min(1),
  dockerfile: z.string().min(1).default('Dockerfile'),
  target: z.string().min(1).optional(),
  platforms: z.array(z.string().min(1)).default([]),
  args: z.record(z.string(), z.string()).default({}),
});
const list = z.strictObject({ target: z.array(target).min(1) });

export interface WarmTarget {
  readonly name: string;
  /** Directories the client serves; undefined for a context that the daemon fetches. */
  readonly dirs: ReadonlyMap<string, string> | undefined;
  readonly options: ReadonlyMap<string, string>;
}

/** @throws BuildError `invalid-input` naming the file and what is wrong in it. */
export function readWarmTargets(file: string): readonly WarmTarget[] {
  const found = list.safeParse(readToml(file));
  if (!found.success) {
    const [issue] = found.error.issues;
    throw new BuildError(
      'invalid-input',
      `${file}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not a list of targets'}`,
      {
        hint: 'docs/gc.md has an example',
      },
    );
  }
  const names = found.data.target.map(({ name }) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new BuildError('invalid-input', `${file}: two targets are named "${twice}"`);
  return found.data.target.map((one) => targetOf(one, dirname(resolve(file))));
}

function readToml(file: string): unknown {
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    const where = cause instanceof TomlError ? `:${cause.line}:${cause.column}` : '';
    throw new BuildError('invalid-input', `${file}${where}: ${(cause as Error).message.split('\n')[0]}`, {}, { cause });
  }
}

const REMOTE = /^(https?:\/\/|git:\/\/|ssh:\/\/|git@)/;

function targetOf(one: z.infer<typeof target>, base: string): WarmTarget {
  const options = new Map<string, string>();
  if (one.target !== undefined) options.set('target', one.target);
  if (one.platforms.length > 0) options.set('platform', one.platforms.join(','));
  for (const [name, value] of Object.entries(one.args)) options.set(`build-arg:${name}`, value);
  if (REMOTE.test(one.context)) {
    options.set('context', one.context).set('filename', one.dockerfile);
    return { name: one.name, dirs: undefined, options };
  }
  const context = resolve(base, one.context);
  const dockerfile = resolve(context, one.dockerfile);
  options.set('filename', basename(dockerfile));
  return {
    name: one.name,
    options,
    dirs: new Map([
      ['context', context],
      ['dockerfile', dirname(dockerfile)],
    ]),
  };
}
