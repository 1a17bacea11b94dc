/** Builds over HTTP against a real daemon: what works, what is refused, and that nothing stays behind whatever the caller does. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Canary } from '../fixtures/canary.ts';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs } from '../fixtures/images.ts';
import { assertNothingLeaked, type Holdings, holdingsOf } from '../fixtures/leaks.ts';
import { type TarEntry, tarOf } from '../fixtures/tar.ts';

const skip = unableTo('runc', 'busybox');
const TOKEN = 'a-token-of-forty-characters-0123456789abc';
const MAX_CONTEXT = 4_000_000;
const HOLDS_THE_STEP = 'RUN /bin/busybox sleep 600';
let dir: string;
let daemon: TestDaemon;
let canary: Canary;
let rootfs: Buffer;
let idle: Holdings;

before(async () => {
  if (skip !== false) return;
  dir = await mkdtemp(join(tmpdir(), 'cooper-submit-'));
  const tokenFile = join(dir, 'tokens');
  writeFileSync(tokenFile, `ci ${TOKEN}\nslow ${TOKEN}-slow\n`, { mode: 0o600 });
  const toml = `[cooper.ops]\ntoken-file = "${tokenFile}"\n[cooper.submit]\nmax-builds = 2\nmax-per-minute = 60\nmax-context = "${MAX_CONTEXT}"\n[cooper.canary]\nenabled = false\n`;
  daemon = await TestDaemon.start({ toml });
  canary = await Canary.open();
  rootfs = gzipSync(Buffer.from((await busyboxRootfs()) as Uint8Array));
  const first = await submit(
    tarOf([dockerfile('FROM scratch\nADD rootfs.tar.gz /\nRUN ["/bin/true"]\n'), { path: 'rootfs.tar.gz', data: rootfs }]),
  );
  assert.equal(first.last.type, 'result', JSON.stringify(first.lines));
  // The audit log is opened with its first record, which is written a moment after the answer.
  for (let look = 0; look < 200 && !existsSync(join(daemon.root, 'audit', 'audit.jsonl')); look += 1)
    await new Promise((resolve) => setTimeout(resolve, 50));
  await isClean();
  idle = await holdingsOf(daemon);
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await canary?.[Symbol.asyncDispose]();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

interface Line {
  readonly type?: string;
  readonly ref?: string;
  readonly text?: string;
  readonly steps?: { readonly total: number; readonly cached: number };
  readonly times?: { readonly totalMs: number; readonly queuedMs?: number };
  readonly error?: {
    readonly kind: string;
    readonly message: string;
    readonly source?: { readonly line: number; readonly excerpt: readonly { readonly text: string }[] };
  };
}
interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly lines: readonly Line[];
  readonly last: Line;
}
const dockerfile = (text: string): TarEntry => ({ path: 'Dockerfile', data: Buffer.from(text) });

function post(
  body: Uint8Array | string,
  options: object,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Response> {
  const isJson = typeof body === 'string';
  const query = isJson ? '' : `?options=${encodeURIComponent(JSON.stringify(options))}`;
  return fetch(`${daemon.opsUrl}/api/v1/builds${query}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': isJson ? 'application/json' : 'application/x-tar', ...headers },
    body,
    ...(signal === undefined ? {} : { signal }),
  });
}
async function submit(body: Uint8Array | string, options: object = {}, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await post(body, options, headers);
  const text = await response.text();
  const lines = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
  return { status: response.status, headers: response.headers, lines, last: lines.at(-1) ?? {} };
}
/** What was uploaded goes when the answer has been sent, so a moment later than the caller has it. */
async function isClean(): Promise<void> {
  const folder = join(daemon.root, 'tmp', 'submit');
  const left = (): string[] => (existsSync(folder) ? readdirSync(folder) : []);
  for (let look = 0; look < 200 && left().length > 0; look += 1) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(left(), []);
}

test('a context and its Dockerfile are built, and the answer tells the steps, their output and the times', { skip }, async () => {
  const { status, lines, last, headers } = await submit(
    gzipSync(
      tarOf([
        dockerfile(
          'FROM scratch\nADD rootfs.tar.gz /\nCOPY a/ /a/\nARG WHO\nRUN /bin/busybox echo "hello $WHO" && /bin/busybox cat /a/link\n',
        ),
        { path: 'a/', type: '5', mode: 0o755 },
        { path: 'a/file', data: Buffer.from('content of the file\n') },
        { path: 'a/link', type: '2', link: 'file' },
        { path: 'a/hard', type: '1', link: 'a/file' },
        { path: 'rootfs.tar.gz', data: rootfs },
      ]),
    ),
    { buildArgs: { WHO: 'world' } },
  );
  assert.equal(status, 200);
  assert.equal(last.type, 'result', JSON.stringify(last));
  assert.equal(lines[0]?.type, 'accepted');
  assert.equal(headers.get('x-cooper-build'), last.ref);
  const output = lines
    .filter(({ type }) => type === 'log')
    .map(({ text }) => text)
    .join('');
  assert.match(output, /hello world\n/);
  assert.match(output, /content of the file\n/);
  assert.ok((last.steps?.total ?? 0) >= 4);
  assert.ok((last.times?.totalMs ?? 0) >= (last.times?.queuedMs ?? Number.POSITIVE_INFINITY));
  await isClean();
});

test('the tarball that was asked for is the answer', { skip }, async () => {
  const response = await post(tarOf([dockerfile('FROM scratch\nCOPY Dockerfile /copied\n')]), {
    output: 'oci',
    names: ['example/app:1'],
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/x-tar');
  assert.ok(bytes.includes('oci-layout'));
  await isClean();
});

test('a Dockerfile as JSON is built without a context', { skip }, async () => {
  const { last } = await submit(JSON.stringify({ dockerfileText: 'FROM scratch\nLABEL a=b\nCOPY <<EOF /file\ntext\nEOF\n' }));
  assert.equal(last.type, 'result', JSON.stringify(last));
});

test('a broken Dockerfile is told with its line', { skip }, async () => {
  const text = 'FROM scratch\nCOPY a /a\nFORM nothing\n';
  const { status, last } = await submit(tarOf([dockerfile(text)]));
  assert.equal(status, 200, 'progress had begun');
  assert.equal(last.type, 'error');
  assert.equal(last.error?.kind, 'invalid-input');
  assert.equal(last.error?.source?.line, 3);
  assert.ok(last.error?.source?.excerpt.some((line) => line.text === 'FORM nothing'));
  const download = await post(tarOf([dockerfile(text)]), { output: 'tar' });
  assert.equal(download.status, 422);
  assert.match(await download.text(), /FORM nothing/);
  await isClean();
});

for (const [what, entries, message] of [
  ['a name that climbs', [{ path: '../cooper-escape', data: Buffer.from('x') }], /climbs with/],
  ['a name that climbs later', [{ path: 'a/../../cooper-escape', data: Buffer.from('x') }], /climbs with/],
  ['an absolute name', [{ path: '/tmp/cooper-escape', data: Buffer.from('x') }], /absolute path/],
  [
    'a file below a symlink',
    [
      { path: 'l', type: '2', link: '/tmp' },
      { path: 'l/cooper-escape', data: Buffer.from('x') },
    ],
    /is no directory/,
  ],
  [
    'a directory in place of a symlink',
    [
      { path: 'l', type: '2', link: '/tmp' },
      { path: 'l', type: '5' },
    ],
    /something else has that name/,
  ],
  ['a hard link to a file of the host', [{ path: 'h', type: '1', link: '/etc/passwd' }], /absolute path/],
  ['a hard link that climbs', [{ path: 'h', type: '1', link: '../../../etc/passwd' }], /climbs with/],
  [
    'a hard link through a symlink',
    [
      { path: 'l', type: '2', link: '/etc' },
      { path: 'h', type: '1', link: 'l/passwd' },
    ],
    /hard link to something/,
  ],
  ['a device', [{ path: 'd', type: '3' }], /is a device/],
  ['a FIFO', [{ path: 'f', type: '6' }], /is a device/],
] as readonly [string, TarEntry[], RegExp][]) {
  test(`an archive with ${what} is refused`, { skip }, async () => {
    const { status, last } = await submit(tarOf([dockerfile('FROM scratch\nCOPY . /\n'), ...entries]));
    assert.equal(status, 400, JSON.stringify(last));
    assert.match(last.error?.message ?? '', message);
    canary.check();
    await isClean();
  });
}

test('a symlink that leads out shows nothing of the host, as Dockerfile, on the way to it, and in a COPY', { skip }, async () => {
  const link = { path: 'out', type: '2', link: canary.dir };
  for (const [entries, options] of [
    [[{ path: 'Dockerfile', type: '2', link: join(canary.dir, 'victim') }], {}],
    [[dockerfile('FROM scratch\n'), link], { dockerfile: 'out/victim' }],
    [[dockerfile('FROM scratch\nCOPY out/victim /v\n'), link], {}],
  ] as readonly [TarEntry[], object][]) {
    const { last, lines } = await submit(tarOf(entries), options);
    assert.equal(last.type, 'error', JSON.stringify(lines));
    assert.doesNotMatch(JSON.stringify(lines), new RegExp(canary.word));
  }
  canary.check();
  await isClean();
});

test('a small upload that unpacks to more than is allowed is refused', { skip }, async () => {
  const bomb = gzipSync(tarOf([dockerfile('FROM scratch\n'), { path: 'big', data: Buffer.alloc(MAX_CONTEXT + 1) }]));
  assert.ok(bomb.byteLength < 50_000);
  const { status, last } = await submit(bomb);
  assert.equal(status, 400);
  assert.match(last.error?.message ?? '', /when unpacked/);
  await isClean();
});

test('an upload that is too large is refused by its length, and by its bytes when it tells none', { skip }, async () => {
  const large = Buffer.alloc(MAX_CONTEXT + 512);
  assert.equal((await submit(large).catch(() => ({ status: 413 }))).status, 413); // a client that is still sending may see the end first
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(1_000_000)),
  });
  const status = await fetch(`${daemon.opsUrl}/api/v1/builds`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/x-tar' },
    body: stream,
    duplex: 'half',
  } as RequestInit).then(
    (response) => response.status,
    () => 413,
  );
  assert.equal(status, 413);
  await isClean();
});

for (const [what, body, message] of [
  ['that is no archive', Buffer.from('this is not a tar archive'.repeat(100)), /context:/],
  ['that ends too early', tarOf([dockerfile('FROM scratch\n')]).subarray(0, 700), /context:/],
  ['that is empty', Buffer.alloc(0), /empty/],
] as const) {
  test(`a body ${what} is refused`, { skip }, async () => {
    const { status, last } = await submit(body);
    assert.equal(status, 400, JSON.stringify(last));
    assert.match(last.error?.message ?? '', message);
    await isClean();
  });
}

test('no token, a wrong one, and a page of another origin are refused before the body is read', { skip }, async () => {
  const body = tarOf([dockerfile('FROM scratch\n')]);
  assert.equal((await submit(body, {}, { authorization: '' })).status, 401);
  assert.equal((await submit(body, {}, { authorization: 'Bearer another-token-of-forty-characters-0123' })).status, 403);
  assert.equal((await submit(body, {}, { origin: 'https://evil.example' })).status, 403);
  await isClean();
});

test('a caller who goes away takes the build along, and nothing is left', { skip }, async () => {
  const gone = new AbortController();
  const context = tarOf([
    dockerfile(`FROM scratch\nADD rootfs.tar.gz /\n${HOLDS_THE_STEP}\n`),
    { path: 'rootfs.tar.gz', data: rootfs },
  ]);
  const response = await post(context, {}, {}, gone.signal);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let seen = ''; !/sleep.*"state":"started"/.test(seen); ) {
    const { value, done } = (await reader?.read()) ?? { done: true };
    assert.ok(!done, `the build ended: ${seen}`);
    seen += value;
  }
  gone.abort();
  const ref = response.headers.get('x-cooper-build') ?? '';
  await stateOf(ref, 'cancellation');
  await assertNothingLeaked(daemon, idle);
  await isClean();
});

test('with detach the build goes on without its caller; above the limit of builds at once the next is told to wait', {
  skip,
}, async () => {
  const context = tarOf([
    dockerfile(`FROM scratch\nADD rootfs.tar.gz /\n${HOLDS_THE_STEP}\n`),
    { path: 'rootfs.tar.gz', data: rootfs },
  ]);
  const refs: string[] = [];
  for (let i = 0; i < 2; i += 1) {
    const { status, last } = await submit(context, { detach: true, buildArgs: { I: String(i) } });
    assert.equal(status, 202);
    refs.push(last.ref ?? '');
  }
  const third = await submit(context, { detach: true });
  assert.equal(third.status, 429);
  assert.ok(Number(third.headers.get('retry-after')) > 0);
  for (const ref of refs) {
    await stateOf(ref, 'running');
    const cancel = await fetch(`${daemon.opsUrl}/api/v1/builds/${ref}/cancel`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    assert.equal(cancel.status, 200, await cancel.text());
    await stateOf(ref, 'cancellation');
  }
  await assertNothingLeaked(daemon, idle);
  await isClean();
});

test('a token that starts too many builds in a minute is told when to come back, others are not', { skip }, async () => {
  const headers = { authorization: `Bearer ${TOKEN}-slow` };
  const statuses = new Set<number>();
  for (let i = 0; i < 90 && !statuses.has(429); i += 1) statuses.add((await submit('{}', {}, headers)).status);
  assert.deepEqual([...statuses].sort(), [400, 429]);
  assert.equal((await submit('{}')).status, 400);
});

/** Looks until the daemon says so; a build is in the list from when it is registered. */
async function stateOf(ref: string, wanted: string): Promise<void> {
  let state = '';
  for (let look = 0; look < 400; look += 1) {
    const { body } = await daemon.ops(`/api/v1/builds/${ref}`);
    state = (JSON.parse(body) as { state?: string }).state ?? '';
    if (state === wanted) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(state, wanted);
}
