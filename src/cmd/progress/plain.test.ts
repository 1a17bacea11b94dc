import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { StatusResponseSchema } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { PlainDisplay } from './plain.ts';
import { rawJson } from './rawjson.ts';
import { TtyDisplay } from './tty.ts';

const at = (ms: number) => ({ seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 });
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
type Status = MessageInitShape<typeof StatusResponseSchema>;

function plain(...updates: Status[]): string {
  let out = '';
  const display = new PlainDisplay({
    write: (piece) => {
      out += piece;
    },
  });
  for (const update of updates) display.update(create(StatusResponseSchema, update));
  display.end();
  return out;
}

test('plain progress: a step, its output with seconds since its start, its time', () => {
  const out = plain(
    { vertexes: [{ digest: 'a', name: '[1/2] RUN x', started: at(1000) }] },
    { logs: [{ vertex: 'a', msg: text('hello\nwor'), timestamp: at(1250) }] },
    { logs: [{ vertex: 'a', msg: text('ld\n'), timestamp: at(1500) }] },
    { vertexes: [{ digest: 'a', name: '[1/2] RUN x', started: at(1000), completed: at(3000) }] },
  );
  assert.equal(out, '#1 [1/2] RUN x\n#1 0.250 hello\n#1 0.500 world\n#1 DONE 2.0s\n');
});

test('plain progress: cached, failed and cancelled steps are told apart', () => {
  const out = plain({
    vertexes: [
      { digest: 'a', name: 'A', started: at(1), completed: at(1), cached: true },
      { digest: 'b', name: 'B', started: at(1), completed: at(2), error: 'exit code: 1' },
      { digest: 'c', name: 'C', started: at(1), completed: at(2), error: 'failed: context canceled' },
    ],
  });
  assert.equal(out, '#1 A\n#1 CACHED\n\n#2 B\n#2 ERROR: exit code: 1\n\n#3 C\n#3 CANCELED\n');
});

test('plain progress: output of two steps at once is kept apart by headers', () => {
  const out = plain(
    {
      vertexes: [
        { digest: 'a', name: 'A', started: at(0) },
        { digest: 'b', name: 'B', started: at(0) },
      ],
    },
    {
      logs: [
        { vertex: 'a', msg: text('from a\n'), timestamp: at(1) },
        { vertex: 'b', msg: text('from b\n'), timestamp: at(1) },
      ],
    },
    {
      vertexes: [
        { digest: 'a', name: 'A', started: at(0), completed: at(100) },
        { digest: 'b', name: 'B', started: at(0), completed: at(100) },
      ],
    },
  );
  const owners = [...out.matchAll(/^#(\d) \d+\.\d+ from (.)$/gm)].map(([, index, name]) => `${index}${name}`);
  assert.deepEqual(owners.sort(), ['1a', '2b']);
  assert.match(out, /#1 DONE 0\.1s/);
  assert.match(out, /#2 DONE 0\.1s/);
});

test('rawjson has the fields and forms of SolveStatus', () => {
  const line = rawJson(
    create(StatusResponseSchema, {
      vertexes: [{ digest: 'sha256:1', name: 'N', started: at(1500), cached: true }],
      logs: [{ vertex: 'sha256:1', stream: 1n, msg: text('x'), timestamp: at(2000) }],
    }),
  );
  assert.deepEqual(JSON.parse(line), {
    vertexes: [{ digest: 'sha256:1', name: 'N', started: '1970-01-01T00:00:01.5Z', cached: true }],
    logs: [{ vertex: 'sha256:1', stream: 1, data: 'eA==', timestamp: '1970-01-01T00:00:02Z' }],
  });
});

test('the live view keeps control characters of a step from moving the cursor', () => {
  let out = '';
  const display = new TtyDisplay({
    write: (piece) => {
      out += piece;
    },
    isTTY: true,
    columns: 60,
    rows: 20,
  });
  display.update(
    create(StatusResponseSchema, { vertexes: [{ digest: 'a', name: 'evil\u001b[2Jname', started: at(0), completed: at(10) }] }),
  );
  display.end();
  assert.ok(!out.includes('\u001b[2J'));
  assert.match(out, /evilname/);
});
