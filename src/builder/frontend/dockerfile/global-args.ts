/** ARG before the first FROM, and the arguments every build has (https://docs.docker.com/reference/dockerfile/#scope). */
import { Env } from '../../llb/env.ts';
import { formatPlatform, type Platform, platformId } from '../../llb/platform.ts';
import { at, type SourceFile } from './errors.ts';
import type { InstructionOf } from './instruction.ts';
import type { ArgUse } from './outline-capture.ts';
import { expandWord, type LexOptions } from './shell-lex.ts';

/** BUILDPLATFORM, TARGETARCH and their like; a build argument of the same name wins. */
export function platformArgs(build: Platform, target: Platform, stage: string, buildArgs: ReadonlyMap<string, string>): Env {
  const defaults: readonly (readonly [string, string])[] = [
    ['BUILDPLATFORM', formatPlatform(build)],
    ['BUILDOS', build.os],
    ['BUILDOSVERSION', build.osVersion],
    ['BUILDARCH', build.architecture],
    ['BUILDVARIANT', build.variant],
    ['TARGETPLATFORM', platformId(target)],
    ['TARGETOS', target.os],
    ['TARGETOSVERSION', target.osVersion],
    ['TARGETARCH', target.architecture],
    ['TARGETVARIANT', target.variant],
    ['TARGETSTAGE', stage || 'default'],
  ];
  return Env.of(defaults.map(([name, value]) => `${name}=${buildArgs.get(name) ?? value}`));
}

/** The values global arguments have in FROM. @throws BuildError `invalid-input`. */
export function globalArgs(
  file: SourceFile,
  base: Env,
  instructions: readonly InstructionOf<'arg'>[],
  buildArgs: ReadonlyMap<string, string>,
  lex: LexOptions,
): { readonly env: Env; readonly args: Map<string, ArgUse> } {
  let env = base;
  const args = new Map<string, ArgUse>();
  for (const { args: definitions, ranges } of instructions) {
    for (const definition of definitions) {
      const { name } = definition;
      let value = buildArgs.get(name);
      let deps: ReadonlySet<string> = new Set();
      if (value === undefined && definition.value !== undefined) {
        const word = definition.value;
        const expanded = at(file, ranges, () => expandWord(word, env, lex));
        value = expanded.text;
        // A default that mentions its own name continues the earlier definition.
        deps = expanded.matched.has(name)
          ? new Set([...expanded.matched, ...(args.get(name)?.deps ?? [])].filter((dep) => dep !== name))
          : expanded.matched;
      }
      if (value !== undefined) env = env.set(name, value);
      args.set(name, { definition: { ...definition, value }, value: value ?? '', deps, ranges });
    }
  }
  return { env, args };
}
