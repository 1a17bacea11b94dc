/** The options of a Dockerfile build, as clients send them with the request (buildkit-wire.md section 5.3). Unknown ones are ignored. */
import { BlockList, isIP } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { BuildError } from '../../../core/errors.ts';
import { normalizePlatform, type Platform, parsePlatform } from '../../llb/platform.ts';
import { type LinuxResourcesSchema, NetMode } from '../../proto/gen/pb/ops_pb.ts';
import { invalid } from './errors.ts';
import { csvFields, goQuote, parseBool } from './go-text.ts';
import { type LintConfig, parseLintConfig } from './lint.ts';

export interface DockerfileOptions {
  readonly buildArgs: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** '' is the last stage. */
  readonly target: string;
  /** Empty when the request names none: the worker's own is meant. */
  readonly targetPlatforms: readonly Platform[];
  readonly multiPlatform: boolean;
  readonly resolveMode: string;
  readonly extraHosts: readonly { readonly host: string; readonly ip: string }[];
  readonly shmSizeBytes: bigint;
  readonly ulimits: readonly { readonly name: string; readonly soft: bigint; readonly hard: bigint }[];
  readonly linuxResources: LinuxResources | undefined;
  readonly networkMode: NetMode;
  /** Stages that ignore the cache; undefined for none, empty for all. */
  readonly noCache: readonly string[] | undefined;
  readonly hostname: string;
  readonly cgroupParent: string;
  readonly cacheMountNamespace: string;
  readonly lint: LintConfig | undefined;
  /** Session that offers a local directory, when it is not the build's own. */
  readonly localSessions: ReadonlyMap<string, string>;
}
export type LinuxResources = Exclude<MessageInitShape<typeof LinuxResourcesSchema>, { readonly $typeName: string }>;

/** @throws BuildError `invalid-input` naming the option. */
export function parseOptions(options: ReadonlyMap<string, string>, worker: Platform): DockerfileOptions {
  const get = (key: string): string => options.get(key) ?? '';
  const targetPlatforms = parsePlatforms(get('platform'), worker);
  const noCache = options.get('no-cache');
  const lint = options.get('build-arg:BUILDKIT_DOCKERFILE_CHECK');
  return {
    buildArgs: withPrefix(options, 'build-arg:'),
    labels: withPrefix(options, 'label:'),
    target: get('target'),
    targetPlatforms,
    multiPlatform: parseMultiPlatform(options, targetPlatforms.length),
    resolveMode: parseResolveMode(get('image-resolve-mode')),
    extraHosts: within('failed to parse additional hosts', () => parseExtraHosts(get('add-hosts'))),
    shmSizeBytes: within('failed to parse shm size', () => parseInteger(get('shm-size'))),
    ulimits: within('failed to parse ulimit', () => csv(get('ulimit')).map(parseUlimit)),
    linuxResources: within('failed to parse resource limits', () => parseLinuxResources(options)),
    networkMode: parseNetworkMode(get('force-network-mode')),
    noCache: noCache === undefined ? undefined : noCache === '' ? [] : noCache.split(','),
    hostname: get('build-arg:BUILDKIT_SANDBOX_HOSTNAME') || get('hostname'),
    cgroupParent: get('cgroup-parent'),
    cacheMountNamespace: get('build-arg:BUILDKIT_CACHE_MOUNT_NS'),
    lint:
      lint === undefined ? undefined : within('failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK', () => parseLintConfig(lint)),
    localSessions: withPrefix(options, 'local-sessionid:'),
  };
}

/** True when a stage of that name must not be answered from cache. */
export function ignoresCache({ noCache }: DockerfileOptions, stage: string): boolean {
  if (noCache === undefined) return false;
  return noCache.length === 0 || noCache.some((name) => name.toLowerCase() === stage.toLowerCase());
}

function within<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (thrown) {
    throw BuildError.from(thrown).wrap(what);
  }
}

const csv = (text: string): string[] => (text === '' ? [] : csvFields(text));

function withPrefix(options: ReadonlyMap<string, string>, prefix: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of options) if (key.startsWith(prefix)) found.set(key.slice(prefix.length), value);
  return found;
}

function parsePlatforms(text: string, worker: Platform): Platform[] {
  if (text === '') return [];
  return text
    .split(',')
    .map((part) =>
      within(`failed to parse target platform ${part}`, () => normalizePlatform(parsePlatform(part, worker), worker)),
    );
}

function parseMultiPlatform(options: ReadonlyMap<string, string>, platforms: number): boolean {
  const text = options.get('build-arg:BUILDKIT_MULTI_PLATFORM') || options.get('multi-platform') || '';
  const several = platforms > 1;
  if (text === '') return several;
  const wanted = parseBool(text);
  if (wanted === undefined) throw invalid(`invalid boolean value for multi-platform: ${text}`);
  if (!wanted && several) throw invalid('conflicting config: returning multiple target platforms is not allowed');
  return wanted;
}

function parseResolveMode(text: string): string {
  if (!['', 'default', 'pull', 'local'].includes(text)) throw invalid(`invalid image-resolve-mode: ${text}`);
  return text || 'default';
}

function parseExtraHosts(text: string): { host: string; ip: string }[] {
  return csv(text).map((field) => {
    const lower = field.toLowerCase();
    const equals = lower.indexOf('=');
    if (equals === -1) throw invalid(`invalid key-value pair ${field}`);
    return { host: lower.slice(0, equals), ip: canonicalIp(lower.slice(equals + 1)) };
  });
}

/** The spelling Go gives an address; it is part of the op. */
function canonicalIp(text: string): string {
  const family = isIP(text);
  if (family === 0 || text.includes('%')) throw invalid(`failed to parse IP ${text}`);
  if (family === 4) return text;
  const list = new BlockList();
  list.addAddress(text, 'ipv6');
  const spelt = /(?:IPv6|IPv4) (\S+)/.exec(list.rules[0] ?? '')?.[1] ?? text;
  return spelt.startsWith('::ffff:') && spelt.includes('.') ? spelt.slice('::ffff:'.length) : spelt;
}

function parseInteger(text: string): bigint {
  if (text === '') return 0n;
  if (!/^[+-]?\d+$/.test(text)) throw invalid(`strconv.ParseInt: parsing ${goQuote(text)}: invalid syntax`);
  const value = BigInt(text.replace(/^\+/, ''));
  if (BigInt.asIntN(64, value) !== value) throw invalid(`strconv.ParseInt: parsing ${goQuote(text)}: value out of range`);
  return value;
}

const ULIMITS = new Set(
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
);

/** `name=soft[:hard]`; -1 is no limit. */
function parseUlimit(field: string): { name: string; soft: bigint; hard: bigint } {
  const equals = field.indexOf('=');
  if (equals === -1) throw invalid(`invalid ulimit argument: ${field}`);
  const name = field.slice(0, equals);
  if (!ULIMITS.has(name)) throw invalid(`invalid ulimit type: ${name}`);
  const [softText = '', hardText, ...more] = field.slice(equals + 1).split(':');
  if (more.length > 0) throw invalid(`too many limit value arguments - ${field}, can only have up to two, \`soft[:hard]\``);
  const soft = parseInteger(softText || '?');
  const hard = hardText === undefined || hardText === '' ? soft : parseInteger(hardText);
  if (hard !== -1n && (soft === -1n || soft > hard)) {
    throw invalid(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`);
  }
  return { name, soft, hard };
}

const CPU_SET = /^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/;

function parseLinuxResources(options: ReadonlyMap<string, string>): LinuxResources | undefined {
  const number = (key: string, allow: (value: bigint) => boolean, rule: string): bigint => {
    const text = options.get(key) ?? '';
    if (text === '') return 0n;
    const value = within(`invalid ${key} value: ${text}`, () => parseInteger(text));
    if (!allow(value)) throw invalid(`invalid ${key} value: ${text}: must be ${rule}`);
    return value;
  };
  const set = (key: string): string => {
    const text = options.get(key) ?? '';
    if (text !== '' && !CPU_SET.test(text)) throw invalid(`invalid ${key} value: ${text}`);
    return text;
  };
  const positive = (value: bigint): boolean => value > 0n;
  const resources = {
    memory: number('memory', positive, '> 0'),
    memorySwap: number('memswap', (value) => value === -1n || value > 0n, '-1 (unlimited) or > 0'),
    cpuShares: number('cpushares', positive, '> 0'),
    cpuPeriod: number('cpuperiod', positive, '> 0'),
    cpuQuota: number('cpuquota', positive, '> 0'),
    cpusetCpus: set('cpusetcpus'),
    cpusetMems: set('cpusetmems'),
  };
  return Object.values(resources).every((value) => value === 0n || value === '') ? undefined : resources;
}

function parseNetworkMode(text: string): NetMode {
  switch (text) {
    case '':
    case 'sandbox':
      return NetMode.UNSET;
    case 'host':
      return NetMode.HOST;
    case 'none':
      return NetMode.NONE;
    default:
      throw invalid(`invalid netmode ${text}`);
  }
}
