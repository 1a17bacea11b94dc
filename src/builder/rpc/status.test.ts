import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError, ERROR_KINDS, type ErrorKind, GRPC } from '../../core/errors.ts';
import { definitionJson } from '../llb/definition-json.ts';
import { StatusSchema } from '../proto/gen/google/rpc/status_pb.ts';
import { DefinitionSchema } from '../proto/gen/pb/ops_pb.ts';
import { errorFromTrailers, errorOf, grpcCodeOf, statusOf, statusTrailers } from './status.ts';

const vertex = `sha256:${'a'.repeat(64)}`;
const failedRun = new BuildError('step-failed', 'process "/bin/sh -c false" did not complete successfully: exit code: 7', {
  grpcCode: GRPC.UNKNOWN,
  exitCode: 7,
  vertex,
  hint: 'look at the log',
  source: {
    filename: 'Dockerfile',
    language: 'Dockerfile',
    data: Buffer.from('FROM scratch\nRUN false\n'),
    ranges: [{ start: { line: 2, character: 0 }, end: { line: 2, character: 4 } }],
  },
  wire: { 'errdefs.Solve+json': '{"inputIDs":["x"]}' },
});

test('details go out as BuildKit clients read them: type URLs, order and JSON', () => {
  const { code, message, details } = statusOf(failedRun);
  assert.equal(code, 2);
  assert.equal(message, failedRun.message);
  assert.deepEqual(
    details.map(({ typeUrl, value }) => [typeUrl, JSON.parse(Buffer.from(value).toString())]),
    [
      [
        'github.com/moby/buildkit/errdefs.Source+json',
        {
          info: { filename: 'Dockerfile', data: 'RlJPTSBzY3JhdGNoClJVTiBmYWxzZQo=', language: 'Dockerfile' },
          ranges: [{ start: { line: 2 }, end: { line: 2, character: 4 } }],
        },
      ],
      ['github.com/moby/buildkit/errdefs.Vertex+json', { digest: vertex }],
      ['github.com/moby/buildkit/errdefs.Solve+json', { inputIDs: ['x'] }],
      ['github.com/moby/buildkit/gatewayapi.ExitMessage+json', { Code: 7 }],
      ['github.com/moby/buildkit/cooper.Error+json', { kind: 'step-failed', hint: 'look at the log' }],
    ],
  );
});

test('an error handed back by a client is the error that was sent', () => {
  const back = errorOf(statusOf(failedRun));
  assert.equal(back.kind, failedRun.kind);
  assert.equal(back.message, failedRun.message);
  assert.deepEqual(back.detail, failedRun.detail);
});

test('every kind survives the trip through trailers, whatever its code on the wire', () => {
  for (const kind of Object.keys(ERROR_KINDS) as ErrorKind[]) {
    for (const detail of [{}, { grpcCode: GRPC.UNKNOWN }]) {
      const error = new BuildError(kind, 'no such käse: 100% ☕', detail);
      const trailers = statusTrailers(error);
      assert.equal(trailers['grpc-status'], String(grpcCodeOf(error)));
      assert.match(trailers['grpc-message'] ?? '', /^[\x20-\x7e]*$/);
      assert.doesNotMatch(trailers['grpc-status-details-bin'] ?? '', /=/);
      const back = errorFromTrailers((name) => trailers[name]);
      assert.deepEqual([back?.kind, back?.message, back?.detail], [kind, error.message, { grpcCode: grpcCodeOf(error) }]);
    }
  }
});

test('what the code says already is not said again: clients of content know no types of ours', () => {
  assert.deepEqual(statusOf(new BuildError('not-found', 'no blob')).details, []);
  assert.equal(statusOf(new BuildError('not-found', 'no blob', { hint: 'look elsewhere' })).details.length, 1);
  assert.equal(statusOf(new BuildError('not-found', 'no blob', { grpcCode: GRPC.UNKNOWN })).details.length, 1);
});

test('success has no details', () => {
  assert.deepEqual(statusTrailers(undefined), { 'grpc-status': '0' });
  assert.equal(
    errorFromTrailers((name) => (name === 'grpc-status' ? '0' : undefined)),
    undefined,
  );
});

for (const [code, kind] of [
  [1, 'cancelled'],
  [2, 'invalid-input'],
  [5, 'not-found'],
  [8, 'exhausted'],
  [12, 'unsupported'],
  [14, 'unavailable'],
  [16, 'denied'],
  [99, 'invalid-input'],
] as const)
  test(`code ${code} from a program that sends no details is ${kind}`, () =>
    assert.equal(errorOf(create(StatusSchema, { code, message: 'm' })).kind, kind));

test("a failed command from BuildKit's own daemon is recognised by its exit code", () => {
  const value = Buffer.from('{"Code":7}');
  const details = [{ typeUrl: 'github.com/moby/buildkit/gatewayapi.ExitMessage+json', value }];
  const error = errorOf(create(StatusSchema, { code: 2, message: 'failed', details }));
  assert.deepEqual([error.kind, error.detail.exitCode], ['step-failed', 7]);
});

test('malformed details are left out and the status still counts', () =>
  fc.assert(
    fc.property(fc.string(), fc.uint8Array(), (text, bytes) => {
      const value = Buffer.from(text);
      const details = ['errdefs.Source+json', 'errdefs.Vertex+json', 'cooper.Error+json', 'other+json', 'plain'].map((name) => ({
        typeUrl: `github.com/moby/buildkit/${name}`,
        value,
      }));
      assert.equal(errorOf(create(StatusSchema, { code: 5, message: 'm', details })).message, 'm');
      const trailers: Record<string, string> = {
        'grpc-status': '5',
        'grpc-message': text,
        'grpc-status-details-bin': Buffer.from(bytes).toString('base64'),
      };
      assert.equal(errorFromTrailers((name) => trailers[name])?.kind, 'not-found');
    }),
  ));

test('a status that is missing or no number is an internal error of the peer', () => {
  for (const text of [undefined, '', 'x', '-1', '1.5'])
    assert.equal(errorFromTrailers((name) => (name === 'grpc-status' ? text : undefined))?.kind, 'internal');
});

test('the graph that loads the file goes out, and survives the way through a client', () => {
  const definition = create(DefinitionSchema, {
    def: [new Uint8Array([1, 2])],
    metadata: { 'sha256:aa': { caps: { 'source.local': true }, progressGroup: { id: 'g' }, linuxResources: { memory: 5n } } },
  });
  const source = {
    filename: 'Dockerfile',
    language: '',
    data: new Uint8Array(),
    ranges: [],
    definition: definitionJson(definition),
  };
  const json = { def: ['AQI='], metadata: { 'sha256:aa': { caps: { 'source.local': true }, progress_group: { id: 'g' } } } };
  const sent = statusOf(new BuildError('invalid-input', 'm', { source }));
  assert.deepEqual(JSON.parse(Buffer.from(sent.details[0]?.value ?? []).toString()), {
    info: { filename: 'Dockerfile', definition: json },
  });
  assert.deepEqual(errorOf(sent).detail.source?.definition, json);
});

test('details too large for a header block are dropped, the message is kept', () => {
  const data = Buffer.alloc(8 * 1024 * 1024, 65);
  const source = { filename: 'Dockerfile', language: 'Dockerfile', data, ranges: [] };
  const trailers = statusTrailers(new BuildError('invalid-input', 'too long', { source }));
  assert.deepEqual(trailers, { 'grpc-status': '3', 'grpc-message': 'too long' });
  const small = statusTrailers(
    new BuildError('invalid-input', 'm', { source: { ...source, data: data.subarray(0, 1_000_000) }, hint: 'split it' }),
  );
  const bytes = Buffer.from(small['grpc-status-details-bin'] ?? '', 'base64');
  assert.equal(fromBinary(StatusSchema, bytes).details.length, 2);
});
