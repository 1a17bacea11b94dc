/**
 * A vertex in pieces that can be compared and shown to people. Values of variables whose names look secret become keyed digests: equal
 * values stay equal, and the key never leaves the daemon, so nobody can try values against them.
 */
import { createHmac, hash } from 'node:crypto';
import type { Vertex } from '../llb/definition.ts';
import {
  CacheSharingOpt,
  type ChownOpt,
  type ExecOp,
  type FileAction,
  type Mount,
  MountType,
  NetMode,
  type Platform,
  SecurityMode,
  type SourceOp,
} from '../proto/gen/pb/ops_pb.ts';
import type { Parts } from './record.ts';

const SECRET_NAME = /pass(word|wd|phrase)?|secret|token|api_?key|access_?key|private|credential|auth|cookie|signature/i;
const MAX_VALUE = 2_000;

/** Makes a value fit to be kept: hidden where its name looks secret, without credentials in addresses, bounded. */
export type Keep = (name: string, value: string) => string;

/** `key` stays in the daemon and lives as long as its accounts. */
export function keeper(key: Uint8Array): Keep {
  return (name, value) => {
    if (SECRET_NAME.test(name)) return `hidden:${createHmac('sha256', key).update(value).digest('hex').slice(0, 12)}`;
    const plain = value.replace(/:\/\/[^/@\s]+@/g, '://***@');
    return plain.length <= MAX_VALUE ? plain : `${plain.slice(0, MAX_VALUE)}… ${hash('sha256', value, 'hex').slice(0, 12)}`;
  };
}

export function partsOf(vertex: Vertex, keep: Keep): Parts {
  const parts: Record<string, string> = {};
  const { op } = vertex.op;
  if (op.case === 'exec') addExec(parts, op.value, keep);
  else if (op.case === 'file')
    for (const [at, action] of op.value.actions.entries()) parts[`action:${at}`] = actionOf(action, keep);
  else if (op.case === 'source') addSource(parts, op.value, keep);
  else parts['option:op'] = op.case ?? '';
  if (vertex.platform !== undefined && (op.case === 'exec' || op.case === 'source')) parts.platform = platformOf(vertex.platform);
  return parts;
}

const platformOf = ({ OS, Architecture, Variant }: Platform): string =>
  [OS, Architecture, Variant].filter((part) => part !== '').join('/');

function addExec(parts: Record<string, string>, exec: ExecOp, keep: Keep): void {
  const { meta } = exec;
  parts.command = keep('', commandOf(meta?.args ?? []));
  for (const entry of meta?.env ?? []) {
    const at = entry.indexOf('=');
    const name = at === -1 ? entry : entry.slice(0, at);
    parts[`env:${name}`] = keep(name, at === -1 ? '' : entry.slice(at + 1));
  }
  parts.workdir = meta?.cwd ?? '';
  parts.user = meta?.user ?? '';
  for (const mount of exec.mounts) if (mount.dest !== '/' || mount.readonly) parts[`mount:${mount.dest}`] = mountOf(mount);
  for (const { ID, name, optional } of exec.secretenv) parts[`mount:$${name}`] = `secret ${ID}${optional ? ' optional' : ''}`;
  if (exec.network !== NetMode.UNSET) parts['option:network'] = exec.network === NetMode.HOST ? 'host' : 'none';
  if (exec.security !== SecurityMode.SANDBOX) parts['option:security'] = 'insecure';
  if (meta === undefined) return;
  if (meta.hostname !== '') parts['option:hostname'] = meta.hostname;
  if (meta.cgroupParent !== '') parts['option:cgroup parent'] = meta.cgroupParent;
  for (const { Host } of meta.extraHosts) parts[`option:host ${Host}`] = 'added';
  for (const { Name, Soft, Hard } of meta.ulimit) parts[`option:ulimit ${Name}`] = `${Soft}:${Hard}`;
  if (meta.validExitCodes.length > 0) parts['option:valid exit codes'] = meta.validExitCodes.join(',');
}

/** A shell's command without the shell, as people wrote it. */
const commandOf = (args: readonly string[]): string =>
  args.length === 3 && args[0] === '/bin/sh' && args[1] === '-c' ? (args[2] ?? '') : JSON.stringify(args);

const MOUNT_TYPES: Readonly<Record<number, string>> = {
  [MountType.BIND]: 'bind',
  [MountType.SECRET]: 'secret',
  [MountType.SSH]: 'ssh',
  [MountType.CACHE]: 'cache',
  [MountType.TMPFS]: 'tmpfs',
};
const SHARING: Readonly<Record<number, string>> = {
  [CacheSharingOpt.SHARED]: 'shared',
  [CacheSharingOpt.PRIVATE]: 'private',
  [CacheSharingOpt.LOCKED]: 'locked',
};

function mountOf(mount: Mount): string {
  const words = [MOUNT_TYPES[mount.mountType] ?? 'mount'];
  if (mount.selector !== '' && mount.selector !== '/') words.push(`from ${mount.selector}`);
  if (mount.readonly) words.push('read-only');
  if (mount.cacheOpt !== undefined) words.push(`id=${mount.cacheOpt.ID}`, `sharing=${SHARING[mount.cacheOpt.sharing] ?? ''}`);
  for (const option of [mount.secretOpt, mount.SSHOpt])
    if (option !== undefined)
      words.push(`id=${option.ID}`, `mode=0${option.mode.toString(8)}`, `owner=${option.uid}:${option.gid}`);
  if (mount.TmpfsOpt !== undefined) words.push(`size=${mount.TmpfsOpt.size}`);
  return words.join(' ');
}

function actionOf({ action }: FileAction, keep: Keep): string {
  switch (action.case) {
    case 'copy': {
      const { src, dest, mode, modeStr, owner, includePatterns, excludePatterns } = action.value;
      const chmod = modeStr !== '' ? ` mode ${modeStr}` : mode === -1 ? '' : ` mode 0${mode.toString(8)}`;
      const patterns = [...includePatterns.map((p) => ` +${p}`), ...excludePatterns.map((p) => ` -${p}`)].join('');
      return keep('', `copy ${src} ${dest}${chmod}${ownerOf(owner)}${patterns}`);
    }
    case 'mkfile': {
      const { path, mode, data, owner } = action.value;
      return `file ${path} mode 0${mode.toString(8)}${ownerOf(owner)} sha256:${hash('sha256', data, 'hex')}`;
    }
    case 'mkdir':
      return `directory ${action.value.path} mode 0${action.value.mode.toString(8)}${ownerOf(action.value.owner)}`;
    case 'rm':
      return `remove ${action.value.path}`;
    case 'symlink':
      return `link ${action.value.newpath} to ${action.value.oldpath}${ownerOf(action.value.owner)}`;
    default:
      return '';
  }
}

function ownerOf(owner: ChownOpt | undefined): string {
  const names = [owner?.user, owner?.group].map((option) =>
    option?.user.case === 'byName' ? option.user.value.name : option?.user.case === 'byID' ? String(option.user.value) : '',
  );
  return names.every((name) => name === '') ? '' : ` owner ${names.join(':')}`;
}

/** Attributes of a local source name sessions and transfers; what it holds is compared by content. */
function addSource(parts: Record<string, string>, { identifier, attrs }: SourceOp, keep: Keep): void {
  const image = /^(?:docker-image|oci-layout):\/\/(.*?)(?:@(sha256:[0-9a-f]{64}))?$/.exec(identifier);
  if (image !== null) {
    parts.image = image[1] ?? '';
    if (image[2] !== undefined) parts['image-digest'] = image[2];
  } else parts.source = keep('', identifier);
  if (identifier.startsWith('local://') || identifier.startsWith('oci-layout://')) return;
  for (const [name, value] of Object.entries(attrs))
    if (/^(git|http|image)\./.test(name) && !/secret|auth/.test(name)) parts[`option:${name}`] = keep(name, value);
}
