/** RUN: the command, its heredocs, its mounts. */

import { cleanPath } from '../../../core/patterns.ts';
import { type FileIds, type RunMount, type RunSecret, type RunSsh, run } from '../../llb/exec.ts';
import { file as fileStep } from '../../llb/file.ts';
import { type State, scratch } from '../../llb/state.ts';
import { NetMode, SecurityMode } from '../../proto/gen/pb/ops_pb.ts';
import { invalid } from './errors.ts';
import { goQuote, trimSpace } from './go-text.ts';
import { chompTabs, findHeredoc } from './heredoc.ts';
import type { InstructionOf } from './instruction.ts';
import { type MountFlag, parseMountFlag } from './mount-flag.ts';
import { baseName, isAbsolute, joinPath } from './paths.ts';
import type { StageState } from './stage-state.ts';
import { commit, locationOf, nameOf, type Step, withShell } from './step.ts';

type RunStep = Step<InstructionOf<'run'>>;

export function dispatchRun(step: RunStep): void {
  const { stage, conversion, instruction } = step;
  const { options } = conversion;
  const { env } = stage.state;
  stage.paths.add('/'); // a command can read any file of its base
  const mountFlags = instruction.mounts.map((flag) => parseMountFlag(flag, step.expand));
  const command = commandOf(step);
  const args = instruction.isShell ? withShell(stage, command.args) : command.args;
  if (args.length === 0) throw invalid('arguments are required');
  const mounts = convertMounts(step, mountFlags);
  const shm = options.shmSizeBytes > 0n;
  const masked = mountFlags.flatMap(({ type, env: name }) => (type === 'secret' && name !== undefined ? [name] : []));
  const name = nameOf(step, instruction.code + command.summary, {
    lex: { ...conversion.lex, rawQuotes: true, keepUnset: true },
    env: masked.reduce((names, secret) => names.set(secret, '****'), env),
    platform: stage.state.platform, // none for a command on scratch
  });
  stage.state = run(stage.state, {
    args,
    mounts: [
      ...command.mounts,
      ...mounts.mounts,
      ...(shm ? [{ kind: 'tmpfs', target: '/dev/shm', readonly: false, sizeBytes: options.shmSizeBytes } as const] : []),
    ],
    secrets: mounts.secrets,
    ssh: mounts.ssh,
    network: NETWORKS[instruction.network],
    security: instruction.security === 'insecure' ? SecurityMode.INSECURE : SecurityMode.SANDBOX,
    proxyEnv: conversion.proxyEnv,
    extraHosts: options.extraHosts,
    ulimits: options.ulimits,
    cgroupParent: options.cgroupParent,
    devices: instruction.devices,
    name,
    description: { 'com.docker.dockerfile.v1.command': instruction.code },
    ignoreCache: stage.ignoreCache,
    linuxResources: options.linuxResources,
    location: locationOf(step),
  });
  commit(step, `RUN ${historyText(stage, args, env)}`, { layer: true, marked: true });
}

/** `--network=default` leaves the mode of the build. */
const NETWORKS: Readonly<Record<string, NetMode>> = { none: NetMode.NONE, host: NetMode.HOST };

interface RunCommand {
  readonly args: readonly string[];
  readonly mounts: readonly RunMount[];
  /** What the name says about a heredoc. */
  readonly summary: string;
}

function commandOf(step: RunStep): RunCommand {
  const { args, heredocs, isShell } = step.instruction;
  const [line = ''] = args;
  const [only] = heredocs;
  if (only === undefined) return { args, mounts: [], summary: '' };
  if (args.length !== 1 || !isShell) throw invalid(`parsing produced an invalid run command: [${args.join(' ')}]`);
  if (findHeredoc(line) === undefined) {
    // Part of a longer command: the shell reads the documents itself.
    const documents = heredocs.map(({ content, name }) => `\n${content}${name}`);
    return { args: [line + documents.join('')], mounts: [], summary: '' };
  }
  const content = only.chomp ? chompTabs(only.content) : only.content;
  const summary = ` (${summarize(only.content)})`;
  const isScript = step.stage.image.platform.os !== 'windows' && content.startsWith('#!');
  return isScript ? { ...scriptMount(only.name, content), summary } : { args: [content], mounts: [], summary };
}

/** A document with its own interpreter becomes a file the container can execute. */
function scriptMount(name: string, content: string): Omit<RunCommand, 'summary'> {
  const file = { kind: 'mkfile', path: name, mode: 0o755, data: new TextEncoder().encode(content) } as const;
  const from = fileStep(scratch(), [file], { name: '[internal] preparing inline document' });
  return {
    args: [joinPath('/dev/pipes/', name)],
    mounts: [{ kind: 'bind', target: '/dev/pipes/', from, selector: '/', readonly: true }],
  };
}

function summarize(content: string): string {
  const lines = trimSpace(content).replaceAll('\r\n', '\n').split('\n');
  return lines.length > 1 ? `${lines[0]}...` : (lines[0] ?? '');
}

/** `|2 A=1 B=2 /bin/sh -c make`: build arguments are part of what was run. */
function historyText(stage: StageState, args: readonly string[], env: { get(name: string): string | undefined }): string {
  const values = new Map<string, string>();
  for (const { name, value } of stage.buildArgs) values.set(name, env.get(name) ?? value ?? '');
  const prefix = values.size === 0 ? [] : [`|${values.size}`, ...Array.from(values, ([name, value]) => `${name}=${value}`)];
  return [...prefix, ...args].join(' ');
}

interface Mounts {
  readonly mounts: RunMount[];
  readonly secrets: RunSecret[];
  readonly ssh: RunSsh[];
}

function convertMounts(step: RunStep, flags: readonly MountFlag[]): Mounts {
  const converted: Mounts = { mounts: [], secrets: [], ssh: [] };
  for (const [i, flag] of flags.entries()) {
    const source = mountSource(step, flag, i);
    if (flag.type === 'secret') converted.secrets.push(secretOf(step, flag));
    else if (flag.type === 'ssh') converted.ssh.push(sshOf(step, flag, converted.ssh.length));
    else converted.mounts.push(fileMount(step, flag, source));
    if (flag.type === 'secret' || flag.type === 'ssh') continue;
    const path = joinPath('/', flag.source);
    if (flag.from === '' && flag.type !== 'cache') step.stage.contextPaths.add(path);
    else step.command.sources[i]?.paths.add(path);
  }
  return converted;
}

/** The files a mount shows: of a stage or image, of the build context, or none. */
function mountSource({ conversion, command }: RunStep, flag: MountFlag, i: number): State {
  const from = flag.from === '' && flag.type === 'cache' ? 'scratch' : flag.from;
  if (from === '') return conversion.buildContext;
  const source = command.sources[i];
  if (source === undefined || !source.dispatched) {
    throw invalid(
      `cannot mount from stage ${goQuote(from)} to ${goQuote(flag.target)}, stage needs to be defined before current command`,
    );
  }
  return source.state;
}

function fileMount(step: RunStep, flag: MountFlag, source: State): RunMount {
  const { stage, conversion } = step;
  const target = isAbsolute(cleanPath(flag.target)) ? flag.target : joinPath('/', stage.state.dir, flag.target);
  if (target === '/') throw invalid(`invalid mount target ${goQuote(target)}`);
  const path = joinPath('/', flag.source);
  const common = { target, readonly: flag.readonly, ...(path === '/' ? {} : { selector: path }) };
  if (flag.type === 'tmpfs') return { ...common, kind: 'tmpfs', sizeBytes: flag.sizeBytes };
  if (flag.type !== 'cache') return { ...common, kind: 'bind', from: source, noOutput: !flag.readonly };
  const id = `${conversion.options.cacheMountNamespace}/${flag.id || cleanPath(flag.target)}`;
  const cache = { ...common, kind: 'cache', from: source, id, sharing: flag.sharing ?? 'shared' } as const;
  const owned = flag.uid !== undefined || flag.gid !== undefined || flag.mode !== undefined;
  return path === '/' && owned ? { ...cache, from: ownedDirectory(source, flag), selector: '/cache' } : cache;
}

/** A new cache begins as this directory. */
function ownedDirectory(source: State, { uid = 0, gid = 0, mode = 0o755 }: MountFlag): State {
  const mkdir = { kind: 'mkdir', path: '/cache', mode, owner: { user: `${uid}`, group: `${gid}` } } as const;
  return fileStep(source, [mkdir], { name: '[internal] setting cache mount permissions' });
}

function secretOf({ stage, instruction }: RunStep, flag: MountFlag): RunSecret {
  const id = flag.source || flag.id || baseName(flag.target);
  note(stage.outline.secrets, id, flag, instruction);
  const fallback = flag.env === undefined ? `/run/secrets/${baseName(id)}` : undefined;
  const target = flag.target === '' ? fallback : flag.target;
  return { id, target, env: flag.env, optional: !flag.required, ...idsOf(flag, 0o400) };
}

function sshOf({ stage, instruction }: RunStep, flag: MountFlag, index: number): RunSsh {
  if (flag.source !== '') throw invalid('ssh does not support source');
  note(stage.outline.ssh, flag.id || 'default', flag, instruction);
  const target = flag.target === '' ? `/run/buildkit/ssh_agent.${index}` : flag.target;
  return { id: flag.id, target, optional: !flag.required, ...idsOf(flag, 0o600) };
}

const idsOf = (flag: MountFlag, mode: number): FileIds => ({ uid: flag.uid ?? 0, gid: flag.gid ?? 0, mode: flag.mode ?? mode });

function note(
  uses: StageState['outline']['secrets'],
  id: string,
  { required }: MountFlag,
  { ranges }: InstructionOf<'run'>,
): void {
  if (!uses.has(id)) uses.set(id, { required, ranges });
}
