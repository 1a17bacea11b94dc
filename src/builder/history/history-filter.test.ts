import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import { StatusSchema } from '../proto/gen/google/rpc/status_pb.ts';
import { BuildHistoryRecordSchema } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { compileHistoryFilter } from './history-filter.ts';
import { timestampOf } from './status-log.ts';

const SECOND = 1_000_000_000n;
const now = 1_000_000n * SECOND;
const record = (ref: string, seconds: bigint, error = '') =>
  create(BuildHistoryRecordSchema, {
    Ref: ref,
    FrontendAttrs: { 'vcs:source': 'https://example.org/app.git' },
    CreatedAt: timestampOf(now - 100n * SECOND),
    CompletedAt: timestampOf(now - (100n - seconds) * SECOND),
    ...(error === '' ? {} : { error: create(StatusSchema, { code: 2, message: error }) }),
  });
const fine = record('aaa', 10n);
const broken = record('bbb', 60n, 'exit code: 1');
const stopped = record('ccc', 5n, 'solve: context canceled');

for (const [filter, refs] of [
  [[], 'aaa bbb ccc'],
  [['ref==aaa'], 'aaa'],
  [['ref~=^[ab]'], 'aaa bbb'],
  [['status==completed'], 'aaa'],
  [['status==error'], 'bbb ccc'],
  [['status==canceled'], 'ccc'],
  [['status==error,duration>30s'], 'bbb'],
  [['ref==aaa', 'ref==ccc'], 'aaa ccc'],
  [['repository~=app'], 'aaa bbb ccc'],
  [['repository!=https://example.org/app.git'], ''],
  [['startedAt>=2m'], 'aaa bbb ccc'],
  [['completedAt>50s'], 'bbb'],
  [['duration<=10s'], 'aaa ccc'],
] as const)
  test(`history filter ${JSON.stringify(filter)} keeps ${refs === '' ? 'nothing' : refs}`, () => {
    const matches = compileHistoryFilter(filter, now);
    assert.equal(
      [fine, broken, stopped]
        .filter(matches)
        .map(({ Ref }) => Ref)
        .join(' '),
      refs,
    );
  });

for (const filter of ['size>3', 'ref<a', 'duration==3', 'duration>soon', 'ref~=(', 'status'])
  test(`history filter "${filter}" is refused`, () => {
    assert.throws(
      () => compileHistoryFilter([filter], now),
      (error) => error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes(filter),
    );
  });
