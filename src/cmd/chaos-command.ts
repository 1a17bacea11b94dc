/** `cooper chaos list|run|proxy`: one fault at a time, by hand, healed at the end whatever happens. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../core/errors.ts';
import { durationMs } from '../operate/durations.ts';
import { FAULTS, orderOf } from '../operate/faults/catalog.ts';
import { holdFault } from '../operate/faults/held-fault.ts';
import { formatFlags, isOn, parseArguments, splitOnce, textOf, textsOf } from './args.ts';

const FLAGS = [
  { name: 'for', kind: 'text', value: 'TIME', doc: 'how long (run), for example 30s' },
  { name: 'set', kind: 'texts', value: 'NAME=VALUE', doc: 'parameter of the fault; cooper chaos list shows them' },
  { name: 'lease', kind: 'text', value: 'TIME', doc: 'how long the fault may outlive this command, 10s' },
  { name: 'api', kind: 'text', value: 'HOST:PORT', doc: 'address of the API (proxy), 127.0.0.1:8474' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

const USAGE = `Usage:
  cooper chaos list
  cooper chaos run FAULT --for 30s [--set NAME=VALUE]…
  cooper chaos proxy NAME=LISTEN>UPSTREAM…          serves toxiproxy's API and our HTTP faults until Ctrl-C`;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const [verb, ...operands] = args.operands;
  if (isOn(args, 'help')) {
    console.log(`${USAGE}\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  if (verb === 'list') {
    console.log(faultList());
    return 0;
  }
  if (verb === 'proxy') return await serveProxy(textOf(args, 'api') ?? '127.0.0.1:8474', operands);
  const [name] = operands;
  if (verb !== 'run' || name === undefined) throw new BuildError('invalid-input', USAGE);
  const forMs = durationMs(textOf(args, 'for') ?? '30s');
  const order = orderOf(
    name,
    Object.fromEntries(textsOf(args, 'set').map((pair) => [splitOnce(pair, '=')[0], splitOnce(pair, '=')[1] ?? ''])),
  );
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  await using fault = await holdFault(order, { ttlMs: durationMs(textOf(args, 'lease') ?? '10s') });
  console.log(`${name} is in force for ${textOf(args, 'for') ?? '30s'}; Ctrl-C heals it now`);
  await sleep(forMs, undefined, { signal: stop.signal }).catch(() => undefined);
  await fault.heal();
  console.log(`${name} is healed`);
  return 0;
}

function faultList(): string {
  return FAULTS.map(({ name, kind, doc, parameters }) => {
    const rows = Object.entries(parameters).map(
      ([key, { default: value, doc: what }]) => `      ${key}${value === undefined ? '' : `=${value}`}  ${what}`,
    );
    return [`${name.padEnd(20)}${kind.padEnd(9)}${doc}`, ...rows].join('\n');
  }).join('\n');
}

async function serveProxy(api: string, proxies: readonly string[]): Promise<number> {
  const file = join(import.meta.dirname, '..', 'operate', 'faults', 'proxy-main.ts');
  const child = spawn(process.execPath, [file, api, ...proxies], { stdio: ['ignore', 'inherit', 'inherit'] });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}
