/**
 * A proxy as a process of its own, so that it outlives whoever asked for a fault: `node proxy-main.ts HOST:PORT [NAME=LISTEN>UPSTREAM …]`.
 * Prints its addresses as one JSON line when it is ready. Ends with SIGTERM.
 */
import { splitAddress } from './fault-proxy-address.ts';
import { callProxy } from './inject.ts';
import { startProxyService } from './proxy-api.ts';

const [api = '127.0.0.1:8474', ...proxies] = process.argv.slice(2);
const [host, port] = splitAddress(api);
const service = await startProxyService({ host, port: Number(port) });
const listens: Record<string, unknown> = {};
for (const text of proxies) {
  const [, name = '', listen = '', upstream = ''] = /^([^=]+)=([^>]+)>(.+)$/.exec(text) ?? [];
  const made = (await callProxy(service.url, 'POST', '/proxies', { name, listen, upstream })) as { readonly listen: string };
  listens[name] = made.listen;
}
process.stdout.write(`${JSON.stringify({ api: service.url, proxies: listens })}\n`);
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => void service[Symbol.asyncDispose]().then(() => process.exit(0)));
