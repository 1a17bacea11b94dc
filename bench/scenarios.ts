/** The scenarios of docs/performance.md. Cold work carries a fresh nonce, so that no daemon can have seen it before. */
import { randomBytes } from 'node:crypto';
import { appendFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Inputs } from './inputs.ts';

/** Seconds. */
export type Sample = number;
export interface Trial {
  readonly inputs: Inputs;
  readonly side: 'a' | 'b';
  readonly round: number;
  readonly record: (name: string, sample: Sample) => void;
  /** Arguments of `buildctl build` after the frontend. */
  readonly build: (args: readonly string[]) => Promise<Sample>;
  /** `buildctl prune --all`: the next use of a base pulls it again. */
  readonly prune: () => Promise<Sample>;
}
export interface Scenario {
  readonly name: string;
  readonly run: (trial: Trial) => Promise<void>;
}

const nonce = (): string => randomBytes(8).toString('hex');
const from = (context: string): string[] => ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
const arg = (value: string): string[] => ['--opt', `build-arg:NONCE=${value}`];

const noop: Scenario = {
  name: 'noop',
  async run({ inputs, record, build }) {
    const steps = Array.from({ length: 5 }, (_, n) => `RUN echo ${n} > /f${n}\nENV V${n}=${n}`).join('\n');
    const context = inputs.context('noop', `FROM ${inputs.busybox}\nWORKDIR /w\n${steps}\n`);
    await build(from(context));
    record('noop', await build(from(context)));
    record('noop, image', await build([...from(context), '--output', 'type=image,name=localhost/noop']));
  },
};
const chain: Scenario = {
  name: 'chain',
  async run({ inputs, record, build }) {
    const steps = Array.from({ length: 60 }, (_, n) => `RUN echo $NONCE ${n} > /f`).join('\n');
    const context = inputs.context('chain', `FROM ${inputs.busybox}\nARG NONCE\n${steps}\n`);
    const value = nonce();
    record('60-step chain, cold', await build([...from(context), ...arg(value)]));
    record('60-step chain, cached', await build([...from(context), ...arg(value)]));
  },
};
const small: Scenario = {
  name: 'ctx-small',
  async run({ inputs, round, record, build }) {
    const context = join(inputs.dir, 'contexts', 'small');
    const first = await build(from(context));
    if (round === 0) record('20 000 files, first', first);
    record('20 000 files, nothing changed', await build(from(context)));
    appendFileSync(join(context, 'files', 'done'), 'x');
    record('20 000 files, one changed', await build(from(context)));
  },
};
const big: Scenario = {
  name: 'ctx-big',
  async run({ inputs, side, record, build }) {
    const context = join(inputs.dir, 'contexts', 'big');
    // A name of its own is a context the daemon has not seen: the whole file is sent again.
    const key = ['--opt', `sharedkey:localdir:context=${side}-${nonce()}`];
    record('512 MB file, first', await build([...from(context), ...key, '--no-cache']));
    record('512 MB file, again', await build([...from(context), ...key]));
  },
};
const base: Scenario = {
  name: 'base',
  async run({ inputs, record, build, prune }) {
    const context = inputs.context('base', `FROM ${inputs.debian}\nARG NONCE\nRUN echo $NONCE > /n\n`);
    await prune();
    record('Debian base: pull, unpack, one step', await build([...from(context), ...arg(nonce())]));
    record('one step on a warm base', await build([...from(context), ...arg(nonce())]));
  },
};
const ociExport: Scenario = {
  name: 'export',
  async run({ inputs, side, record, build }) {
    const make = 'i=0; while [ $i -lt 60 ]; do cp /bin/busybox /d/$NONCE-$i; echo $NONCE$i >> /d/$NONCE-$i; i=$((i+1)); done';
    const context = inputs.context('export', `FROM ${inputs.busybox}\nARG NONCE\nRUN mkdir /d && ${make}\n`);
    const value = arg(nonce());
    const dest = join(inputs.dir, `out-${side}.tar`);
    await build([...from(context), ...value]);
    for (const compression of ['gzip', 'zstd', 'uncompressed']) {
      const output = ['--output', `type=oci,dest=${dest},compression=${compression},force-compression=true`];
      record(`OCI export of 120 MB, ${compression}`, await build([...from(context), ...value, ...output]));
    }
    rmSync(dest, { force: true });
  },
};

const remoteCache: Scenario = {
  name: 'cache',
  async run({ inputs, side, record, build, prune }) {
    const steps = Array.from({ length: 10 }, (_, n) => `RUN echo $NONCE && head -c 2000000 /dev/urandom > /f${n}`).join('\n');
    const context = inputs.context('cache', `FROM ${inputs.busybox}\nARG NONCE\n${steps}\n`);
    const value = nonce();
    const ref = `type=registry,ref=${inputs.busybox.replace('busybox:latest', 'cache')}:${side}-${value}`;
    const dest = join(inputs.dir, `cache-${side}`);
    await build([...from(context), ...arg(value)]);
    record(
      'cache export, registry, mode=max, 10 layers',
      await build([...from(context), ...arg(value), '--export-cache', `${ref},mode=max`]),
    );
    await prune();
    const output = ['--output', `type=local,dest=${dest}`];
    record(
      'import of all of it, to a local directory',
      await build([...from(context), ...arg(value), '--import-cache', ref, ...output]),
    );
    rmSync(dest, { recursive: true, force: true });
  },
};

export const SCENARIOS: readonly Scenario[] = [noop, chain, small, big, base, ociExport, remoteCache];
