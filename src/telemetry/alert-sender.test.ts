import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { type AlertReceiver, AlertSender, type OwnAlert } from './alert-sender.ts';

interface Payload {
  readonly status: string;
  readonly alerts: readonly { readonly status: string; readonly labels: Record<string, string>; readonly startsAt: string }[];
}
interface Hook extends AsyncDisposable {
  readonly url: string;
  readonly got: { readonly path: string; readonly authorization: string | undefined; readonly body: unknown }[];
  /** Of the request of that number; none when it has not come. */
  alerts(index: number): Payload['alerts'];
  until(satisfied: () => boolean): Promise<void>;
}

/** A receiver that answers with one status after another, the last one for ever; undefined never answers. */
async function hook(...answers: (number | undefined)[]): Promise<Hook> {
  const got: Hook['got'] = [];
  const waiting = new Set<() => void>();
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const status = answers.length > 1 ? answers.shift() : answers[0];
      got.push({
        path: request.url ?? '',
        authorization: request.headers.authorization,
        body: JSON.parse(Buffer.concat(chunks).toString()),
      });
      if (status !== undefined) response.writeHead(status).end();
      for (const wake of waiting) wake();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    got,
    alerts: (index) => (got[index] === undefined ? [] : (got[index].body as Payload).alerts),
    until: async (satisfied) => {
      while (!satisfied()) {
        await new Promise<void>((resolve) => waiting.add(resolve));
        waiting.clear();
      }
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

const alert = (alertname: string): OwnAlert => ({ labels: { alertname }, annotations: { summary: 's' } });
function sender(receivers: readonly AlertReceiver[], firing: () => readonly OwnAlert[]) {
  const sent: string[] = [];
  const dropped: number[] = [];
  const opened = new AlertSender({
    receivers,
    firing: async () => firing(),
    pageUrl: 'http://page',
    onSent: ({ kind }, error) => void sent.push(`${kind} ${error === undefined ? 'ok' : 'error'}`),
    onDropped: (count) => void dropped.push(count),
    onError: (error) => assert.fail(String(error)),
    everyMs: 20,
  });
  return { sent, dropped, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

test('a webhook hears when an alert begins and when it ends, once each', async () => {
  await using receiver = await hook(200);
  let firing: OwnAlert[] = [alert('A'), alert('B')];
  await using _ = sender([{ kind: 'webhook', url: receiver.url }], () => firing);
  await receiver.until(() => receiver.got.length === 1);
  firing = [alert('B')];
  await receiver.until(() => receiver.got.length === 2);
  const told = receiver.got.map(({ body }) =>
    (body as Payload).alerts.map(({ labels, status }) => `${labels.alertname} ${status}`),
  );
  assert.deepEqual(told, [
    ['A firing', 'B firing'],
    ['B firing', 'A resolved'],
  ]);
  const [first, second] = receiver.got.map(({ body }) => (body as Payload).alerts.find(({ labels }) => labels.alertname === 'B'));
  assert.equal(second?.startsAt, first?.startsAt);
});

test('a receiver that fails is tried again and then told the state of that moment, an end included', async () => {
  await using receiver = await hook(500, 200);
  let firing: OwnAlert[] = [alert('A')];
  await using own = sender([{ kind: 'webhook', url: receiver.url }], () => firing);
  await receiver.until(() => receiver.got.length === 1);
  firing = [];
  await receiver.until(() => receiver.got.length === 2);
  assert.deepEqual(
    receiver.alerts(1).map(({ status }) => status),
    ['resolved'],
  );
  assert.equal(own.sent[0], 'webhook error');
});

test('one receiver that never answers and one that is not there keep nothing from the others, nor from stopping', async () => {
  await using silent = await hook(undefined);
  await using receiver = await hook(200);
  const gone = await hook(200);
  await gone[Symbol.asyncDispose]();
  const receivers = [silent.url, gone.url, receiver.url].map((url) => ({ kind: 'alertmanager' as const, url }));
  {
    await using _ = sender(receivers, () => [alert('A')]);
    await receiver.until(() => receiver.got.length === 1);
    await silent.until(() => silent.got.length === 1);
  }
  assert.equal(receiver.got[0]?.path, '/api/v2/alerts');
  assert.equal(silent.got.length, 1, 'one request at a time');
});

test('a password in the address is sent as a header, below a path prefix too', async () => {
  await using receiver = await hook(200);
  const url = receiver.url.replace('http://', 'http://user:pa%3Ass@');
  await using _ = sender([{ kind: 'alertmanager', url: `${url}/am/` }], () => [alert('A')]);
  await receiver.until(() => receiver.got.length === 1);
  assert.equal(receiver.got[0]?.path, '/am/api/v2/alerts');
  assert.equal(receiver.got[0]?.authorization, `Basic ${btoa('user:pa:ss')}`);
});

test('more alerts than anybody reads are cut and counted', async () => {
  await using receiver = await hook(200);
  const many = Array.from({ length: 300 }, (_, index) => alert(`A${index}`));
  await using own = sender([{ kind: 'webhook', url: receiver.url }], () => many);
  await receiver.until(() => receiver.got.length === 1);
  assert.equal(receiver.alerts(0).length, 256);
  assert.equal(own.dropped[0], 44);
});
