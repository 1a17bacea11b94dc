/** Service events in, instruments out: remote caches, breakers, outages, quarantine. */
import type { BreakerState, BuildId, Component, RemoteCacheBackend, ServiceEvent, ServiceEventSink } from '../builder/events.ts';
import { type Clock, nsToSeconds } from '../core/clock.ts';
import { assertNever } from '../core/errors.ts';
import * as catalog from './catalog-service.ts';
import type { ExemplarLabels, Metrics } from './metrics.ts';

const RANK: Readonly<Record<BreakerState, number>> = { closed: 0, 'half-open': 1, open: 2 };
/** Breakers remembered at once; a closed one is forgotten, so only that many broken caches could reach it. */
const MAX_BREAKERS = 1_000;

/** The sink that feeds the metrics of shared backends. `rootOf` finds the trace of a build, for exemplars. */
export function serviceMetrics(
  metrics: Metrics,
  clock: Clock,
  rootOf: (build: BuildId) => ExemplarLabels | undefined,
): ServiceEventSink {
  const breakers = new Breakers(metrics);
  const outages = new Map<Component, bigint>();
  metrics.onCollect(() => {
    for (const [component, startedAtNs] of outages)
      metrics.set(catalog.OUTAGE_ACTIVE, { component }, Math.max(nsToSeconds(clock.nowNs() - startedAtNs), 0));
  });
  return {
    report(event) {
      switch (event.type) {
        case 'remote-cache-operation':
          return onOperation(metrics, event, event.build === undefined ? undefined : rootOf(event.build));
        case 'breaker-changed':
          return breakers.onChange(event);
        case 'outage-began':
          if (!outages.has(event.component)) outages.set(event.component, event.atNs);
          return;
        case 'outage-ended':
          outages.delete(event.component);
          metrics.set(catalog.OUTAGE_ACTIVE, { component: event.component }, 0);
          metrics.observe(
            catalog.OUTAGE,
            { component: event.component },
            Math.max(nsToSeconds(event.atNs - event.startedAtNs), 0),
          );
          return;
        case 'quarantined':
          return metrics.add(catalog.QUARANTINED, { origin: event.origin });
        default:
          assertNever(event);
      }
    },
  };
}

function onOperation(
  metrics: Metrics,
  event: ServiceEvent & { type: 'remote-cache-operation' },
  exemplar: ExemplarLabels | undefined,
): void {
  const { backend, op, result } = event;
  metrics.add(catalog.REMOTE_OPERATIONS, { backend, op, result });
  if (result === 'skipped') return;
  metrics.add(catalog.REMOTE_BYTES, { backend, op }, event.bytes);
  metrics.observe(catalog.REMOTE_DURATION, { backend, op }, nsToSeconds(event.durationNs), exemplar);
}

/** The gauge of a backend shows its worst breaker. */
class Breakers {
  readonly #metrics: Metrics;
  readonly #notClosed = new Map<string, { readonly backend: RemoteCacheBackend; readonly state: BreakerState }>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  onChange({ backend, target, state }: ServiceEvent & { type: 'breaker-changed' }): void {
    const key = `${backend}\0${target}`;
    if (state === 'closed') this.#notClosed.delete(key);
    else if (this.#notClosed.has(key) || this.#notClosed.size < MAX_BREAKERS) this.#notClosed.set(key, { backend, state });
    this.#metrics.add(catalog.BREAKER_CHANGES, { backend, state });
    const ranks = [...this.#notClosed.values()].filter((one) => one.backend === backend).map((one) => RANK[one.state]);
    this.#metrics.set(catalog.BREAKER_STATE, { backend }, Math.max(0, ...ranks));
  }
}
