import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, GRPC } from '../../core/errors.ts';
import { grpcCodeOf } from '../rpc/status.ts';
import { asBuildFailure } from './build-failure.ts';

for (const [error, code] of [
  [new BuildError('not-found', 'base: not found'), GRPC.UNKNOWN],
  [new BuildError('unavailable', 'registry is down'), GRPC.UNKNOWN],
  [new BuildError('step-failed', 'exit code: 7', { exitCode: 7 }), GRPC.UNKNOWN],
  [new BuildError('cancelled', 'context canceled'), GRPC.CANCELLED],
  [new BuildError('unsupported', 'no such op'), GRPC.UNIMPLEMENTED],
  [new BuildError('not-found', 'no access allowed to dir "x"', { grpcCode: GRPC.NOT_FOUND }), GRPC.NOT_FOUND],
] as const)
  test(`a ${error.kind} failure (${error.message}) is told with code ${code} and keeps its kind`, () => {
    const told = asBuildFailure(error);
    assert.equal(grpcCodeOf(told), code);
    assert.equal(told.kind, error.kind);
    assert.equal(told.message, error.message);
  });
