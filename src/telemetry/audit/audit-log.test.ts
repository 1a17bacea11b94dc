import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import type { BuildEvent } from '../../builder/events.ts';
import { systemClock } from '../../core/clock.ts';
import { parseVertexDigest } from '../../core/digest.ts';
import { Metrics } from '../metrics.ts';
import type { AuditLimits } from './audit-files.ts';
import { AuditLog } from './audit-log.ts';
import { type AuditFilter, readAudit } from './audit-read.ts';
import { auditLine, parseAuditLine } from './audit-record.ts';

const LIMITS: AuditLimits = { maxFileBytes: 1024 * 1024, maxTotalBytes: 4 * 1024 * 1024, maxAgeMs: 86_400_000 };
const STEP = parseVertexDigest(`sha256:${'a'.repeat(64)}`);
const CLIENT = { peer: 'tls 10.0.0.7:51000', identity: 'ci-runner', session: 's1' };

async function openRig(t: TestContext, limits = LIMITS, where?: string) {
  const dir = where ?? join(await mkdtemp(join(tmpdir(), 'cooper-audit-')), 'audit');
  t.after(() => rm(dir, { recursive: true, force: true }).catch(() => {}));
  const metrics = new Metrics();
  const states: string[] = [];
  const open = (): AuditLog =>
    new AuditLog({
      dir,
      limits,
      metrics,
      clock: systemClock(),
      traceIdOf: (build) => (build === 'b1' ? 'f'.repeat(32) : undefined),
      onState: (error) => states.push(error === undefined ? 'works' : (error as { code: string }).code),
    });
  const sample = async (line: string): Promise<number> => {
    const { body } = await metrics.scrape();
    return Number(
      body
        .split('\n')
        .find((one) => one.startsWith(`${line} `))
        ?.slice(line.length + 1),
    );
  };
  return { dir, open, states, sample };
}
async function recordsOf(dir: string, filter: AuditFilter = {}) {
  const broken: string[] = [];
  const records = [];
  for await (const record of readAudit(dir, filter, (file) => broken.push(file))) records.push(record);
  return { records, broken };
}
const queued = (build: string): BuildEvent => ({
  type: 'build-queued',
  build,
  atNs: 0n,
  internal: false,
  target: '',
  exporters: [],
  client: CLIENT,
});
const use = (build: string, id: string, granted = true): BuildEvent => ({
  type: 'sensitive-use',
  build,
  step: STEP,
  atNs: 1_700_000_000_000_000_000n,
  kind: 'secret',
  id,
  granted,
});

test('a use of a secret is one record that says who, what, in which build, step and trace, and how it ended', async (t) => {
  const { dir, open, sample } = await openRig(t);
  const log = open();
  log.emit(queued('b1'));
  log.emit(use('b1', 'npm-token'));
  log.emit(use('b1', 'absent-token', false));
  log.record({ type: 'prune', outcome: 'ok', client: { peer: 'unix' }, what: 'all', detail: '3 records, 10 bytes' });
  await log[Symbol.asyncDispose]();
  const { records } = await recordsOf(dir);
  assert.deepEqual(records[0], {
    time: '2023-11-14T22:13:20Z',
    type: 'secret',
    outcome: 'ok',
    who: CLIENT,
    what: 'npm-token',
    build: 'b1',
    step: STEP,
    trace_id: 'f'.repeat(32),
  });
  assert.deepEqual(
    records.map(({ type, outcome, what }) => [type, outcome, what]),
    [
      ['secret', 'ok', 'npm-token'],
      ['secret', 'absent', 'absent-token'],
      ['prune', 'ok', 'all'],
    ],
  );
  assert.equal(await sample('cooper_audit_events_total{type="secret"}'), 2);
  assert.equal((await stat(join(dir, 'audit.jsonl'))).mode & 0o777, 0o600, 'nobody else may read it');
});

test('a refused request names the client even though its build never began', async (t) => {
  const { dir, open } = await openRig(t);
  const log = open();
  log.emit({ type: 'request-denied', build: 'b2', atNs: 1n, what: 'security.insecure', client: CLIENT });
  await log[Symbol.asyncDispose]();
  const [record] = (await recordsOf(dir)).records;
  assert.deepEqual(
    [record?.type, record?.outcome, record?.what, record?.who],
    ['denied', 'refused', 'security.insecure', CLIENT],
  );
});

test('a restart appends, also behind half a line that a crash left', async (t) => {
  const { dir, open } = await openRig(t);
  const first = open();
  first.emit(use('b1', 'one'));
  await first[Symbol.asyncDispose]();
  await appendFile(join(dir, 'audit.jsonl'), '{"time":"2026-01-01T00:00:0');
  const second = open();
  second.emit(use('b1', 'two'));
  await second[Symbol.asyncDispose]();
  const { records, broken } = await recordsOf(dir);
  assert.deepEqual(
    records.map(({ what }) => what),
    ['one', 'two'],
  );
  assert.equal(broken.length, 1, 'the half line is reported, not hidden');
});

test('a full file is set aside, and the oldest go when all are too big or too old', async (t) => {
  const { dir, open } = await openRig(t, { maxFileBytes: 2_000, maxTotalBytes: 6_000, maxAgeMs: 86_400_000 });
  for (let index = 0; index < 40; index++) {
    const log = open();
    log.emit(use('b1', `secret-${index}`));
    await log[Symbol.asyncDispose]();
  }
  const sizes = await Promise.all((await readdir(dir)).map(async (name) => (await stat(join(dir, name))).size));
  assert.ok(sizes.length >= 2, `${sizes.length} files`);
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= 6_400, `${sizes}`);
  const { records, broken } = await recordsOf(dir);
  const numbers = records.map(({ what }) => Number(what.slice(7)));
  assert.deepEqual(
    numbers,
    Array.from({ length: numbers.length }, (_, i) => 40 - numbers.length + i),
    'the newest, in order, without a hole',
  );
  assert.equal(broken.length, 0);

  const old = join(dir, 'audit-20200101T000000000Z.jsonl');
  await writeFile(old, auditLine({ time: '2020-01-01T00:00:00Z', type: 'ssh', outcome: 'ok', who: CLIENT, what: 'old' }));
  await utimes(old, 1_577_836_800, 1_577_836_800);
  for (let index = 0; index < 12; index++) {
    const log = open();
    log.emit(use('b1', `later-${index}`));
    await log[Symbol.asyncDispose]();
  }
  assert.ok(!(await readdir(dir)).includes('audit-20200101T000000000Z.jsonl'), 'too old');
});

test('what cannot be written is counted, the trouble told once, and the log says itself that it is not whole', async (t) => {
  const { dir, open, states, sample } = await openRig(t);
  await writeFile(dir, 'a file where the folder should be');
  const log = open();
  for (let index = 0; index < 10_000; index++) log.emit(use('b1', `lost-${index}`));
  await log[Symbol.asyncDispose]();
  const counted = async (): Promise<number> =>
    (await sample('cooper_telemetry_dropped_total{signal="audit",reason="disk_error"}')) +
    (await sample('cooper_telemetry_dropped_total{signal="audit",reason="queue_full"}'));
  assert.equal(await counted(), 10_000);
  assert.deepEqual(states, ['EEXIST']);
  assert.equal(await readFile(dir, 'utf8'), 'a file where the folder should be');
});

test('once the disk takes records again the first line says how many are missing', async (t) => {
  const { dir, open, states } = await openRig(t);
  await writeFile(dir, '');
  const log = open();
  log.emit(use('b1', 'lost'));
  while (states.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await rm(dir);
  log.emit(use('b1', 'kept'));
  await log[Symbol.asyncDispose]();
  const { records } = await recordsOf(dir);
  assert.deepEqual(
    records.map(({ type, what, lost }) => [type, what, lost]),
    [
      ['gap', 'records lost before this one', 1],
      ['secret', 'kept', undefined],
    ],
  );
  assert.equal(states.length, 2);
  assert.equal(states[1], 'works');
});

test('filters: build by the beginning of its ref, type, client, time; a gap is shown to every reader', async (t) => {
  const { dir, open } = await openRig(t);
  const log = open();
  log.emit(queued('abc123'));
  log.emit(use('abc123', 'a'));
  log.emit(use('zzz', 'b'));
  log.record({ type: 'drain', outcome: 'ok', client: { peer: 'signal' }, what: '0 builds' });
  await log[Symbol.asyncDispose]();
  const what = async (filter: AuditFilter): Promise<string[]> => (await recordsOf(dir, filter)).records.map((one) => one.what);
  assert.deepEqual(await what({ build: 'abc' }), ['a']);
  assert.deepEqual(await what({ types: ['drain'] }), ['0 builds']);
  assert.deepEqual(await what({ who: 'ci-runner' }), ['a']);
  assert.deepEqual(await what({ sinceMs: Date.UTC(2024, 0, 1) }), ['0 builds']);
  assert.deepEqual(await what({ untilMs: Date.UTC(2024, 0, 1) }), ['a', 'b']);
});

test('whatever a client sends stays one line of bounded length that reads back', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 2_000 }),
      fc.string({ unit: 'binary', maxLength: 2_000 }),
      (what, peer) => {
        const line = auditLine({ time: 't', type: 'secret', outcome: 'ok', who: { peer }, what, build: what });
        assert.equal(line.indexOf('\n'), line.length - 1);
        assert.ok(Buffer.byteLength(line) < 8_192);
        const read = parseAuditLine(line);
        assert.ok(read !== undefined && what.startsWith(read.what.replace(/…$/, '').slice(0, 200)));
      },
    ),
  );
});
