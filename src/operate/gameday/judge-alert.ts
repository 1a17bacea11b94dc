/** Judges of one expected alert: it fires in time, is labelled, routed and grouped as it should, inhibits what it explains, and resolves. */
import type { Expectation } from './game.ts';
import { Judge, type Surroundings } from './judge.ts';
import type { Observation, SeenAlert } from './observe.ts';

type ExpectedAlert = Extract<Expectation, { kind: 'alert' }>;

/** The alert as it fires because of the fault: one that was there before the injection is another. */
const firing = (seen: Observation, name: string): SeenAlert | undefined =>
  seen.alerts?.find(
    ({ labels, state, activeAtMs }) => labels.alertname === name && state === 'firing' && activeAtMs >= seen.injectMs,
  );

export function alertJudges(expected: ExpectedAlert, around: Surroundings): Judge[] {
  const { alert, severity, routedTo, grouped, inhibits, resolvesWithinMs } = expected;
  const fires = new Fires(alert, around.realMs(expected.withinMs));
  return [
    fires,
    ...(severity === undefined ? [] : [new HasSeverity(fires, severity)]),
    ...(routedTo === undefined ? [] : [new IsRouted(fires, routedTo, around)]),
    ...(grouped === undefined ? [] : [new IsGrouped(fires, grouped, around)]),
    ...inhibits.map((target) => new Inhibits(fires, target, around)),
    ...(resolvesWithinMs === undefined ? [] : [new Resolves(fires, around.realMs(resolvesWithinMs))]),
  ];
}

class Fires extends Judge {
  readonly alert: string;
  readonly #withinMs: number;
  found: SeenAlert | undefined;
  foundMs = 0;
  constructor(alert: string, withinMs: number) {
    super(`${alert} fires`, 'fault');
    this.alert = alert;
    this.#withinMs = withinMs;
  }
  look(seen: Observation): void {
    if (this.decided) return;
    const found = firing(seen, this.alert);
    if (found !== undefined && seen.healMs === undefined) {
      this.found = found;
      this.foundMs = seen.atMs;
      const sinceMs = Math.round(seen.atMs - seen.injectMs);
      return this.decide(
        'pass',
        `ALERTS${JSON.stringify(found.labels)} = ${found.value}, ${sinceMs} ms after the injection`,
        seen.atMs,
      );
    }
    const old = seen.alerts?.find(({ labels, activeAtMs }) => labels.alertname === this.alert && activeAtMs < seen.injectMs);
    const pending = seen.alerts?.find(({ labels }) => labels.alertname === this.alert);
    const evidence =
      old !== undefined
        ? 'it was active before the injection, which does not count'
        : seen.alerts === undefined
          ? 'Prometheus does not answer'
          : pending === undefined
            ? `ALERTS{alertname="${this.alert}"}: nothing`
            : 'only pending';
    if (seen.atMs - seen.injectMs > this.#withinMs || seen.healMs !== undefined)
      this.decide('fail', `${evidence} after ${Math.round(seen.atMs - seen.injectMs)} ms`, seen.atMs);
    else this.note(evidence);
  }
}

/** What is said of an alert that did not fire cannot be judged. */
abstract class OfAlert extends Judge {
  protected readonly fires: Fires;
  constructor(id: string, during: Judge['during'], fires: Fires) {
    super(id, during);
    this.fires = fires;
  }
  async look(seen: Observation): Promise<void> {
    if (this.decided) return;
    if (this.fires.verdict === 'fail') this.decide('unevaluated', `${this.fires.alert} did not fire`, seen.atMs);
    else if (this.fires.found !== undefined) await this.judge(seen, this.fires.found);
  }
  protected abstract judge(seen: Observation, alert: SeenAlert): void | Promise<void>;
}

class HasSeverity extends OfAlert {
  readonly #severity: string;
  constructor(fires: Fires, severity: string) {
    super(`${fires.alert} has severity ${severity}`, 'fault', fires);
    this.#severity = severity;
  }
  protected judge(seen: Observation, { labels }: SeenAlert): void {
    this.decide(labels.severity === this.#severity ? 'pass' : 'fail', `severity=${labels.severity}`, seen.atMs);
  }
}

const PATIENCE_MS = 15_000; // a loaded machine between firing and notification, beside the group's wait

class IsRouted extends OfAlert {
  readonly #receiver: string;
  readonly #around: Surroundings;
  constructor(fires: Fires, receiver: string, around: Surroundings) {
    super(`${fires.alert} is routed to ${receiver}`, 'fault', fires);
    this.#receiver = receiver;
    this.#around = around;
  }
  protected judge(seen: Observation): void {
    const heard = receiversOf(seen, this.fires.alert, this.#around.ownsWebhooks);
    const evidence = `told to ${heard.length === 0 ? 'nobody' : heard.join(', ')}`;
    if (heard.length > 0) this.decide(heard.every((name) => name === this.#receiver) ? 'pass' : 'fail', evidence, seen.atMs);
    else if (seen.atMs - this.fires.foundMs > PATIENCE_MS + this.#around.realMs(60_000)) this.decide('fail', evidence, seen.atMs);
    else this.note(evidence);
  }
}

function receiversOf(seen: Observation, alert: string, webhooks: boolean): string[] {
  const names = webhooks
    ? notificationsOf(seen, alert).map(({ receiver }) => receiver)
    : (seen.routed ?? [])
        .filter(({ labels, startsAtMs, inhibited }) => labels.alertname === alert && startsAtMs >= seen.injectMs && !inhibited)
        .flatMap(({ receivers }) => receivers);
  return [...new Set(names)];
}

const notificationsOf = (seen: Observation, alert: string): Observation['notifications'] =>
  seen.notifications.filter(({ alerts }) =>
    alerts.some(
      ({ labels, startsAtMs, status }) =>
        labels.alertname === alert && status === 'firing' && startsAtMs >= seen.injectMs && labels.gameday_probe === undefined,
    ),
  );

class IsGrouped extends OfAlert {
  readonly #groups: number;
  readonly #around: Surroundings;
  constructor(fires: Fires, groups: number, around: Surroundings) {
    super(`${fires.alert} comes in ${groups === 1 ? 'one group' : `${groups} groups`}`, 'fault', fires);
    this.#groups = groups;
    this.#around = around;
  }
  protected judge(seen: Observation): void {
    if (!this.#around.ownsWebhooks)
      return this.decide('unevaluated', 'notifications of a foreign Alertmanager are not seen', seen.atMs);
    const keys = [...new Set(notificationsOf(seen, this.fires.alert).map(({ groupKey }) => groupKey))];
    if (keys.length === 0) {
      if (seen.atMs - this.fires.foundMs > PATIENCE_MS + this.#around.realMs(60_000))
        this.decide('fail', 'no notification came', seen.atMs);
      return;
    }
    this.decide(keys.length === this.#groups ? 'pass' : 'fail', `groups: ${keys.join(' ')}`, seen.atMs);
  }
}

/** Where the other alert does not fire by itself, a probe with the labels of its rule is handed to our own Alertmanager. */
class Inhibits extends OfAlert {
  readonly #target: string;
  readonly #around: Surroundings;
  #probedMs: number | undefined;
  constructor(fires: Fires, target: string, around: Surroundings) {
    super(`${fires.alert} inhibits ${target}`, 'fault', fires);
    this.#target = target;
    this.#around = around;
  }
  protected async judge(seen: Observation, { labels }: SeenAlert): Promise<void> {
    if (seen.routed?.some((one) => one.labels.alertname === this.fires.alert) !== true) {
      if (seen.atMs - this.fires.foundMs > PATIENCE_MS)
        this.decide('unevaluated', 'Alertmanager does not know the alert', seen.atMs);
      return;
    }
    const target = seen.routed.find((one) => one.labels.alertname === this.#target && one.startsAtMs >= seen.injectMs);
    if (target !== undefined) {
      const how = target.labels.gameday_probe === undefined ? 'fires by itself' : 'as a probe with the labels of its rule';
      const settled = target.inhibited || this.#probedMs === undefined || seen.atMs - this.#probedMs > 2_000;
      if (settled)
        this.decide(
          target.inhibited ? 'pass' : 'fail',
          `${this.#target} ${how}: ${target.inhibited ? '' : 'not '}inhibited`,
          seen.atMs,
        );
      return;
    }
    const rule = this.#around.ruleLabels(this.#target);
    if (rule === undefined) return this.decide('fail', `no rule is called ${this.#target}`, seen.atMs);
    if (this.#around.postProbe === undefined)
      return this.note(`${this.#target} did not fire, and no probe is sent to an Alertmanager that is not ours`);
    if (this.#probedMs !== undefined) return;
    this.#probedMs = seen.atMs;
    const instance = labels.instance === undefined ? {} : { instance: labels.instance };
    await this.#around.postProbe({ ...rule, ...instance, alertname: this.#target, gameday_probe: 'yes' });
  }
}

class Resolves extends OfAlert {
  readonly #withinMs: number;
  constructor(fires: Fires, withinMs: number) {
    super(`${fires.alert} resolves`, 'recovery', fires);
    this.#withinMs = withinMs;
  }
  protected judge(seen: Observation): void {
    if (seen.healMs === undefined || seen.alerts === undefined) return;
    const still = firing(seen, this.fires.alert);
    const sinceMs = Math.round(seen.atMs - seen.healMs);
    if (still === undefined) this.decide('pass', `gone ${sinceMs} ms after the healing`, seen.atMs);
    else if (sinceMs > this.#withinMs)
      this.decide('fail', `still firing ${sinceMs} ms after the healing: ${JSON.stringify(still.labels)}`, seen.atMs);
    else this.note('still firing');
  }
}
