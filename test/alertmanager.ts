/** A real Alertmanager for tests, with a webhook receiver that keeps every notification it sends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, kill, poll } from './prometheus.ts';

export interface Notification {
  /** Last part of the webhook's path, which is the receiver's name in the shipped configuration. */
  readonly receiver: string;
  readonly status: 'firing' | 'resolved';
  readonly groupLabels: Readonly<Record<string, string>>;
  readonly alerts: readonly { readonly labels: Readonly<Record<string, string>>; readonly status: string }[];
}
export interface ActiveAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly inhibited: boolean;
  readonly muted: boolean;
}
export interface Alertmanager extends AsyncDisposable {
  readonly url: string;
  readonly notifications: readonly Notification[];
  /** Hands alerts in as Prometheus does (API v2). They end after `forMs`. */
  post(alerts: readonly { readonly labels: Readonly<Record<string, string>> }[], forMs?: number): Promise<void>;
  alerts(): Promise<ActiveAlert[]>;
  /** Resolves when the condition holds; rejects with the notifications so far after `timeoutMs`. */
  until(satisfied: (notifications: readonly Notification[]) => boolean, timeoutMs?: number): Promise<void>;
}

/** `configuration` is Alertmanager's YAML, in which `webhooks(url)` gives the base address that receivers call. */
export async function startAlertmanager(configuration: (webhooks: string) => string): Promise<Alertmanager> {
  const notifications: Notification[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Notification;
      notifications.push({ ...body, receiver: request.url?.split('/').at(-1) ?? '' });
      response.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  const dir = await mkdtemp(join(tmpdir(), 'cooper-alertmanager-'));
  const webhooks = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await writeFile(join(dir, 'alertmanager.yml'), configuration(webhooks));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(
    'prometheus-alertmanager',
    [
      `--config.file=${join(dir, 'alertmanager.yml')}`,
      `--storage.path=${join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--cluster.listen-address=',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4000);
  });
  const stop = async (): Promise<void> => {
    await kill(child);
    server.closeAllConnections();
    server.close();
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await poll(
      async () => (await fetch(`${url}/-/ready`)).ok,
      30_000,
      () => `Alertmanager did not become ready: ${log}`,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    notifications,
    async post(alerts, forMs = 600_000) {
      const endsAt = new Date(Date.now() + forMs).toISOString();
      const body = JSON.stringify(alerts.map(({ labels }) => ({ labels, annotations: {}, endsAt })));
      const response = await fetch(`${url}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      if (!response.ok) throw new Error(`Alertmanager refused the alerts: ${await response.text()}`);
    },
    async alerts() {
      const answer = (await (await fetch(`${url}/api/v2/alerts`)).json()) as {
        labels: Record<string, string>;
        status: { inhibitedBy: string[]; mutedBy?: string[] };
      }[];
      return answer.map(({ labels, status }) => ({
        labels,
        inhibited: status.inhibitedBy.length > 0,
        muted: (status.mutedBy ?? []).length > 0,
      }));
    },
    async until(satisfied, timeoutMs = 30_000) {
      await poll(
        async () => satisfied(notifications),
        timeoutMs,
        () => `notified so far: ${JSON.stringify(notifications)}`,
      );
    },
    [Symbol.asyncDispose]: stop,
  };
}
