/** The wiring: the only place where the parts of the daemon are chosen and put together. */
import { mkdirSync, statfsSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { join } from 'node:path';
import { Admission } from '../../builder/build/admission.ts';
import { Builder } from '../../builder/build/builder.ts';
import { openKeyIndex } from '../../builder/cache/key-index.ts';
import { openContentStore } from '../../builder/content/content-store.ts';
import { bridgeHandlers } from '../../builder/control/bridge-service.ts';
import { contentHandlers } from '../../builder/control/content-service.ts';
import { controlHandlers } from '../../builder/control/control-service.ts';
import { gcHandlers } from '../../builder/control/gc-service.ts';
import { healthHandlers } from '../../builder/control/health-service.ts';
import { traceHandlers } from '../../builder/control/trace-service.ts';
import type { WorkerInfo } from '../../builder/control/worker-record.ts';
import { type BuildId, type EventSink, fanOut } from '../../builder/events.ts';
import { createExporters } from '../../builder/exporter/exporters.ts';
import { openImageStore } from '../../builder/exporter/image-store.ts';
import { dockerfileFrontend } from '../../builder/frontend/dockerfile/frontend.ts';
import { gatewayFrontend } from '../../builder/frontend/gateway/gateway.ts';
import { openEvictions } from '../../builder/gc/evictions.ts';
import { regretting } from '../../builder/gc/regret.ts';
import { openHistory } from '../../builder/history/history.ts';
import { type Platform, platformToPb } from '../../builder/llb/platform.ts';
import { openMetadata } from '../../builder/metadata/metadata.ts';
import type { OpenAgent, ReadSecret } from '../../builder/ops/deps.ts';
import { createOpResolver } from '../../builder/ops/resolver.ts';
import { createSourceOp } from '../../builder/ops/source.ts';
import { Content } from '../../builder/proto/gen/containerd/services/content/v1/content_pb.ts';
import { Gc } from '../../builder/proto/gen/cooper/gc/v1/gc_pb.ts';
import { Health } from '../../builder/proto/gen/grpc/health/v1/health_pb.ts';
import { Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { LLBBridge } from '../../builder/proto/gen/moby/buildkit/v1/frontend/gateway_pb.ts';
import { TraceService } from '../../builder/proto/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.ts';
import { createRegistry } from '../../builder/registry/registry.ts';
import { LocalResults } from '../../builder/reproduce/local-results.ts';
import { REPRODUCE_FRONTEND, Reproducer } from '../../builder/reproduce/reproducer.ts';
import { service } from '../../builder/rpc/handlers.ts';
import { type Listener, listen } from '../../builder/rpc/listener.ts';
import { RpcServer } from '../../builder/rpc/server.ts';
import { readSecret } from '../../builder/session/secrets.ts';
import { SessionManager } from '../../builder/session/session-manager.ts';
import { findAgent, openAgentSocket } from '../../builder/session/ssh.ts';
import type { Snapshots } from '../../builder/snapshot/ports.ts';
import { openSnapshots } from '../../builder/snapshot/snapshots.ts';
import type { ResultStore } from '../../builder/solver/ports.ts';
import { Solver } from '../../builder/solver/solver.ts';
import { createBlobOrigins } from '../../builder/source/blob-origins.ts';
import { createHttpFetch } from '../../builder/source/http-fetch.ts';
import { openHttpMemory } from '../../builder/source/http-memory.ts';
import { createMetadataResolver } from '../../builder/source/metadata-resolver.ts';
import { createSessionAuths } from '../../builder/source/session-auth.ts';
import { createSources } from '../../builder/source/sources.ts';
import { openSandbox } from '../../builder/worker/sandbox.ts';
import { openSys } from '../../builder/worker/sys/sys.ts';
import { systemClock } from '../../core/clock.ts';
import { parseVertexDigest } from '../../core/digest.ts';
import { BuildError, GRPC } from '../../core/errors.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { observeDaemon } from '../../telemetry/daemon-metrics.ts';
import { openLog } from '../../telemetry/logs.ts';
import { openTelemetry } from '../../telemetry/telemetry.ts';
import { collectorUrlOf } from '../../telemetry/tracing.ts';
import { openOpsServer } from '../../web/ops-server.ts';
import { isRootless } from '../namespace.ts';
import { VERSION } from '../version.ts';
import { reportCertificates } from './certificates.ts';
import type { DaemonConfig } from './daemon-config.ts';
import { openExplain } from './explain.ts';
import { openGarbage } from './garbage.ts';
import { releaseWhenIdle } from './idle-memory.ts';
import { objectivesOf } from './objectives.ts';
import { OpsMemory } from './ops-memory.ts';
import { alertsOf, type OpsParts, opsProviders } from './ops-providers.ts';
import { startOwnAlerts } from './own-alerts.ts';
import { openRemoteCaches } from './remote-caches.ts';
import { reproduceService } from './reproduce-service.ts';
import { startSelfChecks } from './self-checks.ts';
import { openSloService } from './slo-service.ts';
import { checkLayout, identityOf, lockRoot, openTemp } from './state-folder.ts';
import { openSubmissions } from './submit/open-submissions.ts';
import { scheduleWarmUp } from './warm-schedule.ts';

export interface Daemon extends AsyncDisposable {
  /** Addresses of the build API, as clients write them. */
  readonly addresses: readonly string[];
  readonly opsUrl: string | undefined;
  /** Takes no new builds, waits for the running ones up to the configured time, then cancels the rest. */
  drain(): Promise<void>;
}

const IO_PARALLELISM = 8; // transfers and copies mostly wait for disk or network; above this they only fight for it
const USAGE_MS = 15_000;
const SERVICES = ['moby.buildkit.v1.Control', 'moby.buildkit.v1.frontend.LLBBridge'];

/** Opens every part, lowest first; what was opened is closed again, highest first, when a later one fails or the daemon is disposed. */
export async function startDaemon(
  config: DaemonConfig,
  warnings: { readonly texts: readonly string[]; readonly unknownKeys: number },
): Promise<Daemon> {
  await using stack = new AsyncDisposableStack();
  const clock = systemClock();
  const log = openLog({
    ...config.log,
    level: config.log.level === 'trace' ? 'debug' : config.log.level,
    onDropped: () => telemetry.recorders.dropped('logs', 'queue_full'),
    onRecord: (level) => telemetry.recorders.logged(level),
  });
  const telemetry = stack.use(
    openTelemetry({
      clock,
      version: VERSION,
      instance: hostname(),
      collectorUrl: config.telemetry ? collectorUrlOf(process.env, config.otlpEndpoint) : undefined,
      enabled: config.telemetry,
      log,
      ...(config.audit === undefined ? {} : { audit: config.audit }),
      onTrouble: (what, error) => (error === undefined ? log.info(what) : log.warn(what, { error })),
    }),
  );
  for (const text of warnings.texts) log.warn(text);
  const objectives = await objectivesOf(config.sloFile, (text) => log.warn(text));

  const sys = openSys();
  mkdirSync(config.root, { recursive: true, mode: 0o711 });
  stack.use(lockRoot(sys, config.root));
  checkLayout(config.root);
  const tempDir = openTemp(config.root);
  const pool = stack.use(new WorkerPool(availableParallelism()));
  const metadata = stack.use(
    await openMetadata(join(config.root, 'cooper.sqlite'), {
      replaceCorrupt: true,
      onProblem: (problem) => log.error('metadata store', { ...problem }),
    }),
  );
  if (metadata.quarantined !== undefined)
    log.error('the metadata store was unreadable and was moved aside; the cache starts empty', { movedTo: metadata.quarantined });
  const content = stack.use(
    openContentStore({
      root: config.root,
      clock,
      pool,
      onQuarantine: (digest, movedTo) => {
        log.error('corrupt blob moved to quarantine', { digest, movedTo });
        telemetry.service.report({ type: 'quarantined', atNs: clock.nowNs(), digest, origin: 'content' });
      },
    }),
  );
  const snapshots = await openSnapshots({
    root: config.root,
    metadata,
    content,
    pool,
    clock,
    sys,
    snapshotter: config.snapshotter === 'overlayfs' ? 'overlay' : config.snapshotter,
  });
  stack.defer(() => snapshots.close());
  const history = await openHistory({
    metadata,
    content,
    clock,
    retention: config.history,
    onDeleted: (ref) => accounts.forget(ref),
  });
  stack.defer(() => history.close());
  const index = await openKeyIndex(metadata);
  const evictions = await openEvictions(metadata, clock);
  const accounts = await openExplain({ root: config.root, pool, metadata, evictions, log });
  stack.defer(() => accounts.flush());
  const images = await openImageStore(metadata);
  const sandbox = stack.use(
    await openSandbox({
      root: config.root,
      runtime: config.runtime,
      sys,
      cgroupParent: config.cgroupParent,
      rootless: isRootless(process.env),
    }),
  );
  log.info('runtime', { ...sandbox.runtime });
  log[sandbox.accounting.source === 'rusage' ? 'warn' : 'info']('resources of steps', { ...sandbox.accounting });

  const sessions = stack.use(new SessionManager({ onEnded: (end) => telemetry.recorders.sessionEnded(end) }));
  const auths = createSessionAuths(sessions, Date.now);
  const registry = stack.use(
    createRegistry({
      content,
      hosts: config.registries,
      limits: { parallelTransfers: config.registryConcurrency },
      userAgent: `cooper/${VERSION}`,
      onRequest: (op, status, facts) => telemetry.recorders.registryRequest(op, status, facts),
    }),
  );
  const origins = createBlobOrigins();
  const platform = hostPlatform();
  const workerId = identityOf(config.root);
  const secrets = secretReader(sessions);
  const sourcesDeps = {
    clock,
    registry,
    content,
    snapshots,
    sessions,
    auths,
    origins,
    http: createHttpFetch(),
    memory: await openHttpMemory(metadata),
    readSecret: secrets,
  };
  const locals = new LocalResults(snapshots);
  const sourceOp = createSourceOp({ sources: createSources(sourcesDeps), defaultPlatform: platform });
  const source: typeof sourceOp = (vertex) => locals.opOf(vertex, sourceOp);
  const ops = createOpResolver({
    clock,
    snapshots,
    sandbox,
    pool,
    sys,
    source,
    platform: platformToPb(platform),
    workerId,
    tempDir,
    readSecret: secrets,
    openAgent: agentOpener(sessions),
    secretLeaks: config.secretLeaks,
  });
  const slots = config.maxParallelism === 0 ? availableParallelism() : config.maxParallelism;
  const solver = stack.use(
    new Solver({
      ops,
      index: regretting(index, evictions, () => telemetry.recorders.cacheRegret()),
      results: resultStore(snapshots),
      clock,
      limits: { maxParallelism: slots, ioParallelism: IO_PARALLELISM },
      onProblem: (error) => log.warn('solver', { error }),
    }),
  );
  const seen = stack.use(new OpsMemory());
  const events = seen.besideSink(telemetry.service);
  const recorders = seen.besideRecorders(telemetry.recorders);
  const caches = stack.use(openRemoteCaches(config, { clock, content, snapshots, registry, auths, sessions, events, log }));
  const admission = new Admission(config.admission);
  const reproducer = new Reproducer({
    ...{ clock, history, content, snapshots, pool, locals },
    solve: (request, signal) => builder.solve(request, signal),
    sourcesOf: (ref) => builder.peek(ref)?.sources,
    onVerdict: (build, { result, reason, differences = [], seconds }) => {
      recorders.reproducibilityCheck(result);
      log[result === 'same' ? 'info' : 'warn']('reproducibility check', {
        build,
        result,
        reason,
        seconds,
        differences: differences.length,
      });
    },
  });
  const builder = new Builder(
    {
      clock,
      solver,
      sessions,
      history,
      accounts,
      admission,
      caches,
      exporters: createExporters({ registry, content, images, origins, auths, sessions, clock, pool, tempDir }),
      frontends: new Map([
        ['dockerfile.v0', dockerfileFrontend],
        ['gateway.v0', gatewayFrontend],
        [REPRODUCE_FRONTEND, reproducer.frontend],
      ]),
      localResultOf: (vertex) => locals.of(vertex),
      metadataResolver: () => createMetadataResolver({ ...sourcesDeps, defaultPlatform: platform }),
      sink: fanOut(
        [
          telemetry.sink,
          { emit: (event) => garbage.sink.emit(event) },
          { emit: (event) => submissions.emit(event) },
          afterEachBuild((build) => {
            memory.touch();
            selfChecks.afterBuild(build);
          }),
        ],
        (error) => log.error('a listener to build events failed', { error }),
      ),
      allowedEntitlements: config.entitlements,
      maxLogBytes: config.maxLogBytes,
      platforms: [platformToPb(platform)],
      traceparentOf: (build, step) => telemetry.traceparentFor(build, parseVertexDigest(step)),
      traceBlobOf: (build) => telemetry.traceBlobOf(build),
    },
    (error) => log.error('a listener to build events failed', { error }),
  );
  const garbage = stack.use(
    await openGarbage({
      root: config.root,
      config: config.gc,
      snapshots,
      content,
      metadata,
      index,
      evictions,
      clock,
      recorders,
      log,
      quiet: () => builder.running === 0 && history.active().length === 0,
    }),
  );
  const memory = stack.use(releaseWhenIdle({ isIdle: () => builder.running === 0, trim: () => sys.trimMemory() }));
  const usage = stack.use(watchUsage(snapshots, (error) => log.warn('disk usage', { error })));
  const cacheBytes = (): number => Object.values(usage.last().bytesByKind).reduce((sum, bytes) => sum + bytes, 0);
  seen.watchGrowth(cacheBytes);

  const draining = new AbortController();
  const worker: WorkerInfo = {
    id: workerId,
    labels: workerLabels(config, snapshots.snapshotter),
    platforms: [platformToPb(platform)],
    gcPolicies: config.gc.policies,
    version: VERSION,
    revision: '',
  };
  const server = new RpcServer({
    clock,
    services: [
      service(
        Control,
        controlHandlers({
          builder,
          history,
          disk: garbage.collector,
          worker,
          clock,
          audit: telemetry.audit,
          acceptSession: (stream, context) => sessions.accept(stream, context),
        }),
      ),
      service(LLBBridge, bridgeHandlers(builder, worker)),
      service(Gc, gcHandlers(garbage.service)),
      service(Content, contentHandlers(content)),
      reproduceService(reproducer),
      service(
        Health,
        healthHandlers(
          {
            get serving() {
              return !draining.signal.aborted;
            },
            draining: draining.signal,
          },
          SERVICES,
        ),
      ),
      service(
        TraceService,
        traceHandlers((request) => telemetry.takeClientSpans(request)),
      ),
    ],
    observer: {
      rpcEnded: (method, code, durationNs, _error, { traceparent }) =>
        telemetry.recorders.rpc(method, code, Number(durationNs) / 1e9, traceparent),
      connectionFailed: (peer, error) => log.debug('connection failed', { peer: peer.address, error }),
    },
  });
  stack.use(server);
  const slo = stack.use(
    await openSloService({
      ...{ objectives, metrics: telemetry.metrics, sql: metadata, clock },
      onError: (error) => log.warn('SLO evaluator', { error }),
    }),
  );
  stack.use(
    observeDaemon(telemetry.metrics, {
      version: VERSION,
      slots: () => ({ busy: solver.stats.exec.running, limit: slots, waiting: solver.stats.exec.waiting }),
      cache: () => ({ ...usage.last(), limitBytes: config.gc.policies.at(-1)?.maxUsedBytes ?? 0 }),
      disk: () => {
        const { totalBytes: sizeBytes, ...free } = diskOf(config.root);
        return { ...free, sizeBytes };
      },
      sessions: () => sessions.active,
      configUnknownKeys: () => warnings.unknownKeys,
    }),
  );
  reportCertificates(config.tls, telemetry.recorders);
  const listeners: Listener[] = [];
  for (const address of config.addresses) {
    const listener = await listen(
      server,
      address.type === 'unix'
        ? { ...address, ...config.socket }
        : { ...address, ...(config.tls === undefined ? {} : { tls: config.tls }) },
    );
    listeners.push(stack.use(listener));
  }
  const addresses = listeners.map((listener) => listener.address);
  const selfChecks = stack.use(
    startSelfChecks({
      ...{
        config,
        tempDir,
        server,
        builder,
        history,
        reproducer,
        admission,
        solver,
        snapshots,
        collector: garbage.collector,
        log,
      },
      recorders,
      onRemoved: (id) => index.removed(id),
    }),
  );
  const submissions = stack.use(openSubmissions({ config, tempDir, clock, pool, builder, server: () => server }));
  const opsParts: OpsParts = {
    version: VERSION,
    ...{ clock, addresses, builder, history, accounts, content, snapshots, telemetry, slo, admission, cacheBytes },
    gc: garbage.service,
    policies: config.gc.policies,
    disk: () => diskOf(config.root),
    memory: seen,
    maxBuilds: config.admission.maxBuilds,
    slots: () => ({ busy: solver.stats.exec.running, limit: slots, waiting: solver.stats.exec.waiting }),
    sessions: () => sessions.active,
    unknownKeys: warnings.unknownKeys,
    ready: () => [{ name: 'accepting builds', ok: !draining.signal.aborted }, ...selfChecks.ready()],
    submit: (order, signal) => submissions.submit(order, signal),
    drain: () => {
      admission.drain();
      draining.abort();
    },
    used: () => memory.touch(),
    onError: (error) => log.error('ops server', { error }),
  };
  const opsServer = config.ops === undefined ? undefined : stack.use(await openOpsServer(config.ops, opsProviders(opsParts)));
  telemetry.start();
  stack.use(
    startOwnAlerts(config.alerts, {
      ...{ objectives, opsUrl: opsServer?.url, recorders, log },
      report: () => slo.evaluator.report(),
      alerts: () => alertsOf(opsParts),
    }),
  );
  if (addresses[0] !== undefined)
    stack.use(scheduleWarmUp(config.warm, [process.execPath, ...process.execArgv, process.argv[1] ?? ''], addresses[0], log));
  log.info('ready', { addresses, ops: opsServer?.url, root: config.root, version: VERSION });
  const opened = stack.move();
  return {
    addresses,
    opsUrl: opsServer?.url,
    async drain() {
      log.info('draining', { builds: builder.running });
      telemetry.audit.record({
        type: 'drain',
        outcome: 'ok',
        client: { peer: 'signal' },
        what: `${builder.running} builds running`,
      });
      admission.drain();
      draining.abort();
      await selfChecks[Symbol.asyncDispose]();
      await Promise.all(listeners.map((listener) => listener.close()));
      await builder.idle(config.drainTimeoutMs);
      builder.cancelAll(new BuildError('unavailable', 'the daemon is stopping', { grpcCode: GRPC.UNAVAILABLE }));
      await server.drain(5_000);
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** The names Go and OCI use for this machine (GOARCH). */
function hostPlatform(): Platform {
  const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };
  return { os: 'linux', architecture: architectures[process.arch] ?? process.arch, variant: '', osVersion: '', osFeatures: [] };
}

function workerLabels(config: DaemonConfig, snapshotter: string): Record<string, string> {
  const prefix = 'org.mobyproject.buildkit.worker';
  return {
    [`${prefix}.executor`]: 'oci',
    [`${prefix}.hostname`]: hostname(),
    [`${prefix}.network`]: 'host',
    [`${prefix}.oci.process-mode`]: 'sandbox',
    [`${prefix}.selinux.enabled`]: 'false',
    [`${prefix}.snapshotter`]: snapshotter === 'overlay' ? 'overlayfs' : snapshotter,
    ...config.labels,
  };
}

function diskOf(root: string) {
  const { bavail, blocks, bsize, ffree, files } = statfsSync(root);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes: ffree, inodes: files };
}

/** Records by type, looked at every so often so that a scrape never waits for it. */
function watchUsage(snapshots: Snapshots, onError: (error: unknown) => void) {
  let last = { bytesByKind: {} as Record<string, number>, recordsInUse: 0, recordsIdle: 0 };
  const refresh = async (): Promise<void> => {
    const bytesByKind: Record<string, number> = {};
    let recordsInUse = 0;
    const records = await snapshots.usage();
    for (const { recordType, sizeBytes, inUse } of records) {
      bytesByKind[recordType] = (bytesByKind[recordType] ?? 0) + sizeBytes;
      if (inUse) recordsInUse += 1;
    }
    last = { bytesByKind, recordsInUse, recordsIdle: records.length - recordsInUse };
  };
  const look = (): void => void refresh().catch(onError);
  look();
  const timer = setInterval(look, USAGE_MS);
  timer.unref();
  return { last: () => last, [Symbol.dispose]: () => clearInterval(timer) };
}

function afterEachBuild(then: (build: BuildId) => void): EventSink {
  return { emit: (event) => void (event.type === 'build-finished' && then(event.build)) };
}

/** A snapshot that is gone turns its cache hit into a miss. */
const resultStore = (snapshots: Snapshots): ResultStore => ({ load: (id) => snapshots.open(id) });

/** A secret from the first session that has it. */
function secretReader(sessions: SessionManager): ReadSecret {
  return (ids, id, signal, traceparent) => readSecret(sessions, ids, id, signal, traceparent);
}

/** The ssh agent of the first session that has it. */
function agentOpener(sessions: SessionManager): OpenAgent {
  return async (ids, socket, signal) => {
    const session = await findAgent(sessions, ids, socket.id, signal);
    return session === undefined ? undefined : await openAgentSocket(session, socket, signal);
  };
}
