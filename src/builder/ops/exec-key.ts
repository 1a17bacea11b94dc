/** The cache map of an exec op: which of its words count, and how each input does (buildkit-wire.md sections 7.2 and 7.3). */

import { posix } from 'node:path';
import { clone } from '@bufbuild/protobuf';
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import {
  CacheSharingOpt,
  type ExecOp,
  ExecOpSchema,
  type Mount,
  MountContentCache,
  MountType,
  type Platform,
} from '../proto/gen/pb/ops_pb.ts';
import type { CacheMap, CacheMapInput } from '../solver/ports.ts';
import { goJson, goString } from './go-json.ts';
import { byContentOf, type KeyDeps, pathSelector } from './results.ts';

/** @throws BuildError `invalid-input` when a mount demands a content key that would not be safe. */
export function execCacheMap(exec: ExecOp, platform: Platform, inputCount: number, deps: KeyDeps): CacheMap {
  return { digest: cacheDigestOf(keyText(exec, platform)), inputs: inputsOf(exec.mounts, inputCount, deps) };
}

/** The op without what must not count: proxies, addresses of extra hosts, selectors (they key the inputs), names of caches. */
function keyText(exec: ExecOp, platform: Platform): string {
  const op = clone(ExecOpSchema, exec);
  if (op.meta !== undefined) {
    op.meta.proxyEnv = undefined;
    for (const host of op.meta.extraHosts) host.IP = '';
  }
  for (const mount of op.mounts) {
    mount.selector = '';
    if (mount.cacheOpt !== undefined && !isDefaultCache(mount)) {
      mount.cacheOpt.ID = '';
      mount.cacheOpt.sharing = CacheSharingOpt.SHARED;
    }
  }
  if (isPlainRoot(op.mounts)) op.mounts = [];
  const fields = [
    '"Type":"buildkit.exec.v0"',
    `"Exec":${goJson(ExecOpSchema, op)}`,
    `"OS":${goString(platform.OS)}`,
    `"Arch":${goString(platform.Architecture)}`,
    ...(platform.Variant === '' ? [] : [`"Variant":${goString(platform.Variant)}`]),
    ...(platform.OSVersion === '' ? [] : [`"OSVersion":${goString(platform.OSVersion)}`]),
    ...(platform.OSFeatures.length === 0 ? [] : [`"OSFeatures":[${platform.OSFeatures.map(goString).join(',')}]`]),
  ];
  return `{${fields.join(',')}}`;
}

/** The shape the Dockerfile frontend gives a cache mount without an id, with or without a namespace before it. */
function isDefaultCache({ cacheOpt, dest }: Mount): boolean {
  if (cacheOpt === undefined || cacheOpt.sharing !== CacheSharingOpt.SHARED) return false;
  const slash = cacheOpt.ID.indexOf('/');
  return cacheOpt.ID === dest || (slash !== -1 && cacheOpt.ID.slice(slash + 1) === dest);
}

/** A plain RUN: one writable root. Its mount is left out of the key, as builders before mounts did. */
function isPlainRoot(mounts: readonly Mount[]): boolean {
  const [root] = mounts;
  return (
    mounts.length === 1 &&
    root !== undefined &&
    root.dest === '/' &&
    !root.readonly &&
    root.mountType === MountType.BIND &&
    root.cacheOpt === undefined &&
    root.SSHOpt === undefined &&
    root.secretOpt === undefined &&
    root.resultID === ''
  );
}

function inputsOf(mounts: readonly Mount[], inputCount: number, deps: KeyDeps): CacheMapInput[] {
  const inputs = Array.from({ length: inputCount }, () => ({ selectors: [] as string[], byContent: false }));
  for (const mount of mounts) {
    if (mount.mountType !== MountType.BIND && mount.mountType !== MountType.CACHE) continue;
    const input = inputs[Number(mount.input)];
    if (input === undefined) continue;
    const selector = posix.join('/', mount.selector);
    input.selectors.push(selector);
    input.byContent = countsByContent(mount, selector); // the last mount of an input decides
  }
  return inputs.map(({ selectors, byContent }) => ({
    ...(selectors.length === 0 ? {} : { selector: cacheDigestOf(selectors.join('\0')) }),
    ...(byContent ? byContentOf(selectorsOf(selectors), deps) : {}),
  }));
}

/**
 * Only where what is not selected cannot reach a result: the mount gives none, cannot be written, or selects everything. Otherwise two
 * inputs that differ outside the selected path would share a result that holds the whole input.
 */
function countsByContent(mount: Mount, selector: string): boolean {
  const safe = mount.output === -1n || mount.readonly || selector === '/';
  switch (mount.contentCache) {
    case MountContentCache.OFF:
      return false;
    case MountContentCache.ON:
      if (!safe)
        throw new BuildError('invalid-input', `invalid mount cache content: ${mount.dest} is writable and has an output`);
      return true;
    default:
      return safe && mount.dest !== '/';
  }
}

/** Each path once, none below another; a whole input is one selector of everything. */
function selectorsOf(paths: readonly string[]): ReturnType<typeof pathSelector>[] {
  const unique = outermostPaths(paths);
  return unique.includes('/') ? [pathSelector('/', false)] : unique.map((path) => pathSelector(path));
}

/** Sorted, without paths that lie below another of them. */
export function outermostPaths(paths: readonly string[]): string[] {
  const unique = [...new Set(paths)];
  if (unique.length <= 1) return unique;
  const outer = unique.filter(
    (path) => !unique.some((other) => other !== path && path.startsWith(other.endsWith('/') ? other : `${other}/`)),
  );
  return outer.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
