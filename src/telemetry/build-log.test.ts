import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestNamed, play } from '../../test/synthetic-builds.ts';
import { buildLog } from './build-log.ts';
import type { LogFields, Logger } from './logs.ts';

const SPANS = {
  rootOf: () => ({ trace_id: 'f'.repeat(32), span_id: 'a'.repeat(16) }),
  stepOf: () => ({ trace_id: 'f'.repeat(32), span_id: 'b'.repeat(16) }),
};

function rig() {
  const records: (LogFields & { readonly level: string; readonly msg: string })[] = [];
  const at =
    (level: string) =>
    (msg: string, fields: LogFields = {}): void =>
      void records.push({ level, msg, ...fields });
  const log: Logger = { debug: () => {}, info: at('info'), warn: at('warn'), error: at('error'), child: () => log };
  return { records, sink: buildLog(log, SPANS) };
}

test('a failed step and its build are logged with the ids of build, vertex and trace, and with whose fault it was', () => {
  const { records, sink } = rig();
  play(sink, {
    ref: 'b1',
    startedAtNs: 1n,
    fails: 'step-failed',
    steps: [{ name: 'RUN make', op: 'exec', fails: 'step-failed' }],
  });
  const [step, build, ...more] = records;
  assert.deepEqual(more, []);
  assert.equal(step?.msg, 'step failed');
  assert.deepEqual(
    [step?.build, step?.vertex, step?.trace_id, step?.span_id, step?.step, step?.error_class, step?.fault],
    ['b1', digestNamed('RUN make'), 'f'.repeat(32), 'b'.repeat(16), 'RUN make', 'step-failed', 'user'],
  );
  assert.deepEqual(
    [build?.level, build?.msg, build?.build, build?.trace_id, build?.span_id, build?.result, build?.fault],
    ['info', 'build ended', 'b1', 'f'.repeat(32), 'a'.repeat(16), 'failure', 'user'],
  );
});

test('a build that failed by our fault is an error in the log, a good one is one line', () => {
  const { records, sink } = rig();
  play(sink, { ref: 'b1', startedAtNs: 1n });
  play(sink, { ref: 'b2', startedAtNs: 1n, fails: 'internal' });
  assert.deepEqual(
    records.map(({ level, msg, result }) => [level, msg, result]),
    [
      ['info', 'build ended', 'success'],
      ['error', 'build ended', 'error'],
    ],
  );
});
