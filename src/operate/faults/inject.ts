/** Makes one fault and knows how to take it away again. Healing is safe to repeat. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { type FaultOrder, type FaultSpec, orderOf } from './catalog.ts';

export interface InjectedFault {
  heal(): Promise<void>;
  /** Renews what is held elsewhere (the proxy's lease). Never rejects. */
  renew(ttlMs: number): Promise<void>;
}
const NOTHING = async (): Promise<void> => undefined;

/** Rejects, with nothing changed, when the fault cannot be made here. */
export async function inject(order: FaultOrder): Promise<InjectedFault> {
  const { spec, parameters } = orderOf(order.fault, order.parameters);
  if (spec.kind === 'wire' || spec.kind === 'http') return await injectOnWire(spec, parameters);
  const heal = LOCAL[spec.name]?.(parameters);
  if (heal === undefined) throw new BuildError('internal', `fault ${spec.name} has no implementation`);
  const undo = await heal;
  return { heal: async () => undo(), renew: NOTHING };
}

type Parameters = FaultOrder['parameters'];

/** One call to toxiproxy's API, ours or the real one. */
export async function callProxy(api: string, method: string, path: string, body?: unknown): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`${api}${path}`, {
      method,
      signal: AbortSignal.timeout(5_000),
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
  } catch (cause) {
    throw new BuildError('unavailable', `no proxy answers at ${api}: ${(cause as Error).message}`, {
      hint: 'cooper chaos proxy starts one; toxiproxy-server serves the same API',
    });
  }
  const text = await response.text();
  if (!response.ok) throw new BuildError('invalid-input', `${method} ${path}: ${response.status} ${text.trim()}`);
  return text === '' ? undefined : JSON.parse(text);
}

async function injectOnWire(spec: FaultSpec, parameters: Parameters): Promise<InjectedFault> {
  const { api, proxy, toxicity = 1, match = '', retry_after, ...attributes } = parameters;
  const at = `/proxies/${encodeURIComponent(String(proxy))}`;
  const call = (method: string, path: string, body?: unknown): Promise<unknown> => callProxy(String(api), method, path, body);
  const renew = (ttlMs: number): Promise<void> => call('POST', '/lease', { ttl_ms: ttlMs }).then(NOTHING, NOTHING);
  if (spec.name === 'down') {
    await call('POST', at, { enabled: false });
    return { renew, heal: async () => void (await call('POST', at, { enabled: true })) };
  }
  if (spec.kind === 'http') {
    const what = spec.name.slice('http-'.length);
    const fault = /^\d+$/.test(what) ? { kind: 'status', status: Number(what), retryAfterS: retry_after } : { kind: what };
    await call('POST', `${at}/http`, { ...fault, match });
    return { renew, heal: async () => void (await call('DELETE', `${at}/http`)) };
  }
  const name = `cooper-${spec.name}`;
  await call('POST', `${at}/toxics`, { name, type: spec.name, stream: 'downstream', toxicity, attributes });
  return { renew, heal: () => call('DELETE', `${at}/toxics/${name}`).then(NOTHING, ignoreGone) };
}

/** A toxic that a lease has taken away already is healed. */
function ignoreGone(error: unknown): void {
  if (!(error instanceof BuildError && error.message.includes(' 404 '))) throw error;
}

type Undo = () => void | Promise<void>;
const LOCAL: Readonly<Record<string, (parameters: Parameters) => Undo | Promise<Undo>>> = {
  kill: ({ pid }) => {
    process.kill(Number(pid), 'SIGKILL');
    return () => undefined;
  },
  freeze: ({ pid }) => {
    process.kill(Number(pid), 'SIGSTOP');
    return () => {
      try {
        process.kill(Number(pid), 'SIGCONT');
      } catch {
        // it has ended
      }
    };
  },
  'runtime-missing': ({ path }) => moveAside(String(path)),
  'runtime-hangs': ({ path }) => {
    const undo = moveAside(String(path));
    writeFileSync(String(path), '#!/bin/sh\nexec sleep 100000\n');
    chmodSync(String(path), 0o755);
    return undo;
  },
  'disk-full': ({ dir, leave }) => fillDisk(String(dir), Number(leave)),
  'inodes-gone': ({ dir, leave }) => takeInodes(String(dir), Number(leave)),
  'memory-limit': ({ cgroup, bytes }) => limitMemory(String(cgroup), Number(bytes)),
};

function moveAside(path: string): Undo {
  const aside = `${path}.moved-by-fault`;
  renameSync(path, aside);
  return () => {
    if (existsSync(aside)) renameSync(aside, path); // takes the place of what was put there
  };
}

function fillDisk(dir: string, leave: number): Undo {
  const filler = join(dir, `.cooper-fault-filler-${process.pid}`);
  const { bavail, bsize } = statfsSync(dir);
  const size = Math.max(0, bavail * bsize - leave);
  const undo = (): void => rmSync(filler, { force: true });
  // Others write meanwhile, and it is all or nothing: what they took is left out.
  for (const share of [1, 0.99, 0.98, 0.95]) {
    const { status, stderr } = spawnSync('fallocate', ['-l', String(Math.floor(size * share)), filler], { encoding: 'utf8' });
    if (status === 0) return undo;
    undo();
    if (share === 0.95) throw new BuildError('exhausted', `cannot fill the disk under ${dir}: ${stderr}`);
  }
  return undo;
}

const MOST_INODES = 500_000;
function takeInodes(dir: string, leave: number): Undo {
  const { ffree } = statfsSync(dir);
  const many = ffree - leave;
  if (many > MOST_INODES)
    throw new BuildError('exhausted', `the file system of ${dir} has ${ffree} free inodes, too many to take`, {
      hint: 'use a tmpfs with nr_inodes or a small loop mount',
    });
  const folder = join(dir, `.cooper-fault-inodes-${process.pid}`);
  mkdirSync(folder);
  for (let i = 1; i < many; i++) {
    try {
      closeSync(openSync(join(folder, String(i)), 'w'));
    } catch {
      break; // somebody else took the last one
    }
  }
  return () => rmSync(folder, { recursive: true, force: true });
}

function limitMemory(cgroup: string, bytes: number): Undo {
  const file = ['memory.max', 'memory.limit_in_bytes'].map((name) => join(cgroup, name)).find((path) => existsSync(path));
  if (file === undefined) throw new BuildError('not-found', `${cgroup} is no cgroup with a memory controller`);
  const before = readFileSync(file, 'utf8').trim();
  writeFileSync(file, String(bytes));
  // v1 says "no limit" as a number it does not take back
  return () => writeFileSync(file, file.endsWith('.max') || Number(before) < 2 ** 60 ? before : '-1');
}
