/** All of telemetry in one object, for the wiring: one sink to give to the builder, and what operators' surfaces read. */
import {
  type AuditSink,
  type BuildId,
  type Component,
  type EventSink,
  fanOut,
  type ServiceEventSink,
} from '../builder/events.ts';
import type { Clock } from '../core/clock.ts';
import type { VertexDigest } from '../core/digest.ts';
import type { AuditLimits } from './audit/audit-files.ts';
import { AuditLog } from './audit/audit-log.ts';
import { buildLog } from './build-log.ts';
import { buildMetrics } from './build-metrics.ts';
import { goSpanStubs } from './go-span-stub.ts';
import type { Logger } from './logs.ts';
import { Metrics } from './metrics.ts';
import { decodeTraceExport } from './otlp-decode.ts';
import { type Recorders, recorders } from './recorders.ts';
import { serviceMetrics } from './service-metrics.ts';
import type { Attributes, FinishedSpan } from './span.ts';
import { BuildTraces } from './spans.ts';
import { Tracing } from './tracing.ts';

export interface TelemetryOptions {
  readonly clock: Clock;
  readonly version: string;
  /** Name of this daemon among others: the host name, or what the operator says. */
  readonly instance: string;
  /** Where spans go, from collectorUrlOf; undefined keeps them here only. */
  readonly collectorUrl: string | undefined;
  /** False: nothing of builds is counted, traced or audited; to measure what telemetry costs. */
  readonly enabled?: boolean;
  /** Gets a record per build, and per step that failed. */
  readonly log?: Logger;
  /** Undefined: no audit log. */
  readonly audit?: { readonly dir: string; readonly limits: AuditLimits };
  /** For the log: a sink or collector that broke (undefined: it works again). */
  readonly onTrouble: (what: string, error: unknown) => void;
}

export interface Telemetry extends AsyncDisposable {
  readonly metrics: Metrics;
  readonly recorders: Recorders;
  /** Everything a builder reports goes here. */
  readonly sink: EventSink;
  /** Remote caches, breakers, outages and quarantine are reported here. */
  readonly service: ServiceEventSink;
  /** Acts of administrators and refused requests, for the audit log. */
  readonly audit: AuditSink;
  /** Starts the way out to the collector; call once the daemon listens. */
  start(): void;
  /** W3C traceparent for the process of a step; undefined for a build that is not known. */
  traceparentFor(build: BuildId, step: VertexDigest): string | undefined;
  traceIdOf(build: BuildId): string | undefined;
  /** Spans of a running or recently finished build, its client's included. */
  traceOf(build: BuildId): FinishedSpan[] | undefined;
  /** The same as the blob of a history record (go-span-stub.ts). */
  traceBlobOf(build: BuildId): Uint8Array | undefined;
  /** Bytes of a TraceService/Export request, as a client sent them. Never throws. */
  takeClientSpans(message: Uint8Array): void;
}

export function openTelemetry(options: TelemetryOptions): Telemetry {
  const { clock, collectorUrl, onTrouble } = options;
  const resource: Attributes = {
    'service.name': 'cooper',
    'service.version': options.version,
    'service.instance.id': options.instance,
  };
  const metrics = new Metrics((error) => onTrouble('a metrics collector failed', error));
  const records = recorders(metrics);
  const tracing =
    collectorUrl === undefined
      ? undefined
      : new Tracing({
          url: collectorUrl,
          resource,
          metrics,
          onCollectorState: (error) => {
            const state = error === undefined ? 'the trace collector takes spans again' : 'the trace collector takes no spans';
            onTrouble(state, error);
            collectorOutage(error !== undefined);
          },
        });
  const traceIdOf = (build: BuildId): string | undefined => traces.rootOf(build)?.trace_id;
  const traces = new BuildTraces({ resource, onFinished: (trace) => tracing?.enqueue(trace), onDropped: records.dropped });
  const audit = options.audit && new AuditLog({ ...options.audit, metrics, clock, traceIdOf, onState: onAuditState(onTrouble) });
  const listeners: EventSink[] = [traces, buildMetrics(metrics, clock, traces), ...(audit === undefined ? [] : [audit])];
  if (options.log !== undefined) listeners.push(buildLog(options.log, traces));
  const service = serviceMetrics(metrics, clock, (build) => traces.rootOf(build));
  const collectorOutage = outageReporter('collector', clock, service);
  const sink = fanOut(options.enabled === false ? [] : listeners, (error) => {
    records.dropped('events', 'sink_error');
    onTrouble('a telemetry sink failed', error);
  });
  return {
    metrics,
    recorders: records,
    sink,
    service,
    audit: audit ?? { record: () => {} },
    start: () => tracing?.start(),
    traceparentFor: (build, step) => traces.traceparentFor(build, step),
    traceIdOf,
    traceOf: (build) => traces.traceOf(build),
    traceBlobOf: (build) => {
      const spans = traces.traceOf(build);
      return spans && goSpanStubs(spans);
    },
    takeClientSpans: (message) => {
      tracing?.forward(message);
      try {
        traces.addClientSpans(decodeTraceExport(message));
      } catch {
        records.dropped('client_spans', 'malformed');
      }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([tracing?.[Symbol.asyncDispose](), audit?.[Symbol.asyncDispose]()]);
    },
  };
}

const onAuditState =
  (onTrouble: TelemetryOptions['onTrouble']) =>
  (error: unknown | undefined): void =>
    onTrouble(
      error === undefined ? 'the audit log is written again' : 'the audit log cannot be written; its records are lost',
      error,
    );

/** Turns "down" and "up again" into one outage with a beginning and an end. */
function outageReporter(component: Component, clock: Clock, service: ServiceEventSink): (down: boolean) => void {
  let startedAtNs: bigint | undefined;
  return (down) => {
    const atNs = clock.nowNs();
    if (down) {
      startedAtNs ??= atNs;
      service.report({ type: 'outage-began', atNs, component });
    } else if (startedAtNs !== undefined) {
      service.report({ type: 'outage-ended', atNs, component, startedAtNs });
      startedAtNs = undefined;
    }
  };
}
