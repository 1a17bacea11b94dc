/** Whose fault a failed build is decides what burns: seen on the daemon, its metrics, and a real Prometheus with the shipped rules. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { run as runStep } from '../../src/builder/llb/exec.ts';
import { imageSource } from '../../src/builder/llb/source.ts';
import { marshal } from '../../src/builder/llb/state.ts';
import { Control } from '../../src/builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { connect, type RpcClient } from '../../src/builder/rpc/client.ts';
import { BuildError } from '../../src/core/errors.ts';
import type { SloReport } from '../../src/slo/report.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry } from '../fixtures/registry.ts';
import { startPrometheus } from '../prometheus.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'prometheus', 'flock');
const RULES = join(import.meta.dirname, '..', '..', 'alerts', 'rules.yaml');
const BROKEN_DOCKERFILES = [
  'FROM scratch\nRUNN true\n',
  'FROM scratch\nCOPY none /\n',
  'FROM no-such-stage-or-image:latest@sha256:0\n',
];

/** runc, but while a file named `faulty` lies beside it every tenth container dies before it starts, as a runtime that cannot load. */
const runcScript = (dir: string): string => `#!/bin/sh
case " $* " in
*" run "*)
  if [ -e '${dir}/faulty' ]; then
    n=$(flock '${dir}/lock' sh -c 'n=$(($(cat "$0/count" 2>/dev/null || echo 0) + 1)); echo $n > "$0/count"; echo $n' '${dir}')
    [ $((n % 10)) -ne 0 ] || { echo 'runc: error while loading shared libraries' >&2; exit 127; }
  fi ;;
esac
exec runc "$@"
`;

const platform = {
  os: 'linux',
  architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
  variant: '',
  osVersion: '',
  osFeatures: [],
} as const;
const references = Array.from({ length: 1000 }, (_, index) => `slo${String(index).padStart(22, '0')}`);

/** `count` builds of one new command each, a few at a time; the errors of those that failed. */
async function buildMany(client: RpcClient, base: string, count: number): Promise<BuildError[]> {
  const errors: BuildError[] = [];
  const asked = references.splice(0, count);
  const worker = async (): Promise<void> => {
    for (let ref = asked.pop(); ref !== undefined; ref = asked.pop()) {
      const image = imageSource(base, { platform, name: base });
      const step = {
        mounts: [],
        secrets: [],
        ssh: [],
        extraHosts: [],
        ulimits: [],
        args: ['/bin/sh', '-c', `echo ${ref} > /ref`],
      };
      const Definition = marshal(runStep(image, step), { platform });
      await client.unary(Control.method.solve, { Ref: ref, Definition }).catch((error) => errors.push(BuildError.from(error)));
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  return errors;
}

async function objective(daemon: TestDaemon): Promise<SloReport['objectives'][number]> {
  const { objectives } = JSON.parse((await daemon.ops('/slo')).body) as SloReport;
  return objectives.find(({ name }) => name === 'build-success') ?? assert.fail('no such objective');
}

test('faults of the runtime in a tenth of builds burn the budget and page; broken Dockerfiles and commands do neither', {
  skip,
  timeout: 120_000,
}, async () => {
  await using registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  const base = `${registry.host}/base:latest`;
  await using runtime = await contextOf({});
  runtime.write('runc', runcScript(runtime.dir), 0o755);
  await using daemon = await TestDaemon.start({ toml: `[worker.oci]\nbinary = "${join(runtime.dir, 'runc')}"\n` });
  await using prometheus = await startPrometheus({ targets: [new URL(daemon.opsUrl).host], rules: [RULES] });
  await prometheus.until('count_over_time(up{job="cooper"}[10m])', (samples) => (samples[0]?.value ?? 0) >= 2);
  await using client = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });

  // Twenty good builds and eight that their authors broke: nothing burns, nothing is even pending.
  assert.deepEqual(await buildMany(client, base, 20), []);
  await using context = await contextOf({});
  const userFailures = await failByUser(daemon, context, base);
  const calm = await objective(daemon);
  assert.deepEqual([calm.good, calm.total, calm.budgetLeft, calm.state], [20 + userFailures, 20 + userFailures, 1, 'ok']);
  assert.deepEqual(
    calm.burn.filter(({ burnRate }) => burnRate !== 0),
    [],
  );
  const events = 'cooper:slo_events:increase6h{slo="build-success"}';
  await prometheus.until(events, (samples) => (samples[0]?.value ?? 0) >= 20 + userFailures - 1);
  assert.deepEqual(await prometheus.query('ALERTS{slo="build-success"}'), []);
  const noBurn = await prometheus.query('cooper:slo_burn_rate:ratio5m{slo="build-success"}');
  assert.deepEqual(
    noBurn.map(({ value }) => value),
    [0],
  );

  // The runtime breaks under every tenth build.
  writeFileSync(join(runtime.dir, 'faulty'), '');
  const errors = await buildMany(client, base, 100);
  rmSync(join(runtime.dir, 'faulty'));
  assert.equal(errors.length, 10, errors.map(({ message }) => message).join('\n'));
  for (const { kind, message } of errors) {
    assert.equal(kind, 'internal', message);
    assert.match(message, /the OCI runtime ended with status 127 before it had started the process/);
  }
  const { body } = await daemon.ops('/metrics');
  assert.match(body, /^cooper_builds_total\{result="error",error_class="internal"\} 10$/m);
  const burning = await objective(daemon);
  const total = 120 + userFailures;
  assert.deepEqual([burning.total - burning.good, burning.total, burning.state], [10, total, 'burning-page']);
  const fiveMinutes = burning.burn.find(({ window }) => window === '5m');
  assert.ok(Math.abs((fiveMinutes?.burnRate ?? 0) - 10 / total / 0.01) < 1e-6, JSON.stringify(fiveMinutes));
  assert.match((await daemon.ops('/metrics')).body, /^cooper_slo_state\{slo="build-success",state="burning-page"\} 1$/m);

  const firing = await prometheus.until(
    'ALERTS{alertstate="firing",slo="build-success",severity="critical"}',
    (samples) => samples.length > 0,
    45_000,
  );
  assert.equal(firing[0]?.labels.alertname, 'CooperBuildSuccessBurn');
  const burn = await prometheus.query('cooper:slo_burn_rate:ratio5m{slo="build-success"}');
  assert.ok((burn[0]?.value ?? 0) > 3.5, `the recorded burn rate is ${burn[0]?.value}`);
  const others = await prometheus.query('ALERTS{alertstate="firing",severity=~"critical|warning",slo!="build-success"}');
  assert.deepEqual(others, [], 'nothing else fires');
});

/** Builds that end as their input deserves; returns how many. */
async function failByUser(daemon: TestDaemon, context: TestContext, base: string): Promise<number> {
  const dockerfiles = [...BROKEN_DOCKERFILES, ...[1, 2, 77, 127, 255].map((status) => `FROM ${base}\nRUN exit ${status}\n`)];
  for (const text of dockerfiles) {
    context.write('Dockerfile', text);
    const { status, stderr } = await buildDir(daemon, context.dir);
    assert.equal(status, 1, `${text}: ${stderr}`);
  }
  return dockerfiles.length;
}
