/** The ops API over HTTP, with providers instead of a daemon: answers keep to their schemas, bad input and callers are refused. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type * as z from 'zod';
import { DETAIL, linesOf, providers } from '../ops-providers.test-rig.ts';
import type { OpsProviders, WriteRecord } from '../ops-providers.ts';
import { type OpsServerOptions, openOpsServer } from '../ops-server.ts';
import { ROUTES } from './routes.ts';

const TOKEN = 'a-token-of-forty-characters-0123456789abc';
const LOCAL = { host: '127.0.0.1', port: 0 };
const REF = encodeURIComponent(DETAIL.ref);

interface Rig extends AsyncDisposable {
  readonly url: string;
  readonly audited: WriteRecord[];
  readonly tokenFile: string;
  post(
    path: string,
    options?: { readonly headers?: Record<string, string>; readonly body?: string },
  ): Promise<{ status: number; error: string }>;
}
async function openRig(
  change: Partial<OpsProviders> = {},
  options: Partial<OpsServerOptions> & { readonly tokens?: string } = {},
): Promise<Rig> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-api-'));
  const tokenFile = join(dir, 'tokens');
  const { tokens, ...rest } = options;
  if (tokens !== undefined) writeFileSync(tokenFile, tokens, { mode: 0o600 });
  const audited: WriteRecord[] = [];
  const server = await openOpsServer(
    { ...LOCAL, ...(tokens === undefined ? {} : { tokenFile }), ...rest },
    providers(change, audited),
  );
  return {
    url: server.url,
    audited,
    tokenFile,
    post: async (path, { headers = {}, body } = {}) => {
      const response = await fetch(`${server.url}/api/v1${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body }),
      });
      const answer = (await response.json()) as { error?: { message: string } };
      return { status: response.status, error: answer.error?.message ?? '' };
    },
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

const FILLED: Readonly<Record<string, string>> = { ':ref': REF };
const QUERIES: Readonly<Record<string, string>> = { '/compare': `?a=${REF}&b=${REF}`, '/steps/history': '?name=a' };
for (const route of ROUTES.filter(({ method, answer }) => method === 'GET' && typeof answer !== 'string')) {
  test(`the answer of ${route.path} keeps to its schema`, async () => {
    await using rig = await openRig();
    const name = route.path.startsWith('/runbooks') ? 'CooperTest' : 'build-success';
    const path = route.path.replace(/:\w+/, (parameter) => FILLED[parameter] ?? name) + (QUERIES[route.path] ?? '');
    const response = await fetch(`${rig.url}/api/v1${path}`);
    const document: unknown = await response.json();
    assert.equal(response.status, 200, JSON.stringify(document));
    (route.answer as z.ZodType).parse(document);
  });
}

for (const [path, status, message] of [
  ['/builds?limit=0', 400, /^query\.limit: /],
  ['/builds?limit=501', 400, /^query\.limit: /],
  ['/builds?limit=ten', 400, /^query\.limit: /],
  ['/builds?limit=1&limit=2', 400, /^query\.limit: given more than once/],
  ['/builds?state=odd', 400, /^query\.state: /],
  ['/builds?colour=red', 400, /^query: /],
  [`/builds?text=${'x'.repeat(201)}`, 400, /^query\.text: /],
  [`/builds/${'x'.repeat(257)}`, 400, /^path\.ref: /],
  ['/builds/none', 404, /there is no build none/],
  ['/builds/none/logs', 404, /there is no build none/],
  ['/builds/none/live', 404, /there is no build none/],
  [`/builds/${REF}/logs?step=../../etc/passwd`, 400, /^query\.step: /],
  ['/compare', 400, /^query\.a: /],
  [`/compare?a=${REF}`, 404, /no earlier build/],
  ['/slo/nothing/series', 404, /no objective nothing/],
  ['/runbooks/Nothing', 404, /no runbook Nothing/],
  ['/runbooks/..%2f..%2fpackage', 400, /^path\.name: /],
  ['/nothing', 404, /nothing at \/api\/v1\/nothing/],
] as const) {
  test(`GET ${path.slice(0, 60)} is answered ${status} with what is wrong and what to do`, async () => {
    await using rig = await openRig();
    const response = await fetch(`${rig.url}/api/v1${path}`);
    const { error } = (await response.json()) as { error: { message: string; hint?: string } };
    assert.equal(response.status, status);
    assert.match(error.message, message);
    assert.ok(error.hint !== undefined || status === 404, 'a hint');
    assert.doesNotMatch(JSON.stringify(error), /node_modules|\.ts:\d|at \w+ \(/);
  });
}

test('without a token file nothing can be changed, and the attempt is reported', async () => {
  await using rig = await openRig({ writes: { drain: () => assert.fail('drained') } });
  assert.deepEqual(await rig.post('/drain'), { status: 403, error: 'this port is read-only' });
  assert.deepEqual(
    rig.audited.map(({ act, outcome, actor }) => [act, outcome, actor]),
    [['drain', 'denied', undefined]],
  );
});

test('a known token may change things and is reported by its name; a wrong one and none may not', async () => {
  let drained = 0;
  await using rig = await openRig(
    {
      writes: {
        drain: () => {
          drained += 1;
        },
      },
    },
    { tokens: `# people\nalice ${TOKEN}\n` },
  );
  assert.equal((await rig.post('/drain', { headers: { authorization: '' } })).status, 401);
  assert.equal((await rig.post('/drain', { headers: { authorization: `Bearer ${TOKEN}x` } })).status, 403);
  assert.equal(drained, 0);
  assert.equal((await rig.post('/drain')).status, 200);
  assert.equal(drained, 1);
  assert.deepEqual(
    rig.audited.map(({ outcome, actor }) => [outcome, actor]),
    [
      ['denied', undefined],
      ['denied', undefined],
      ['done', 'alice'],
    ],
  );
  assert.ok(!JSON.stringify(rig.audited).includes(TOKEN), 'the token is in no record');
});

test('tokens are read again when the file changes', async () => {
  await using rig = await openRig({ writes: { drain: () => {} } }, { tokens: `${TOKEN}\n` });
  writeFileSync(rig.tokenFile, `another-token-that-is-long-enough-0123456789\n`);
  assert.equal((await rig.post('/drain')).status, 403);
});

for (const [what, tokens, mode] of [
  ['anybody may read', `${TOKEN}\n`, 0o644],
  ['holds a short token', 'alice secret\n', 0o600],
  ['holds three words', `alice and ${TOKEN}\n`, 0o600],
] as const) {
  test(`a token file that ${what} stops the start`, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'cooper-api-'));
    const tokenFile = join(dir, 'tokens');
    writeFileSync(tokenFile, tokens);
    chmodSync(tokenFile, mode);
    await assert.rejects(openOpsServer({ ...LOCAL, tokenFile }, providers()), (error: Error) => {
      assert.match(error.message, /^cooper\.ops\.token-file: /);
      assert.ok(!error.message.includes(TOKEN));
      return true;
    });
    await rm(dir, { recursive: true });
  });
}

for (const headers of [
  { origin: 'https://evil.example' },
  { origin: 'null' },
  { 'sec-fetch-site': 'cross-site' },
  { 'sec-fetch-site': 'same-site' },
]) {
  test(`a write with ${JSON.stringify(headers)} is refused, token or not`, async () => {
    await using rig = await openRig({ writes: { drain: () => assert.fail('drained') } }, { tokens: `${TOKEN}\n` });
    assert.deepEqual(await rig.post('/drain', { headers }), {
      status: 403,
      error: 'a page of another origin may not change anything here',
    });
  });
}

test('a write of the page itself passes', async () => {
  await using rig = await openRig({ writes: { drain: () => {} } }, { tokens: `${TOKEN}\n` });
  assert.equal((await rig.post('/drain', { headers: { origin: rig.url, 'sec-fetch-site': 'same-origin' } })).status, 200);
});

for (const [what, body, headers, status, message] of [
  ['that is not JSON', '{', {}, 400, /^body: /],
  ['of another type', '{}', { 'content-type': 'text/plain' }, 415, /^body: not JSON/],
  ['that is too large', `{"filters": ["${'x'.repeat(70_000)}"]}`, {}, 413, /^body: larger/],
  ['with a wrong field', '{"keepSeconds": -1}', {}, 400, /^body\.keepSeconds: /],
  ['with an unknown field', '{"everything": true}', {}, 400, /^body: /],
] as const) {
  test(`a body ${what} is refused`, async () => {
    await using rig = await openRig({ writes: { prune: async () => assert.fail('pruned') } }, { tokens: `${TOKEN}\n` });
    const answer = await rig.post('/cache/prune', { body, headers });
    assert.equal(answer.status, status);
    assert.match(answer.error, message);
  });
}

test('a prune gets its order, and a write the daemon has no function for says so', async () => {
  const orders: unknown[] = [];
  await using rig = await openRig(
    { writes: { prune: async (order) => ({ removed: orders.push(order), bytes: 5 }) } },
    { tokens: `${TOKEN}\n` },
  );
  assert.equal((await rig.post('/cache/prune', { body: '{"keepBytes": 7, "filters": ["type==regular"]}' })).status, 200);
  assert.deepEqual(orders, [{ all: false, filters: ['type==regular'], keepSeconds: 0, keepBytes: 7 }]);
  assert.equal((await rig.post('/gc/run')).status, 501);
});

/** fetch sets Host itself. */
async function statusWithHost(url: string, host: string): Promise<number> {
  const call = request(`${url}/livez`, { headers: { host } });
  call.end();
  const [response] = await once(call, 'response');
  response.resume();
  return response.statusCode;
}

test('on loopback the port answers to localhost, addresses and configured names only, so that no name can be rebound to it', async () => {
  await using rig = await openRig({}, { allowedHosts: ['cooper.internal'] });
  const statuses = await Promise.all(
    ['localhost:8470', '127.0.0.1', '[::1]:8470', '10.0.0.7:80', 'Cooper.Internal', 'evil.example', 'localhost.evil.example'].map(
      (host) => statusWithHost(rig.url, host),
    ),
  );
  assert.deepEqual(statuses, [200, 200, 200, 200, 200, 421, 421]);
});

test('a live view sends the whole document, then only what changed, and ends with the server', async () => {
  let running = 0;
  const base = providers().status();
  const rig = await openRig({ status: () => ({ ...base, builds: { ...base.builds, running } }) });
  const response = await fetch(`${rig.url}/api/v1/live`);
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
  const events = eventsOf(response);
  const { value: all } = await events.next();
  assert.equal(all?.event, 'all');
  assert.deepEqual(Object.keys(all?.data.set ?? {}).sort(), ['alerts', 'builds', 'slo', 'status']);
  running = 3;
  const { value: change } = await events.next();
  assert.equal(change?.event, 'change');
  assert.deepEqual(Object.keys(change?.data.set ?? {}), ['status']);
  await rig[Symbol.asyncDispose]();
  assert.equal((await events.next()).done, true);
});

test('the live view of a finished build ends by itself', async () => {
  await using rig = await openRig();
  const events = [];
  for await (const event of eventsOf(await fetch(`${rig.url}/api/v1/builds/${REF}/live`))) events.push(event);
  assert.deepEqual(
    events.map(({ event }) => event),
    ['all', 'end'],
  );
  assert.deepEqual(Object.keys(events[0]?.data.set ?? {}), ['build', 'totals', 'a', 'b']);
});

test('one view more than the bound is refused with a hint when to come back', async () => {
  await using rig = await openRig();
  const open = await Promise.all(Array.from({ length: 64 }, () => fetch(`${rig.url}/api/v1/live`)));
  const refused = await fetch(`${rig.url}/api/v1/live`);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get('retry-after'), '5');
  await Promise.all(open.map((response) => response.body?.cancel()));
});

test('logs are text for tools and events for the page, of one step when asked', async () => {
  await using rig = await openRig();
  assert.equal(await (await fetch(`${rig.url}/api/v1/builds/${REF}/logs`)).text(), 'hello\nworld\n');
  assert.equal(await (await fetch(`${rig.url}/api/v1/builds/${REF}/logs?step=sha256:00`)).text(), '');
  const names = [];
  for await (const { event } of eventsOf(await fetch(`${rig.url}/api/v1/builds/${REF}/logs/live`))) names.push(event);
  assert.deepEqual(names, ['lines', 'end']);
});

test('a client that does not read its log stream is dropped and what feeds it is let go', { timeout: 60_000 }, async () => {
  const freed = Promise.withResolvers<number>();
  async function* endless() {
    let sent = 0;
    try {
      for (;;) {
        yield* linesOf('x'.repeat(64 * 1024));
        sent += 1;
      }
    } finally {
      freed.resolve(sent);
    }
  }
  await using rig = await openRig({ logs: () => endless() });
  const { port } = new URL(rig.url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`GET /api/v1/builds/${REF}/logs/live HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  socket.pause();
  const sent = await freed.promise;
  assert.ok(sent < 2_000, `${sent} pieces of 64 KiB were taken in for a client that reads none`);
  socket.destroy();
});

test('runbooks are rendered with their HTML as text and without images', async () => {
  const text =
    '---\nalert: CooperTest\nowner: us\n---\n# T\n<script>alert(1)</script> ![x](http://evil/x.png) [y](javascript:alert(1)) [z](CooperOther.md)';
  await using rig = await openRig({ runbook: async () => text });
  const { html, facts } = (await (await fetch(`${rig.url}/api/v1/runbooks/CooperTest`)).json()) as {
    html: string;
    facts: unknown;
  };
  assert.deepEqual(facts, { alert: 'CooperTest', owner: 'us' });
  assert.doesNotMatch(html, /<script|<img|href="javascript/);
  assert.match(html, /&lt;script&gt;/);
  assert.match(html, /href="#\/runbooks\/CooperOther"/);
});

interface FeedEvent {
  readonly event: string;
  readonly data: { readonly set?: Readonly<Record<string, unknown>> };
}
async function* eventsOf(response: Response): AsyncGenerator<FeedEvent> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      const match = /^event: (\w+)\ndata: (.*)$/.exec(block);
      if (match !== null) yield { event: match[1] ?? '', data: JSON.parse(match[2] ?? '{}') as FeedEvent['data'] };
    }
  }
}
