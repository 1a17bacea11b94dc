/** The configuration as the daemon uses it: every value typed, every default filled in. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CacheEntry, DEFAULT_LIMITS } from '../../builder/cache/remote/remote-caches.ts';
import type { SecretLeaks } from '../../builder/ops/deps.ts';
import type { RegistryHostConfig } from '../../builder/registry/endpoints.ts';
import type { RuntimeChoice } from '../../builder/worker/runtime.ts';
import { BuildError } from '../../core/errors.ts';
import type { AuditLimits } from '../../telemetry/audit/audit-files.ts';
import { type ParsedAddress, parseAddress, parseHostPort } from '../addresses.ts';
import type { Values } from '../config/load.ts';
import type { DiskSpace } from '../config/units.ts';
import type { Defaults } from '../defaults.ts';
import type { CanaryConfig } from './canary.ts';
import { defaultCache } from './default-cache.ts';
import { bytesOf, type GcConfig, gcConfig } from './gc-config.ts';
import type { OwnAlertsConfig } from './own-alerts.ts';
import type { SubmitLimits } from './submit/submit-limits.ts';
import type { WarmConfig } from './warm-schedule.ts';

export interface DaemonConfig {
  readonly root: string;
  readonly addresses: readonly ParsedAddress[];
  readonly socket: { readonly uid?: number; readonly gid?: number };
  readonly tls: { readonly cert: Buffer; readonly key: Buffer; readonly clientCa: Buffer } | undefined;
  /** Undefined: no ops server. */
  readonly ops:
    | {
        readonly host: string;
        readonly port: number;
        readonly allowedHosts: readonly string[];
        readonly tokenFile: string | undefined;
      }
    | undefined;
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error'; readonly format: 'json' | 'text' };
  readonly entitlements: ReadonlySet<string>;
  readonly labels: Readonly<Record<string, string>>;
  readonly snapshotter: 'auto' | 'overlayfs' | 'native';
  readonly runtime: RuntimeChoice;
  readonly cgroupParent: string;
  /** 0: one per core. */
  readonly maxParallelism: number;
  readonly gc: GcConfig;
  readonly warm: WarmConfig;
  readonly history: { readonly maxAgeNs: bigint; readonly maxEntries: number };
  readonly registries: Readonly<Record<string, RegistryHostConfig>>;
  readonly registryConcurrency: number;
  readonly caches: RemoteCacheConfig;
  /** Builds over HTTP. */
  readonly submit: SubmitLimits;
  readonly admission: { readonly maxBuilds: number; readonly maxQueued: number };
  readonly otlpEndpoint: string | undefined;
  readonly alerts: OwnAlertsConfig;
  readonly drainTimeoutMs: number;
  /** Builds in a hundred whose image is made again and compared. */
  readonly reproducePercent: number;
  /** Undefined: no canary builds. */
  readonly canary: CanaryConfig | undefined;
  /** Undefined: no audit log. */
  readonly audit: { readonly dir: string; readonly limits: AuditLimits } | undefined;
  /** False: nothing of builds is counted, traced or audited. */
  readonly telemetry: boolean;
  readonly secretLeaks: SecretLeaks;
  /** Objectives beside or in place of the shipped ones. */
  readonly sloFile: string | undefined;
  readonly maxLogBytes: number;
}

export interface RemoteCacheConfig {
  /** Caches of builds that name none. */
  readonly entries: readonly CacheEntry[];
  readonly lookupMs: number;
  readonly patienceMs: number;
  readonly retryExportMs: number;
  readonly answerMs: number;
  readonly transferMs: number;
}

/** Size of the disk that holds the state folder, for shares of it. */
export type DiskSizeOf = (root: string) => number;

/** @throws BuildError `invalid-input` for values that do not go together. */
export function daemonConfig(values: Values, defaults: Defaults, diskSizeOf: DiskSizeOf): DaemonConfig {
  const text = (key: string): string | undefined => values.get(key) as string | undefined;
  const number = (key: string, otherwise: number): number => (values.get(key) as number | undefined) ?? otherwise;
  const list = (key: string): readonly string[] | undefined => values.get(key) as readonly string[] | undefined;
  const root = text('root') ?? defaults.root;
  if (!root.startsWith('/')) throw new BuildError('invalid-input', `root must be an absolute path, not "${root}"`);
  const addresses = (list('grpc.address') ?? [defaults.address]).map(parseAddress);
  const tls = tlsOf(text);
  if (tls === undefined && addresses.some(({ type }) => type === 'tcp')) {
    throw new BuildError('invalid-input', 'a tcp:// address needs grpc.tls.cert, grpc.tls.key and grpc.tls.ca', {
      hint: 'whoever can connect can run code as the daemon; without TLS use a unix socket',
    });
  }
  const ops = text('cooper.ops.address') ?? defaults.opsAddress;
  const uid = values.get('grpc.uid') as number | undefined;
  const gid = values.get('grpc.gid') as number | undefined;
  return {
    root,
    addresses,
    socket: { ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) },
    tls,
    ops:
      ops === ''
        ? undefined
        : {
            ...parseHostPort(ops),
            allowedHosts: list('cooper.ops.allowed-hosts') ?? [],
            tokenFile: text('cooper.ops.token-file') || undefined,
          },
    log: { level: logLevel(values), format: (text('log.format') ?? 'json') as 'json' | 'text' },
    entitlements: new Set(list('insecure-entitlements') ?? []),
    labels: (values.get('worker.oci.labels') as Record<string, string> | undefined) ?? {},
    snapshotter: (text('worker.oci.snapshotter') ?? 'auto') as DaemonConfig['snapshotter'],
    runtime: runtimeOf(text('worker.oci.binary')),
    cgroupParent: text('worker.oci.defaultCgroupParent') ?? '',
    maxParallelism: number('worker.oci.max-parallelism', 0),
    gc: gcConfig(values, diskSizeOf(root)),
    warm: {
      file: text('cooper.warm.file'),
      periodMs: Math.max(60_000, Number((values.get('cooper.warm.period') as bigint | undefined) ?? 86_400_000_000_000n) / 1e6),
    },
    history: {
      maxAgeNs: (values.get('history.maxAge') as bigint | undefined) ?? 48n * 3_600_000_000_000n,
      maxEntries: number('history.maxEntries', 50),
    },
    registries: registryHosts(values),
    registryConcurrency: number('system.maxRegistryConcurrency', 4),
    caches: cachesOf(values),
    admission: { maxBuilds: number('cooper.admission.max-builds', 256), maxQueued: number('cooper.admission.max-queued', 1024) },
    submit: {
      maxBuilds: number('cooper.submit.max-builds', 64),
      perMinute: number('cooper.submit.max-per-minute', 600),
      maxContextBytes:
        bytesOf(values.get('cooper.submit.max-context') as DiskSpace | undefined, diskSizeOf(root)) ?? 2_000_000_000,
    },
    otlpEndpoint: text('cooper.otlp.endpoint'),
    alerts: alertsOf(values),
    maxLogBytes: bytesOf(values.get('cooper.log.max-build-bytes') as DiskSpace | undefined, diskSizeOf(root)) ?? 64 * 1024 * 1024,
    audit: auditOf(values, root, diskSizeOf),
    sloFile: text('cooper.slo.file') || undefined,
    secretLeaks: (text('cooper.secrets.leaks') ?? 'warn') as SecretLeaks,
    telemetry: (values.get('cooper.telemetry.enabled') as boolean | undefined) ?? true,
    reproducePercent: number('cooper.reproducibility.sample-percent', 0),
    canary: canaryOf(values),
    drainTimeoutMs: Number((values.get('cooper.drain-timeout') as bigint | undefined) ?? 30_000_000_000n) / 1e6,
  };
}

/** `[[cache.blob]]` keeps blobs and configurations in a folder, `[[cache.registry]]` in Redis. */
function cachesOf(values: Values): RemoteCacheConfig {
  const blobs = values.entries('cache.blob').map(({ values: own }) => {
    const type = own.get('type') ?? 'filesystem';
    const path = own.get('path');
    if (type !== 'filesystem')
      throw new BuildError('invalid-input', `cache.blob: type "${type}" is not known; expected filesystem`);
    if (typeof path !== 'string' || !path.startsWith('/'))
      throw new BuildError('invalid-input', `cache.blob: path must be an absolute path, not "${path ?? ''}"`);
    return defaultCache('filesystem', { path });
  });
  const registries = values.entries('cache.registry').map(({ values: own }) => {
    const [type, address, ref] = ['type', 'redis-addr', 'ref'].map((name) => own.get(name));
    if (type === 'redis' && typeof address === 'string') return defaultCache('redis', { addr: address });
    if (type === 'registry' && typeof ref === 'string') return defaultCache('registry', { ref });
    throw new BuildError(
      'invalid-input',
      'cache.registry: expected type = "redis" with redis-addr, or type = "registry" with ref',
    );
  });
  const ms = (key: string, otherwise: number): number => {
    const ns = values.get(key) as bigint | undefined;
    return ns === undefined ? otherwise : Number(ns / 1_000_000n);
  };
  return {
    entries: [...blobs, ...registries],
    lookupMs: ms('cooper.cache.lookup-budget', DEFAULT_LIMITS.lookupMs),
    patienceMs: ms('cooper.cache.patience', DEFAULT_LIMITS.patienceMs),
    retryExportMs: ms('cooper.cache.export-retry', DEFAULT_LIMITS.retryExportMs),
    answerMs: ms('cooper.cache.answer-timeout', DEFAULT_LIMITS.policy.answerMs),
    transferMs: ms('cooper.cache.transfer-timeout', DEFAULT_LIMITS.policy.silenceMs),
  };
}

function auditOf(values: Values, root: string, diskSizeOf: DiskSizeOf): DaemonConfig['audit'] {
  if (values.get('cooper.audit.enabled') === false) return undefined;
  const dir = (values.get('cooper.audit.dir') as string | undefined) ?? join(root, 'audit');
  if (!dir.startsWith('/')) throw new BuildError('invalid-input', `cooper.audit.dir must be an absolute path, not "${dir}"`);
  const bytes = (key: string, otherwise: number): number =>
    bytesOf(values.get(key) as DiskSpace | undefined, diskSizeOf(dir)) ?? otherwise;
  const maxFileBytes = bytes('cooper.audit.max-file-size', 16 * 1024 * 1024);
  const maxTotalBytes = bytes('cooper.audit.max-size', 256 * 1024 * 1024);
  if (maxTotalBytes < maxFileBytes)
    throw new BuildError('invalid-input', 'cooper.audit.max-size must be at least cooper.audit.max-file-size');
  const maxAgeNs = (values.get('cooper.audit.max-age') as bigint | undefined) ?? 2_160n * 3_600_000_000_000n;
  return { dir, limits: { maxFileBytes, maxTotalBytes, maxAgeMs: Number(maxAgeNs / 1_000_000n) } };
}

function alertsOf(values: Values): OwnAlertsConfig {
  const receivers = (['alertmanager', 'webhook'] as const).flatMap((kind) =>
    ((values.get(`cooper.alerts.${kind}`) as readonly string[] | undefined) ?? []).map((url) => ({
      kind,
      url: httpAddress(`cooper.alerts.${kind}`, url),
    })),
  );
  const pageUrl = values.get('cooper.alerts.page-url') as string | undefined;
  return {
    receivers,
    instance: values.get('cooper.alerts.instance') as string | undefined,
    pageUrl: pageUrl === undefined ? undefined : httpAddress('cooper.alerts.page-url', pageUrl).replace(/\/+$/, ''),
  };
}

function httpAddress(key: string, text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new BuildError('invalid-input', `${key}: "${text}" is not an address; expected http://host:port or https://host`);
  return text;
}

function canaryOf(values: Values): CanaryConfig | undefined {
  if (values.get('cooper.canary.enabled') === false) return undefined;
  const ms = (key: string, otherwise: number): number => {
    const ns = values.get(key) as bigint | undefined;
    if (ns !== undefined && ns < 100_000_000n) throw new BuildError('invalid-input', `${key} must be at least 100ms`);
    return ns === undefined ? otherwise : Math.min(Number(ns / 1_000_000n), 2 ** 31 - 1);
  };
  return {
    intervalMs: ms('cooper.canary.interval', 300_000),
    timeoutMs: ms('cooper.canary.timeout', 60_000),
    readiness: values.get('cooper.canary.readiness') === true,
  };
}

function logLevel(values: Values): DaemonConfig['log']['level'] {
  const level = (values.get('log.level') as string | undefined) ?? (values.get('debug') === true ? 'debug' : 'info');
  return (level === 'fatal' ? 'error' : level) as DaemonConfig['log']['level'];
}

function runtimeOf(binary: string | undefined): DaemonConfig['runtime'] {
  if (binary === undefined || binary === '') return 'auto';
  if (binary === 'runc' || binary === 'crun') return binary;
  if (binary.startsWith('/')) return binary as `/${string}`;
  throw new BuildError(
    'invalid-input',
    `worker.oci.binary: "${binary}" is not a runtime this daemon drives; expected runc, crun or the path of one`,
  );
}

/** All three files or none: TLS without client certificates would let anybody run code. */
function tlsOf(text: (key: string) => string | undefined): DaemonConfig['tls'] {
  const [cert, key, ca] = [text('grpc.tls.cert'), text('grpc.tls.key'), text('grpc.tls.ca')];
  if (cert === undefined && key === undefined && ca === undefined) return undefined;
  if (cert === undefined || key === undefined || ca === undefined) {
    throw new BuildError(
      'invalid-input',
      'grpc.tls needs all of cert, key and ca: the daemon takes only clients that show a certificate',
    );
  }
  return { cert: readPem('grpc.tls.cert', cert), key: readPem('grpc.tls.key', key), clientCa: readPem('grpc.tls.ca', ca) };
}

function readPem(key: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new BuildError('invalid-input', `${key}: cannot read ${path}: ${(cause as Error).message}`, {}, { cause });
  }
}

function registryHosts(values: Values): Record<string, RegistryHostConfig> {
  const hosts = values.entries('registry').map(({ name, values: own, lists }): [string, RegistryHostConfig] => {
    const keypairs = (lists.get('keypair') ?? []).map((pair) => ({
      key: String(pair.get('key') ?? ''),
      cert: String(pair.get('cert') ?? ''),
    }));
    return [
      name,
      {
        ...(own.has('mirrors') ? { mirrors: own.get('mirrors') as readonly string[] } : {}),
        ...(own.has('http') ? { http: own.get('http') as boolean } : {}),
        ...(own.has('insecure') ? { insecure: own.get('insecure') as boolean } : {}),
        ...(own.has('ca') ? { ca: own.get('ca') as readonly string[] } : {}),
        ...(keypairs.length > 0 ? { keypairs } : {}),
      },
    ];
  });
  return Object.fromEntries(hosts);
}
