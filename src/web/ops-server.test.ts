import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { BuildError } from '../core/errors.ts';
import type { SloReport } from '../slo/report.ts';
import { DETAIL, providers, SLO } from './ops-providers.test-rig.ts';
import type { OpsProviders } from './ops-providers.ts';
import { openOpsServer } from './ops-server.ts';

const BUILD = DETAIL;
const open = (change: Partial<OpsProviders> = {}) => openOpsServer({ host: '127.0.0.1', port: 0 }, providers(change));

test('metrics are served in the format the scraper asks for', async () => {
  await using server = await open();
  const plain = await fetch(`${server.url}/metrics`);
  assert.equal(plain.headers.get('content-type'), 'text/plain');
  assert.equal(await plain.text(), 'm 1\n');
  const openMetrics = await fetch(`${server.url}/metrics`, { headers: { accept: 'application/openmetrics-text;version=1.0.0' } });
  assert.equal(openMetrics.headers.get('content-type'), 'application/openmetrics-text');
});

test('liveness holds while readiness says what is missing', async () => {
  await using server = await open({ ready: () => [{ name: 'admission', ok: false, detail: 'draining' }] });
  assert.equal((await fetch(`${server.url}/livez`)).status, 200);
  const ready = await fetch(`${server.url}/readyz`);
  assert.equal(ready.status, 503);
  assert.deepEqual(await ready.json(), {
    ready: false,
    pid: process.pid,
    checks: [{ name: 'admission', ok: false, detail: 'draining' }],
  });
});

test('objectives, builds, one build and its trace are JSON', async () => {
  await using server = await open();
  const json = async (path: string): Promise<unknown> => (await fetch(server.url + path)).json();
  const ref = encodeURIComponent(BUILD.ref);
  assert.deepEqual(await json('/slo'), SLO);
  const { builds } = (await json('/api/v1/builds?limit=1')) as { builds: { ref: string }[] };
  assert.deepEqual(
    builds.map((build) => build.ref),
    [BUILD.ref],
  );
  assert.deepEqual(await json(`/api/v1/builds/${ref}`), BUILD);
  assert.deepEqual(await json(`/api/v1/builds/${ref}/trace`), { spans: [{ name: 'BUILD app', traceId: 't', spanId: 'root' }] });
});

for (const [path, status, kind] of [
  ['/api/v1/builds/none', 404, 'not-found'],
  ['/api/v1/builds/none/trace', 404, 'not-found'],
  ['/api/v1/builds?limit=0', 400, 'invalid-input'],
  ['/api/v1/builds?limit=1e9', 400, 'invalid-input'],
  ['/api/v1/builds/%E0%A4%A', 400, 'invalid-input'],
  ['/etc/passwd', 404, 'not-found'],
  ['/..%2f..%2fetc%2fpasswd', 404, 'not-found'],
] as const) {
  test(`GET ${path} answers ${status} as JSON`, async () => {
    await using server = await open();
    const response = await fetch(server.url + path);
    assert.equal(response.status, status);
    assert.equal(((await response.json()) as { error: { kind: string } }).error.kind, kind);
  });
}

test('an error of ours is logged whole and shown without its inside', async () => {
  const errors: unknown[] = [];
  const secret = new Error('password=hunter2');
  await using server = await open({
    slo: () => Promise.reject(secret),
    builds: () => {
      throw new BuildError('unavailable', 'history is busy');
    },
    onError: (error) => errors.push(error),
  });
  const slo = await fetch(`${server.url}/slo`);
  assert.equal(slo.status, 500);
  assert.doesNotMatch(await slo.text(), /hunter2/);
  assert.equal((await fetch(`${server.url}/api/v1/builds`)).status, 503);
  assert.equal(errors[0], secret);
  assert.equal(errors.length, 2);
});

for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
  test(`${method} is refused where there is nothing to change`, async () => {
    await using server = await open();
    for (const path of ['/', '/api/v1/status', '/slo']) {
      const response = await fetch(server.url + path, { method });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get('allow'), 'GET, HEAD');
    }
  });
}

test('every answer carries the security headers, errors included', async () => {
  await using server = await open();
  for (const path of ['/', '/metrics', '/nothing']) {
    const { headers } = await fetch(server.url + path);
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('x-frame-options'), 'DENY');
    assert.equal(headers.get('x-powered-by'), null);
    assert.equal(headers.get('cache-control'), 'no-store');
  }
});

test('a port that is taken is a clear error', async () => {
  await using server = await open();
  const port = Number(new URL(server.url).port);
  await assert.rejects(openOpsServer({ host: '127.0.0.1', port }, providers()), (error: BuildError) => {
    assert.equal(error.kind, 'unavailable');
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port} is held by process ${process.pid} `));
    return true;
  });
});

test('closing lets an answer finish and does not wait for a connection that only sits there', async () => {
  const answer = Promise.withResolvers<SloReport>();
  const server = await open({ slo: () => answer.promise });
  const idle = connect(Number(new URL(server.url).port), '127.0.0.1');
  await new Promise((resolve) => idle.once('connect', resolve));
  const pending = fetch(`${server.url}/slo`);
  await fetch(`${server.url}/livez`);
  const closed = server[Symbol.asyncDispose]();
  answer.resolve(SLO);
  assert.deepEqual(await (await pending).json(), SLO);
  await closed;
  idle.destroy();
  await assert.rejects(fetch(`${server.url}/livez`));
});
