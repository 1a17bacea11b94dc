import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { type FeedDocument, LiveFeed, openEventStream } from './live-feed.ts';

interface Rig extends AsyncDisposable {
  readonly url: string;
  readonly feed: LiveFeed;
  readonly idle: Promise<void>;
}
async function openRig(compute: () => Promise<FeedDocument | undefined>): Promise<Rig> {
  const idle = Promise.withResolvers<void>();
  const feed = new LiveFeed({
    compute,
    intervalMs: 5,
    onError: (error) => assert.fail(String(error)),
    onIdle: () => idle.resolve(),
  });
  const server: Server = createServer((_request, response) => {
    openEventStream(response);
    feed.add(response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    feed,
    idle: idle.promise,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

test('a client that does not read is dropped at a bound, and then nothing is computed any more', {
  timeout: 60_000,
}, async () => {
  let computed = 0;
  await using rig = await openRig(async () => ({ values: new Map([['n', `${computed++} ${'x'.repeat(256 * 1024)}`]]) }));
  const socket = connect(Number(new URL(rig.url).port), '127.0.0.1');
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
  socket.pause();
  await rig.idle;
  assert.equal(rig.feed.clients, 0);
  assert.ok(computed < 200, `${computed} documents of 256 KiB were kept for a client that reads none`); // what the kernel buffers, and 1 MiB
  const before = computed;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(computed <= before + 1);
  socket.destroy();
});

test('everybody who watches shares one computation, and whoever comes later gets the whole document first', {
  timeout: 60_000,
}, async () => {
  let computing = 0;
  let most = 0;
  let n = 0;
  await using rig = await openRig(async () => {
    computing += 1;
    most = Math.max(most, computing);
    await new Promise((resolve) => setTimeout(resolve, 2));
    computing -= 1;
    n += 1;
    return {
      values: new Map<string, unknown>([
        ['still', 1],
        ['n', n],
      ]),
    };
  });
  const firstEvent = async (): Promise<string> => {
    const reader = (await fetch(rig.url)).body?.getReader();
    let text = '';
    while (!/event: \w+\ndata: .*\n\n/.test(text)) text += new TextDecoder().decode((await reader?.read())?.value);
    await reader?.cancel();
    return /event: (\w+)\ndata: (.*)\n/.exec(text)?.slice(1).join(' ') ?? '';
  };
  const watching = await fetch(rig.url);
  const events = await Promise.all([firstEvent(), firstEvent(), firstEvent()]);
  for (const event of events) assert.match(event, /^all \{"set":\{"still":1,"n":\d+\},"gone":\[\]\}$/);
  assert.equal(most, 1);
  await watching.body?.cancel();
});

test('a document that will not change any more ends the streams with a word', async () => {
  await using rig = await openRig(async () => ({ values: new Map([['a', 1]]), isLast: true }));
  const text = await (await fetch(rig.url)).text();
  assert.equal(text, 'retry: 2000\n\nevent: all\ndata: {"set":{"a":1},"gone":[]}\n\nevent: end\ndata: {}\n\n');
});
