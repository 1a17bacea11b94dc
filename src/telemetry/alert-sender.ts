/**
 * Sends the alerts of a daemon without Prometheus: to Alertmanagers (API v2, as Prometheus does) and to webhooks (the payload of
 * Alertmanager's own webhooks, version 4). Alerts are a state, so there is no queue to fill: each receiver is told the latest state, one
 * request at a time, and what ended is remembered until it is told or too old. Nothing waits for a receiver.
 */
export interface OwnAlert {
  /** With `alertname`; what tells alerts apart and routes them. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** RFC 3339; absent: since it was first seen. */
  readonly startsAt?: string;
}
export interface AlertReceiver {
  readonly kind: 'alertmanager' | 'webhook';
  /** http or https; a user and password in it are sent as basic authentication. */
  readonly url: string;
}
export interface AlertSenderOptions {
  readonly receivers: readonly AlertReceiver[];
  /** What fires now. */
  readonly firing: () => Promise<readonly OwnAlert[]>;
  /** The page of this daemon, which notifications link to. */
  readonly pageUrl: string;
  /** A receiver was told, or could not be. `error` is undefined when it was. */
  readonly onSent: (receiver: AlertReceiver, error: Error | undefined) => void;
  readonly onDropped: (count: number, reason: 'over_limit' | 'export_failed') => void;
  readonly onError: (error: unknown) => void;
  /** Milliseconds between two looks at what fires. */
  readonly everyMs?: number;
  /** A receiver is told this often although nothing has changed. */
  readonly resendMs?: Readonly<Record<AlertReceiver['kind'], number>>;
}

const EVERY_MS = 15_000;
/** Alertmanager forgets what is not repeated; people do not want to hear it every minute. */
const RESEND_MS: Required<AlertSenderOptions>['resendMs'] = { alertmanager: 60_000, webhook: 4 * 3_600_000 };
/** As Prometheus: an alert ends by itself when four repetitions were missed, so a daemon that dies leaves none behind. */
const ENDS_AFTER = 4;
const TIMEOUT_MS = 10_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;
const KEEP_ENDED_MS = 900_000;
const MAX_ALERTS = 256;

interface Kept extends OwnAlert {
  readonly startsAt: string;
  /** RFC 3339; set once it no longer fires. */
  readonly endsAt?: string;
}

export class AlertSender implements AsyncDisposable {
  readonly #options: AlertSenderOptions;
  readonly #channels: readonly Channel[];
  #firing = new Map<string, Kept>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  /** Looks for the first time at once. */
  constructor(options: AlertSenderOptions) {
    this.#options = options;
    this.#channels = options.receivers.map((receiver) => new Channel(receiver, options));
    const look = (): void => {
      this.#looking = this.#look().catch(options.onError);
    };
    look();
    this.#timer = setInterval(look, options.everyMs ?? EVERY_MS).unref();
  }

  async #look(): Promise<void> {
    const now = new Date().toISOString();
    const all = await this.#options.firing();
    if (all.length > MAX_ALERTS) this.#options.onDropped(all.length - MAX_ALERTS, 'over_limit');
    const firing = new Map<string, Kept>();
    for (const alert of all.slice(0, MAX_ALERTS)) {
      const key = keyOf(alert.labels);
      firing.set(key, { ...alert, startsAt: alert.startsAt ?? this.#firing.get(key)?.startsAt ?? now });
    }
    const ended = [...this.#firing].filter(([key]) => !firing.has(key)).map(([, alert]) => ({ ...alert, endsAt: now }));
    this.#firing = firing;
    for (const channel of this.#channels) channel.update([...firing.values()], ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    for (const channel of this.#channels) channel.close();
  }
}

/** One receiver: what it has been told, and what it has still to be told. */
class Channel {
  readonly #receiver: AlertReceiver;
  readonly #options: AlertSenderOptions;
  readonly #closing = new AbortController();
  #firing: readonly Kept[] = [];
  readonly #ended = new Map<string, Kept>();
  #toldKeys = '';
  #toldMs = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #sending = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(receiver: AlertReceiver, options: AlertSenderOptions) {
    this.#receiver = receiver;
    this.#options = options;
  }

  update(firing: readonly Kept[], ended: readonly Kept[]): void {
    this.#firing = firing;
    for (const alert of firing) this.#ended.delete(keyOf(alert.labels));
    for (const alert of ended) this.#ended.set(keyOf(alert.labels), alert);
    this.#forgetOld();
    if (this.#retry === undefined && this.#isDue()) void this.#send();
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#closing.abort();
  }

  #forgetOld(): void {
    const before = this.#ended.size;
    for (const [key, { endsAt = '' }] of this.#ended)
      if (Date.now() - Date.parse(endsAt) > KEEP_ENDED_MS || this.#ended.size > MAX_ALERTS) this.#ended.delete(key);
    if (this.#ended.size < before) this.#options.onDropped(before - this.#ended.size, 'export_failed');
  }

  #isDue(): boolean {
    if (this.#ended.size > 0 || keysOf(this.#firing) !== this.#toldKeys) return true;
    return this.#firing.length > 0 && Date.now() - this.#toldMs >= this.#resendMs();
  }

  #resendMs(): number {
    return (this.#options.resendMs ?? RESEND_MS)[this.#receiver.kind];
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    const [firing, ended] = [this.#firing, [...this.#ended]];
    const error = await this.#post(
      firing,
      ended.map(([, alert]) => alert),
    ).then(
      () => undefined,
      (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason))),
    );
    this.#sending = false;
    if (this.#closing.signal.aborted) return;
    this.#options.onSent(this.#receiver, error);
    if (error !== undefined) return this.#later();
    this.#failures = 0;
    this.#toldMs = Date.now();
    this.#toldKeys = keysOf(firing);
    // What fired again meanwhile is in neither set as it was.
    for (const [key, alert] of ended) if (this.#ended.get(key) === alert) this.#ended.delete(key);
    if (this.#isDue()) void this.#send();
  }

  /** Tries again after 1 s, 2 s, 4 s ... a minute, each shortened by up to a half, so that daemons do not knock together. */
  #later(): void {
    const ms = Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LAST_RETRY_MS);
    this.#failures = Math.min(this.#failures + 1, 10);
    this.#retry = setTimeout(
      () => {
        this.#retry = undefined;
        if (this.#isDue()) void this.#send();
      },
      ms * (1 - Math.random() / 2),
    ).unref();
  }

  async #post(firing: readonly Kept[], ended: readonly Kept[]): Promise<void> {
    const { kind } = this.#receiver;
    const url = new URL(this.#receiver.url);
    const { username, password } = url;
    [url.username, url.password] = ['', ''];
    if (kind === 'alertmanager') url.pathname = `${url.pathname.replace(/\/$/, '')}/api/v2/alerts`;
    const body = kind === 'alertmanager' ? this.#alertmanagerBody([...ended, ...firing]) : this.#webhookBody(firing, ended);
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'cooper',
        ...(username !== '' && { authorization: `Basic ${btoa(decodeURIComponent(`${username}:${password}`))}` }),
      },
      body: JSON.stringify(body),
      redirect: 'error',
      signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), this.#closing.signal]),
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`${url.host} answered ${response.status}`);
  }

  #alertmanagerBody(alerts: readonly Kept[]): object {
    const untilMs = Date.now() + ENDS_AFTER * this.#resendMs();
    return alerts.map(({ labels, annotations, startsAt, endsAt }) => ({
      ...{ labels, annotations, startsAt, endsAt: endsAt ?? new Date(untilMs).toISOString() },
      generatorURL: this.#options.pageUrl,
    }));
  }

  #webhookBody(firing: readonly Kept[], ended: readonly Kept[]): object {
    const alerts = [...firing, ...ended].map(({ labels, annotations, startsAt, endsAt }) => ({
      status: endsAt === undefined ? 'firing' : 'resolved',
      ...{ labels, annotations, startsAt, endsAt: endsAt ?? '0001-01-01T00:00:00Z' },
      generatorURL: this.#options.pageUrl,
      fingerprint: keyOf(labels),
    }));
    return {
      version: '4',
      groupKey: '{}:{}',
      truncatedAlerts: 0,
      status: firing.length > 0 ? 'firing' : 'resolved',
      receiver: 'cooper',
      ...{ groupLabels: {}, commonLabels: {}, commonAnnotations: {} },
      externalURL: this.#options.pageUrl,
      alerts,
    };
  }
}

/** The same for the same labels in any order. */
const keyOf = (labels: OwnAlert['labels']): string => JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
const keysOf = (alerts: readonly OwnAlert[]): string =>
  alerts
    .map(({ labels }) => keyOf(labels))
    .sort()
    .join('\n');
