import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BuildError } from '../core/errors.ts';
import { type LogOptions, openLog, type RootLogger } from './logs.ts';

/** A log into a file; `lines` waits until as many records have been written. */
function logged(
  t: TestContext,
  options: Partial<LogOptions> = {},
): { log: RootLogger; lines: (count: number) => Promise<string[]> } {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-log-'));
  const path = join(dir, 'log');
  const fd = openSync(path, 'a');
  t.after(() => {
    closeSync(fd);
    rmSync(dir, { recursive: true });
  });
  const log = openLog({ level: 'info', format: 'json', fd, onDropped: () => assert.fail('dropped'), ...options });
  const lines = async (count: number): Promise<string[]> => {
    for (;;) {
      const found = readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
      if (found.length >= count) return found;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { log, lines };
}

test('a record is one JSON object with time, level, message and the ids that join it', async (t) => {
  const { log, lines } = logged(t);
  log.child({ build: 'b1', trace_id: 'a'.repeat(32) }).info('build finished', { vertex: 'sha256:1' });
  const record = JSON.parse((await lines(1))[0] ?? '') as Record<string, unknown>;
  assert.match(String(record.time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  const { time: _, ...rest } = record;
  assert.deepEqual(rest, { level: 'info', build: 'b1', trace_id: 'a'.repeat(32), vertex: 'sha256:1', msg: 'build finished' });
});

test('errors keep their kind, their stack and their causes', async (t) => {
  const { log, lines } = logged(t);
  log.error('push failed', { error: new BuildError('unavailable', 'no answer', {}, { cause: new Error('ECONNREFUSED') }) });
  const { error } = JSON.parse((await lines(1))[0] ?? '') as {
    error: { kind: string; stack: string; cause: { message: string } };
  };
  assert.equal(error.kind, 'unavailable');
  assert.match(error.stack, /logs\.test\.ts/);
  assert.equal(error.cause.message, 'ECONNREFUSED');
});

test('text lines show time, level, message and fields, and quote what needs it', async (t) => {
  const { log, lines } = logged(t, { format: 'text' });
  log.warn('unknown key', { key: 'worker.oic', hint: 'did you mean "oci"?' });
  assert.match((await lines(1))[0] ?? '', /^\S+Z WARN {2}unknown key key=worker\.oic hint="did you mean \\"oci\\"\?"$/);
});

test('the level can be changed while running', async (t) => {
  const { log, lines } = logged(t);
  log.debug('hidden');
  log.setLevel('debug');
  log.debug('shown');
  const found = await lines(1);
  assert.equal(found.length, 1);
  assert.match(found[0] ?? '', /shown/);
});

test('a reader that stops reading costs records, never time', async (t) => {
  const script = `
    import { openLog } from ${JSON.stringify(new URL('logs.ts', import.meta.url).href)};
    let dropped = 0;
    const log = openLog({ level: 'info', format: 'json', onDropped: () => dropped++ });
    let worst = 0;
    for (let round = 0; round < 50; round++) {
      const start = performance.now();
      for (let i = 0; i < 200; i++) log.info('x'.repeat(1000));
      worst = Math.max(worst, performance.now() - start);
      await new Promise((resolve) => setImmediate(resolve));
    }
    process.stdout.write(JSON.stringify({ dropped, worst }));
    process.stdout.once('drain', () => {});
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 200);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  child.stderr.pause(); // ten megabytes go into a pipe nobody reads
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  const { dropped, worst } = JSON.parse(chunk.toString()) as { dropped: number; worst: number };
  assert.ok(dropped > 5000, `${dropped} dropped`);
  assert.ok(worst < 1000, `${worst} ms for 200 records`);
  await once(child, 'exit');
});
