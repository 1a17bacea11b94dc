/** What carrying out an instruction works with: the stage, what all stages share, names, history, the shell. */
import type { PatternSet } from '../../../core/patterns.ts';
import type { Env } from '../../llb/env.ts';
import type { ProxyEnv } from '../../llb/exec.ts';
import type { Platform } from '../../llb/platform.ts';
import type { SourceMap, State } from '../../llb/state.ts';
import type { SourceFile } from './errors.ts';
import type { Instruction } from './instruction.ts';
import type { Linter } from './lint.ts';
import type { DockerfileOptions } from './options.ts';
import { expandWord, type LexOptions } from './shell-lex.ts';
import type { Command, StageState } from './stage-state.ts';
import { nearest } from './suggest.ts';

/** What all stages of one conversion share. */
export interface Conversion {
  readonly file: SourceFile;
  readonly sourceMap: SourceMap;
  readonly options: DockerfileOptions;
  readonly globalArgs: Env;
  readonly lex: LexOptions;
  readonly lint: Linter;
  /** Completed once every path that is used is known. */
  readonly buildContext: State;
  readonly proxyEnv: ProxyEnv | undefined;
  readonly targetPlatform: Platform;
  /** Whether `--link` can make a layer of its own; where it cannot, it is an ordinary copy. */
  readonly canMerge: boolean;
  /** Seconds since 1970 that everything made gets as its time. */
  readonly epochS: number | undefined;
  /** The patterns of .dockerignore, when there are any and none brings files back. */
  readonly ignored: { readonly set: PatternSet; readonly patterns: readonly string[] } | undefined;
}

/** An instruction being carried out. */
export interface Step<I extends Instruction = Instruction> {
  readonly conversion: Conversion;
  readonly stage: StageState;
  readonly instruction: I;
  readonly command: Command;
  readonly lint: Linter;
  /** Replaces variables in one word; unset ones become nothing and are linted. */
  readonly expand: (word: string) => string;
}

/** Arguments that steer the build and are no variables of it. */
export const NON_ENV_ARGS: ReadonlySet<string> = new Set(['BUILDKIT_SBOM_SCAN_CONTEXT', 'BUILDKIT_SBOM_SCAN_STAGE']);

export function lintUndefined(stage: StageState, { ranges }: Instruction, names: ReadonlySet<string>, lint: Linter): void {
  for (const name of names) {
    if (NON_ENV_ARGS.has(name) || stage.buildArgs.some((arg) => arg.name === name)) continue;
    const close = nearest(name, stage.state.env.keys());
    const hint = close === undefined ? '' : ` (did you mean $${close}?)`;
    lint.run('UndefinedVar', ranges, `Usage of undefined variable '$${name}'${hint}`);
  }
}

/** A history entry. Steps that change files end in a mark older tools look for. */
export function commit(
  { stage, conversion }: Step,
  text: string,
  options: { readonly layer?: boolean; readonly marked?: boolean } = {},
): void {
  const { layer = false, marked = false } = options;
  stage.image.commit(marked ? `${text} # buildkit` : text, { layer, epochS: conversion.epochS });
}

/** The shell of the stage, with the command as its last argument. */
export function withShell({ image }: StageState, args: readonly string[]): string[] {
  const standard = image.platform.os === 'windows' ? ['cmd', '/S', '/C'] : ['/bin/sh', '-c'];
  return [...(image.shell.length > 0 ? image.shell : standard), args.join(' ')];
}

/** The name of the step: the instruction with its variables replaced where that is possible, keyword in capitals. */
export function nameOf(step: Step, code: string, options: NameOptions = {}): string {
  const { stage, command, conversion } = step;
  const platform = 'platform' in options ? options.platform : (stage.platform ?? conversion.targetPlatform);
  return stage.nameStep(displayText(step, code, options), {
    platform: conversion.options.multiPlatform ? platform : undefined,
    onbuild: command.isOnbuild,
    again: options.again ?? false,
  });
}

interface NameOptions {
  readonly lex?: LexOptions;
  readonly env?: Env;
  /** Shown when several are built; the stage's when it is not given. */
  readonly platform?: Platform | undefined;
  /** Another name for the step that was named last. */
  readonly again?: boolean;
  /** In front of the keyword. */
  readonly mark?: string;
}

function displayText(
  { stage, conversion }: Step,
  code: string,
  { lex = conversion.lex, env = stage.state.env, mark = '' }: NameOptions,
): string {
  const text = expandOr(code, env, lex);
  const gap = text.indexOf(' ');
  return mark + (gap === -1 ? text.toUpperCase() : text.slice(0, gap).toUpperCase() + text.slice(gap));
}

/** A text that cannot be expanded is shown as it is. */
function expandOr(text: string, env: Env, lex: LexOptions): string {
  try {
    return expandWord(text, env, lex).text;
  } catch {
    return text;
  }
}

export const locationOf = ({ conversion, instruction }: Step) => ({ map: conversion.sourceMap, ranges: instruction.ranges });
