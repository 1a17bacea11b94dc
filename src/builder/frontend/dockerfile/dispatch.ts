import { file as fileStep, parseOwner } from '../../llb/file.ts';
import { dispatchRun } from './dispatch-run.ts';
import { dispatchTransfer } from './dispatch-transfer.ts';
import { at, invalid } from './errors.ts';
import { parsePorts } from './expose.ts';
import { formatDuration, goQuote, goQuoteList } from './go-text.ts';
import type { ArgDefinition, Healthcheck, Instruction, InstructionOf } from './instruction.ts';
import type { Linter, LintRule } from './lint.ts';
import { isAbsolute, joinPath } from './paths.ts';
import { expandWord, expandWords } from './shell-lex.ts';
import { checkSignal } from './signals.ts';
import type { Command, StageState } from './stage-state.ts';
import { type Conversion, commit, lintUndefined, locationOf, NON_ENV_ARGS, nameOf, type Step, withShell } from './step.ts';

/** @throws BuildError `invalid-input` with the place of the instruction. */
export function dispatch(conversion: Conversion, stage: StageState, command: Command): void {
  const { instruction } = command;
  const lint = conversion.lint.withComments(instruction.comments);
  const expand = expander(conversion, stage, instruction, lint);
  at(conversion.file, instruction.ranges, () => carryOut({ conversion, stage, instruction, command, lint, expand }));
}

function expander(conversion: Conversion, stage: StageState, instruction: Instruction, lint: Linter) {
  return (word: string): string => {
    if (!/[$\\`'"<]/.test(word)) return word;
    const { text, unmatched } = expandWord(word, stage.state.env, conversion.lex);
    lintUndefined(stage, instruction, unmatched, lint);
    return text;
  };
}

function carryOut(step: Step): void {
  const { instruction } = step;
  switch (instruction.kind) {
    case 'add':
    case 'copy':
      dispatchTransfer({ ...step, instruction });
      break;
    case 'arg':
      dispatchArg({ ...step, instruction });
      break;
    case 'cmd':
    case 'entrypoint':
      dispatchCommand({ ...step, instruction });
      break;
    case 'env':
      dispatchEnv({ ...step, instruction });
      break;
    case 'label':
      dispatchLabel({ ...step, instruction });
      break;
    case 'expose':
      dispatchExpose({ ...step, instruction });
      break;
    case 'healthcheck':
      lintUsedOnce(step);
      step.stage.image.healthcheck = instruction.health;
      commit(step, `HEALTHCHECK ${healthcheckText(instruction.health)}`);
      break;
    case 'maintainer':
      step.stage.image.author = instruction.name;
      commit(step, `MAINTAINER ${instruction.name}`);
      break;
    case 'onbuild':
      step.stage.image.onbuild = [...step.stage.image.onbuild, instruction.expression];
      break;
    case 'run':
      dispatchRun({ ...step, instruction });
      break;
    case 'shell':
      step.stage.image.shell = instruction.shell;
      commit(step, `SHELL [${instruction.shell.join(' ')}]`);
      break;
    case 'stopsignal':
      dispatchStopsignal({ ...step, instruction });
      break;
    case 'user':
      setUser(step.stage, step.expand(instruction.user));
      commit(step, `USER ${step.stage.image.user}`);
      break;
    case 'volume':
      dispatchVolume({ ...step, instruction });
      break;
    case 'workdir':
      dispatchWorkdir({ ...step, instruction });
      break;
  }
}

function dispatchArg(step: Step<InstructionOf<'arg'>>): void {
  const { stage, conversion, instruction } = step;
  const { buildArgs } = conversion.options;
  const texts: string[] = [];
  for (const definition of instruction.args) {
    const { name } = definition;
    lintSecret(step, 'ARG', name);
    const inherited = definition.value === undefined && !buildArgs.has(name) ? conversion.globalArgs.get(name) : undefined;
    const value =
      buildArgs.get(name) ?? inherited ?? (definition.value === undefined ? undefined : step.expand(definition.value));
    const resolved: ArgDefinition = { ...definition, value };
    if (value !== undefined && !NON_ENV_ARGS.has(name)) stage.state = { ...stage.state, env: stage.state.env.set(name, value) };
    if (inherited === undefined) {
      const { ranges } = instruction;
      stage.outline.args.set(name, { definition: resolved, value: value ?? '', deps: new Set(), ranges });
    }
    stage.outline.used.add(name);
    stage.buildArgs.push(resolved);
    texts.push(value === undefined ? name : `${name}=${value}`);
  }
  commit(step, `ARG ${texts.join(' ')}`);
}

function dispatchCommand(step: Step<InstructionOf<'cmd' | 'entrypoint'>>): void {
  const { stage, instruction } = step;
  const { image } = stage;
  lintUsedOnce(step);
  const keyword = instruction.kind.toUpperCase();
  if (instruction.isShell && image.shell.length === 0) {
    const message = `JSON arguments recommended for ${instruction.keyword} to prevent unintended behavior related to OS signals`;
    step.lint.run('JSONArgsRecommended', instruction.ranges, message);
  }
  const args = instruction.isShell ? withShell(stage, instruction.args) : instruction.args;
  if (instruction.kind === 'cmd') {
    image.cmd = args;
    image.argsEscaped = true;
  } else {
    image.entrypoint = args;
    // A CMD of the base belongs to the ENTRYPOINT of the base.
    if (!stage.lastGiven.has('cmd')) image.cmd = [];
  }
  commit(step, `${keyword} ${goQuoteList(args)}`);
}

type PairInstruction = InstructionOf<'env' | 'label'>;

function dispatchEnv(step: Step<PairInstruction>): void {
  const { stage } = step;
  const pairs = expandPairs(step);
  let { env } = stage.state;
  for (const [key, value] of pairs) {
    lintSecret(step, 'ENV', key);
    env = env.set(key, value);
    stage.image.setEnv(key, value);
  }
  stage.state = { ...stage.state, env };
  commit(step, `ENV ${pairs.map(([key, value]) => `${key}=${value}`).join(' ')}`);
}

function dispatchLabel(step: Step<PairInstruction>): void {
  const pairs = expandPairs(step);
  for (const [key, value] of pairs) step.stage.image.labels.set(key, value);
  commit(step, `LABEL ${pairs.map(([key, value]) => `${key}=${value}`).join(' ')}`);
}

/** All of one instruction see the environment as it was before it. */
function expandPairs({ instruction, expand, lint }: Step<PairInstruction>): [key: string, value: string][] {
  const pairs = instruction.pairs.map(({ key, value }): [string, string] => [expand(key), expand(value)]);
  const { keyword, ranges } = instruction;
  for (const { legacy } of instruction.pairs) {
    if (!legacy) continue;
    const message = `"${keyword} key=value" should be used instead of legacy "${keyword} key value" format`;
    lint.run('LegacyKeyValueFormat', ranges, message);
  }
  return pairs;
}
function dispatchExpose(step: Step<InstructionOf<'expose'>>): void {
  const { stage, conversion, instruction, lint } = step;
  const words = instruction.ports.flatMap((port) => expandWords(port, stage.state.env, conversion.lex));
  const ports = parsePorts(words, instruction.ranges, lint);
  for (const port of ports) stage.image.exposedPorts.add(port);
  commit(step, `EXPOSE [${ports.join(' ')}]`);
}

function healthcheckText(health: Healthcheck): string {
  const durations = [
    `Interval:${formatDuration(health.intervalNs)}`,
    `Timeout:${formatDuration(health.timeoutNs)}`,
    `StartPeriod:${formatDuration(health.startPeriodNs)}`,
    `StartInterval:${formatDuration(health.startIntervalNs)}`,
  ].join(' ');
  return `{Test:[${health.test.join(' ')}] ${durations} Retries:${health.retries}}`;
}

function dispatchStopsignal(step: Step<InstructionOf<'stopsignal'>>): void {
  const signal = step.expand(step.instruction.signal);
  checkSignal(signal);
  step.stage.image.stopSignal = signal;
  commit(step, `STOPSIGNAL ${signal}`);
}

export function setUser(stage: StageState, user: string): void {
  stage.state = { ...stage.state, user };
  stage.image.user = user;
}

function dispatchVolume(step: Step<InstructionOf<'volume'>>): void {
  const volumes = step.instruction.volumes.map(step.expand);
  for (const volume of volumes) {
    if (volume === '') throw invalid('VOLUME specified can not be an empty string');
    step.stage.image.volumes.add(volume);
  }
  commit(step, `VOLUME [${volumes.join(' ')}]`);
}

function dispatchWorkdir(step: Step<InstructionOf<'workdir'>>): void {
  const { stage, conversion, instruction } = step;
  const path = step.expand(instruction.path);
  if (!stage.workdirSet && !isAbsolute(path)) {
    const message = `Relative workdir ${goQuote(path)} can have unexpected results if the base image changes`;
    step.lint.run('WorkdirRelativePath', instruction.ranges, message);
  }
  stage.workdirSet = true;
  setWorkdir(stage, path);
  const { dir } = stage.state;
  if (dir !== '/') {
    const owner = stage.image.user === '' ? undefined : parseOwner(stage.image.user);
    const mkdir = { kind: 'mkdir', path: dir, mode: 0o755, makeParents: true, owner, createdS: conversion.epochS } as const;
    stage.state = fileStep(stage.state, [mkdir], {
      name: nameOf(step, instruction.code),
      location: locationOf(step),
    });
  }
  commit(step, `WORKDIR ${dir}`, { layer: dir !== '/' });
}

/** Relative to the directory so far. An absolute path is taken as it is written. */
export function setWorkdir(stage: StageState, path: string): void {
  const { image } = stage;
  const parent = isAbsolute(image.workingDir) ? image.workingDir : joinPath('/', image.workingDir);
  const dir = path === '' ? parent : isAbsolute(path) ? path : joinPath(parent, path);
  image.workingDir = dir;
  stage.state = { ...stage.state, dir };
}

function lintUsedOnce({ stage, instruction, lint }: Step): void {
  const before = stage.lastGiven.get(instruction.kind);
  if (before !== undefined) {
    const message = `Multiple ${instruction.keyword} instructions should not be used in the same stage because only the last one will be used`;
    lint.run('MultipleInstructionsDisallowed' satisfies LintRule, before, message);
  }
  stage.lastGiven.set(instruction.kind, instruction.ranges);
}

const SECRET_WORD = /(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)/i;
const HARMLESS_WORD = /(?:_|^)(?:public|file|version)(?:_|$)/i;

function lintSecret({ instruction, lint }: Step, keyword: string, name: string): void {
  if (!SECRET_WORD.test(name) || HARMLESS_WORD.test(name)) return;
  const message = `Do not use ARG or ENV instructions for sensitive data (${keyword} ${goQuote(name)})`;
  lint.run('SecretsUsedInArgOrEnv', instruction.ranges, message);
}
