/**
 * Builds the same inputs with this daemon and with a real buildkitd and compares the images: manifests, configurations, and every
 * layer entry by entry. docs/interop.md holds the table of the last run.
 *
 *   node scripts/compare-buildkitd.ts [--buildkitd PATH] [--case REGEX] [--mode NAME] [--keep DIR]
 *
 * Needs root, buildctl, runc, docker-registry, busybox and mmdebstrap. Exits 1 when something differs that time stamps do not explain.
 */
import { lutimesSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { contextOf, type TestContext } from '../test/fixtures/context.ts';
import { run, TestDaemon } from '../test/fixtures/daemon.ts';
import { busyboxRootfs, debianRootfs, pushImage } from '../test/fixtures/images.ts';
import { startRegistry } from '../test/fixtures/registry.ts';
import { type Buildkitd, startBuildkitd } from './compare-buildkitd/buildkitd.ts';
import { CASES, type Case } from './compare-buildkitd/cases.ts';
import { type Comparison, compareLayouts } from './compare-buildkitd/differences.ts';
import { readLayout, readRootfs } from './compare-buildkitd/oci-image.ts';

const EPOCH = '1700000000';
const EPOCH_ARGS = ['--opt', `build-arg:SOURCE_DATE_EPOCH=${EPOCH}`];
/** How an image is written. The later ones leave less and less that may differ. */
const MODES = [
  { name: 'as built', type: 'oci', args: [], output: '' },
  { name: 'fixed times', type: 'oci', args: EPOCH_ARGS, output: ',rewrite-timestamp=true' },
  {
    name: 'fixed times, uncompressed',
    type: 'oci',
    args: EPOCH_ARGS,
    output: ',rewrite-timestamp=true,compression=uncompressed,force-compression=true',
  },
  { name: 'tarball, fixed times', type: 'tar', args: EPOCH_ARGS, output: '' },
] as const;

const { values: options } = parseArgs({
  options: {
    buildkitd: { type: 'string', default: 'buildkitd' },
    case: { type: 'string', default: '' },
    mode: { type: 'string', default: '' },
    keep: { type: 'string' },
  },
});
const cases = CASES.filter(({ name }) => new RegExp(options.case).test(name));
const modes = MODES.filter(({ name }) => options.mode === '' || name === options.mode);

await using registry = await startRegistry();
const busybox = await busyboxRootfs();
await pushImage(registry.host, 'busybox', 'latest', [busybox]);
await pushImage(registry.host, 'triggers', 'latest', [busybox], {
  WorkingDir: '/srv',
  OnBuild: ['ARG GREETING=hi', 'COPY app.txt .', 'RUN echo $GREETING > /greeting', 'ENV TRIGGERED=1'],
});
if (cases.some(({ dockerfile }) => dockerfile.includes('DEBIAN')))
  await pushImage(registry.host, 'debian', 'gcc', [debianRootfs()]);
await using theirs = await startBuildkitd(options.buildkitd);
await using ours = await TestDaemon.start();

console.log(`| input | layers | entries | ${modes.map(({ name }) => name).join(' | ')} |`);
console.log(`|---|---|---|${modes.map(() => '---|').join('')}`);
let failed = 0;
for (const input of cases) {
  const results: (Comparison | Error)[] = [];
  for (const mode of modes) results.push(await compare(input, mode).catch((error: Error) => error));
  const size = results.find((result): result is Comparison => !(result instanceof Error));
  console.log(`| ${[input.name, size?.layers, size?.entries, ...results.map(cellOf)].join(' | ')} |`);
  for (const result of results) {
    const differences = result instanceof Error ? [result.message] : result.differences;
    for (const difference of differences) console.error(`    ${difference}`);
    if (differences.length > 0) failed += 1;
  }
}
process.exitCode = failed === 0 ? 0 : 1;

async function compare(input: Case, mode: (typeof MODES)[number]): Promise<Comparison> {
  await using context = await contextOf({
    ...input.files,
    ...(input.dockerfile === '' ? {} : { Dockerfile: named(input.dockerfile) }),
  });
  input.prepare?.(context);
  fixTimes(context.dir);
  await using output = await contextOf({});
  // A directory kept from the last input would lend its own times to directories whose content changes.
  for (const { address } of [ours, theirs]) await run('buildctl', ['--addr', address, 'prune', '--filter', 'type==source.local']);
  if (options.keep !== undefined) mkdirSync(options.keep, { recursive: true });
  const [our, their] = await Promise.all([
    build(ours, input, mode, context, join(options.keep ?? output.dir, 'ours.tar')),
    build(theirs, input, mode, context, join(options.keep ?? output.dir, 'theirs.tar')),
  ]);
  const read = mode.type === 'tar' ? readRootfs : readLayout;
  return compareLayouts(read(our), read(their));
}

async function build(
  { address }: TestDaemon | Buildkitd,
  input: Case,
  mode: (typeof MODES)[number],
  { dir }: TestContext,
  dest: string,
): Promise<string> {
  const extra = [...(input.args ?? []), ...mode.args].map((arg) => arg.replace('CONTEXT', dir));
  const ofInput = input.output === undefined || mode.type === 'tar' ? '' : `,${input.output}`;
  const output = `type=${mode.type},dest=${dest}${ofInput}${mode.output}`;
  const local = ['--local', `context=${dir}`, '--local', `dockerfile=${dir}`];
  const args = [
    '--addr',
    address,
    'build',
    '--progress=plain',
    '--frontend=dockerfile.v0',
    ...local,
    ...extra,
    '--output',
    output,
  ];
  const { status, stderr } = await run('buildctl', args);
  if (status !== 0)
    throw new Error(`${address === ours.address ? 'ours' : 'buildkitd'} failed: ${stderr.trim().split('\n').at(-1)}`);
  return dest;
}

function named(dockerfile: string): string {
  const at = (name: string): string => `${registry.host}/${name}`;
  return dockerfile
    .replaceAll('BUSYBOX', at('busybox:latest'))
    .replaceAll('TRIGGERS', at('triggers:latest'))
    .replaceAll('DEBIAN', at('debian:gcc'))
    .replaceAll('REGISTRY', registry.host);
}

/** Every entry of the context gets one time, whenever it was written. */
function fixTimes(dir: string): void {
  for (const entry of readdirSync(dir, { recursive: true, encoding: 'utf8' }))
    lutimesSync(join(dir, entry), 1_650_000_000, 1_650_000_000);
}

function cellOf(result: Comparison | Error): string {
  if (result instanceof Error) return 'failed';
  const { differences, manifestsEqual, configsEqual, times } = result;
  if (differences.length > 0) return `**${differences.length} different**`;
  if (manifestsEqual) return 'same digest';
  return configsEqual ? 'same configuration and diff IDs' : `equal but for ${times} times`;
}
