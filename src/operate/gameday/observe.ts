/** What the runner sees of the system: Prometheus, Alertmanager, the webhooks it owns, and its own builds. Nothing here judges. */

import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

type Labels = Readonly<Record<string, string>>;
export interface SeenAlert {
  readonly labels: Labels;
  readonly state: 'pending' | 'firing';
  readonly activeAtMs: number;
  readonly value: number;
}
export interface RoutedAlert {
  readonly labels: Labels;
  readonly startsAtMs: number;
  readonly inhibited: boolean;
  readonly receivers: readonly string[];
}
export interface SeenNotification {
  readonly receiver: string;
  readonly status: 'firing' | 'resolved';
  readonly atMs: number;
  readonly groupKey: string;
  readonly alerts: readonly { readonly labels: Labels; readonly status: string; readonly startsAtMs: number }[];
}
export interface SeenBuild {
  readonly ref: string;
  readonly startedMs: number;
  readonly endedMs: number;
  /** `success`, or the kind of error. */
  readonly outcome: string;
  readonly fault?: 'user' | 'system' | 'dependency';
  readonly message?: string;
}
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}
export interface Observation {
  readonly atMs: number;
  readonly phase: 'fault' | 'recovery';
  readonly injectMs: number;
  readonly healMs: number | undefined;
  /** Undefined: Prometheus did not answer. */
  readonly alerts: readonly SeenAlert[] | undefined;
  /** Undefined: Alertmanager did not answer. */
  readonly routed: readonly RoutedAlert[] | undefined;
  readonly notifications: readonly SeenNotification[];
  readonly builds: readonly SeenBuild[];
}

const ANSWER_MS = 3_000;
async function json<T>(url: string): Promise<T> {
  const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
  const body = (await response.json()) as { status?: string; error?: string };
  if (!response.ok || body.status === 'error') throw new Error(body.error ?? `${url}: ${response.status}`);
  return body as T;
}

/** Alerts as Prometheus has them; undefined when it does not answer. */
export async function alertsOf(prometheus: string): Promise<SeenAlert[] | undefined> {
  try {
    const { data } = await json<{
      data: { alerts: { labels: Record<string, string>; state: 'pending' | 'firing'; activeAt: string; value: string }[] };
    }>(`${prometheus}/api/v1/alerts`);
    return data.alerts.map(({ labels, state, activeAt, value }) => ({
      labels,
      state,
      activeAtMs: Date.parse(activeAt),
      value: Number(value),
    }));
  } catch {
    return undefined;
  }
}

export async function routedOf(alertmanager: string): Promise<RoutedAlert[] | undefined> {
  try {
    const answer = await json<
      {
        labels: Record<string, string>;
        startsAt: string;
        status: { inhibitedBy: string[] };
        receivers: { name: string }[];
      }[]
    >(`${alertmanager}/api/v2/alerts`);
    return answer.map(({ labels, startsAt, status, receivers }) => ({
      labels,
      startsAtMs: Date.parse(startsAt),
      inhibited: status.inhibitedBy.length > 0,
      receivers: receivers.map(({ name }) => name),
    }));
  } catch {
    return undefined;
  }
}

/** Rejects with Prometheus' words when it refuses the query or does not answer. */
export async function queryPrometheus(prometheus: string, expr: string): Promise<Sample[]> {
  const { data } = await json<{ data: { result: { metric: Record<string, string>; value: [number, string] }[] } }>(
    `${prometheus}/api/v1/query?${new URLSearchParams({ query: expr })}`,
  );
  return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}

/** Hands alerts to Alertmanager as Prometheus does; they end after `forMs`. */
export async function postAlerts(alertmanager: string, alerts: readonly Labels[], forMs: number): Promise<void> {
  const endsAt = new Date(Date.now() + forMs).toISOString();
  await fetch(`${alertmanager}/api/v2/alerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(alerts.map((labels) => ({ labels, annotations: { summary: 'probe of a game day' }, endsAt }))),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
}

export interface WebhookReceiver extends AsyncDisposable {
  readonly url: string;
  readonly notifications: readonly SeenNotification[];
}
/** Keeps every notification that Alertmanager sends; the last part of the path is the receiver's name. */
export async function receiveWebhooks(): Promise<WebhookReceiver> {
  const notifications: SeenNotification[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as {
        status: 'firing' | 'resolved';
        groupKey: string;
        alerts: { labels: Record<string, string>; status: string; startsAt: string }[];
      };
      notifications.push({
        receiver: request.url?.split('/').at(-1) ?? '',
        status: body.status,
        groupKey: body.groupKey,
        atMs: Date.now(),
        alerts: body.alerts.map(({ labels, status, startsAt }) => ({ labels, status, startsAtMs: Date.parse(startsAt) })),
      });
      response.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    notifications,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}
