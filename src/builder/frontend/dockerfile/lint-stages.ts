/** Checks of stages as a whole: names, casing, FROM and its arguments. */
import type { Env } from '../../llb/env.ts';
import { normalizePlatform, type Platform, parsePlatform, platformId } from '../../llb/platform.ts';
import { parseReference } from '../../registry/reference.ts';
import type { SourceFile } from './errors.ts';
import { globalArgs } from './global-args.ts';
import { goQuote } from './go-text.ts';
import type { InstructionOf, Stage } from './instruction.ts';
import type { Linter } from './lint.ts';
import type { OutlineCapture } from './outline-capture.ts';
import { type Expanded, expandWord, type LexOptions } from './shell-lex.ts';
import { nearest } from './suggest.ts';

const RESERVED = new Set(['context', 'scratch']);

export function lintStages(stages: readonly Stage[], lint: Linter): void {
  const seen = new Set<string>();
  for (const { name, ranges } of stages) {
    if (name === '') continue;
    if (RESERVED.has(name)) {
      lint.run('ReservedStageName', ranges, `Stage name should not use the same name as reserved stage ${goQuote(name)}`);
    }
    if (seen.has(name)) {
      lint.run('DuplicateStageName', ranges, `Duplicate stage name ${goQuote(name)}, stage names should be unique`);
    }
    seen.add(name);
  }
  lintCasing(stages, lint);
}

/** All keywords like most of them; mixed casing is always wrong. */
function lintCasing(stages: readonly Stage[], lint: Linter): void {
  const keywords = stages.flatMap((stage) => [stage, ...stage.instructions]);
  const lower = keywords.filter(({ keyword }) => keyword === keyword.toLowerCase()).length;
  const upper = keywords.filter(({ keyword }) => keyword === keyword.toUpperCase()).length;
  const casing = lower > upper ? 'lowercase' : 'uppercase';
  for (const { keyword, ranges } of keywords) {
    const right = casing === 'lowercase' ? keyword.toLowerCase() : keyword.toUpperCase();
    if (keyword === right) continue;
    const message = `Command '${keyword}' should match the case of the command majority (${casing})`;
    lint.run('ConsistentInstructionCasing', ranges, message);
  }
}

/** FROM must make sense even when nobody gives arguments. */
export function lintDefaultBases(
  file: SourceFile,
  stages: readonly Stage[],
  args: readonly InstructionOf<'arg'>[],
  base: Env,
  lex: LexOptions,
  lint: Linter,
): void {
  try {
    const { env } = globalArgs(file, base, args, new Map(), lex);
    for (const { baseName, ranges } of stages) {
      if (isReference(expandWord(baseName, env, lex).text)) continue;
      const message = `Default value for ARG ${baseName} results in empty or invalid base image name`;
      lint.run('InvalidDefaultArgInFrom', ranges, message);
    }
  } catch {
    // The build itself will say what is wrong, with its place.
  }
}

function isReference(text: string): boolean {
  try {
    parseReference(text);
    return true;
  } catch {
    return false;
  }
}

export function lintFromArgs({ unmatched }: Expanded, { ranges }: Stage, env: Env, globals: OutlineCapture, lint: Linter): void {
  for (const name of unmatched) {
    if (globals.args.has(name)) continue;
    const close = nearest(name, [...globals.args.keys(), ...env.keys()]);
    const hint = close === undefined ? '' : ` (did you mean ${close}?)`;
    lint.run('UndefinedArgInFrom', ranges, `FROM argument '${name}' is not declared${hint}`);
  }
}

export function lintFromPlatform(
  { text, matched, unmatched }: Expanded,
  stage: Stage,
  env: Env,
  build: Platform,
  lint: Linter,
): void {
  const { ranges } = stage;
  if (matched.size === 1 && unmatched.size === 0 && matched.has('TARGETPLATFORM') && text === env.get('TARGETPLATFORM')) {
    const message = `Setting platform to predefined ${stage.platform} in FROM is redundant as this is the default behavior`;
    lint.run('RedundantTargetPlatform', ranges, message);
  }
  if (matched.size > 0 || unmatched.size > 0) return;
  try {
    const platform = parsePlatform(text, build);
    // A stage that carries the platform in its name means it.
    if (stage.name.includes(platform.os) || stage.name.includes(platform.architecture)) return;
    lint.run('FromPlatformFlagConstDisallowed', ranges, `FROM --platform flag should not use constant value ${goQuote(text)}`);
  } catch {
    // Not a platform: reported where it is used.
  }
}

export function lintBaseImagePlatform(name: string, expected: Platform, actual: Platform, { ranges }: Stage, lint: Linter): void {
  if (expected.os === actual.os && expected.architecture === actual.architecture) return;
  const [found, wanted] = [actual, expected].map((platform) => goQuote(platformId(normalizePlatform(platform))));
  const message = `Base image ${name} was pulled with platform ${found}, expected ${wanted} for current build`;
  lint.run('InvalidBaseImagePlatform', ranges, message);
}
