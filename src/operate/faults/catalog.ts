/** Every fault that can be asked for: what it does, what it needs to know, and what is there without being said. */
import { BuildError } from '../../core/errors.ts';

export interface FaultParameter {
  readonly kind: 'number' | 'text';
  readonly default?: string | number;
  readonly doc: string;
}
export interface FaultSpec {
  readonly name: string;
  /** `wire` needs a proxy of toxiproxy's API, `http` our own, `process` and `disk` this machine. */
  readonly kind: 'wire' | 'http' | 'process' | 'disk' | 'memory';
  readonly doc: string;
  readonly parameters: Readonly<Record<string, FaultParameter>>;
}
export interface FaultOrder {
  readonly fault: string;
  readonly parameters: Readonly<Record<string, string | number>>;
}

const API: Readonly<Record<string, FaultParameter>> = {
  api: { kind: 'text', default: 'http://127.0.0.1:8474', doc: 'API of the proxy' },
  proxy: { kind: 'text', doc: 'name of the proxy' },
};
const number = (doc: string, value?: number): FaultParameter => ({
  kind: 'number',
  doc,
  ...(value !== undefined && { default: value }),
});
const text = (doc: string, value?: string): FaultParameter => ({
  kind: 'text',
  doc,
  ...(value !== undefined && { default: value }),
});
const MATCH = { match: text('only requests whose `METHOD /path` matches this expression', '') };
const wire = (name: string, doc: string, parameters: FaultSpec['parameters'] = {}): FaultSpec => ({
  name,
  kind: 'wire',
  doc,
  parameters: { ...API, ...parameters, ...(name === 'down' ? {} : { toxicity: number('share of connections, 0 to 1', 1) }) },
});
const http = (name: string, doc: string, parameters: FaultSpec['parameters'] = {}): FaultSpec => ({
  name,
  kind: 'http',
  doc,
  parameters: { ...API, ...MATCH, ...parameters },
});

export const FAULTS: readonly FaultSpec[] = [
  wire('down', 'nobody listens; open connections are closed'),
  wire('latency', 'every answer comes later', { latency: number('milliseconds', 1000), jitter: number('milliseconds', 0) }),
  wire('bandwidth', 'a narrow line', { rate: number('kilobytes a second', 10) }),
  wire('slow_close', 'connections close late', { delay: number('milliseconds', 1000) }),
  wire('timeout', 'connections are taken and nothing is said', {
    timeout: number('milliseconds until they are closed; 0: never', 0),
  }),
  wire('reset_peer', 'connections are reset', { timeout: number('milliseconds until then', 0) }),
  wire('slicer', 'data arrives in small pieces', {
    average_size: number('bytes', 64),
    size_variation: number('bytes', 32),
    delay: number('microseconds between pieces', 1000),
  }),
  wire('limit_data', 'connections close after so much data', { bytes: number('bytes', 1000) }),
  ...[401, 403, 500, 503].map((status) => http(`http-${status}`, `requests are answered ${status}`)),
  http('http-429', 'requests are answered 429', { retry_after: number('seconds in Retry-After', 120) }),
  http('http-truncate', 'bodies are cut off in the middle'),
  http('http-wrong-digest', 'bodies arrive with one bit turned'),
  {
    name: 'kill',
    kind: 'process',
    doc: 'SIGKILL to a process; whoever supervises it starts it again, healing does nothing',
    parameters: { pid: number('process') },
  },
  {
    name: 'freeze',
    kind: 'process',
    doc: 'a process stands still (SIGSTOP) until it is healed (SIGCONT): Prometheus or Alertmanager that hang',
    parameters: { pid: number('process') },
  },
  {
    name: 'runtime-missing',
    kind: 'process',
    doc: 'the OCI runtime is gone: its file is moved aside',
    parameters: { path: text('the file worker.oci.binary names') },
  },
  {
    name: 'runtime-hangs',
    kind: 'process',
    doc: 'the OCI runtime starts and never ends',
    parameters: { path: text('the file worker.oci.binary names') },
  },
  {
    name: 'disk-full',
    kind: 'disk',
    doc: 'a file fills the file system of a folder',
    parameters: { dir: text('a folder on that file system'), leave: number('bytes left free', 0) },
  },
  {
    name: 'inodes-gone',
    kind: 'disk',
    doc: 'empty files take the inodes of the file system of a folder (give it one of its own)',
    parameters: { dir: text('a folder on that file system'), leave: number('inodes left free', 0) },
  },
  {
    name: 'memory-limit',
    kind: 'memory',
    doc: 'a cgroup may use so little memory that what runs in it is killed',
    parameters: { cgroup: text('folder of the cgroup'), bytes: number('limit', 16 * 1024 * 1024) },
  },
];

/** The fault with its parameters, defaults filled in. @throws BuildError `invalid-input` naming what is unknown or missing. */
export function orderOf(
  name: string,
  given: Readonly<Record<string, string | number>>,
): FaultOrder & { readonly spec: FaultSpec } {
  const spec = FAULTS.find((fault) => fault.name === name);
  if (spec === undefined)
    throw new BuildError('invalid-input', `there is no fault "${name}"`, { hint: 'cooper chaos list shows them' });
  for (const key of Object.keys(given)) {
    if (!(key in spec.parameters))
      throw new BuildError(
        'invalid-input',
        `fault ${name} has no parameter "${key}"; it has ${Object.keys(spec.parameters).join(', ')}`,
      );
  }
  const parameters: Record<string, string | number> = {};
  for (const [key, { kind, default: fallback, doc }] of Object.entries(spec.parameters)) {
    const value = given[key] ?? fallback;
    if (value === undefined) throw new BuildError('invalid-input', `fault ${name} needs "${key}": ${doc}`);
    if (kind === 'number' && !Number.isFinite(Number(value)))
      throw new BuildError('invalid-input', `fault ${name}: "${key}" is a number, not "${value}"`);
    parameters[key] = kind === 'number' ? Number(value) : String(value);
  }
  return { fault: name, parameters, spec };
}
