/** Builds of a game's load, by our own client: what is built, and what became of it. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import type { RpcClient } from '../../builder/rpc/client.ts';
import { secretsService } from '../../builder/session/attachables/secrets.ts';
import { BuildError, ERROR_KINDS } from '../../core/errors.ts';
import type { BuildOrder, RunBuild } from '../../operate/gameday/load.ts';
import { findProgram } from '../../operate/gameday/stand.ts';
import { build } from '../client/build.ts';
import { contextBuild } from '../client/build-command.ts';
import { connectTo } from '../client/endpoint.ts';

const RUNS: Readonly<Record<BuildOrder['kind'], string>> = {
  plain: 'RUN echo $STAMP > /stamp',
  cache: 'RUN echo $STAMP > /stamp',
  push: 'RUN echo $STAMP > /stamp',
  memory: 'RUN echo $STAMP > /stamp && busybox head -c 100000000 /dev/zero | busybox tail -c 90000000 > /dev/null',
  // What a careless step does: the value ends up in a file of the layer.
  secret: 'RUN --mount=type=secret,id=canary busybox cp /run/secrets/canary /copied && echo $STAMP > /stamp',
};
const QUIET = { update: () => undefined, end: () => undefined };

/** `dir` takes the build contexts, one per kind. */
export function buildRunner(address: string, dir: string): RunBuild {
  const contexts = new Map<string, string>();
  return async (order) => {
    const kind = order.leakToLog ? `${order.kind}-log` : order.kind;
    const context = contexts.get(kind) ?? makeContext(join(dir, kind), order);
    contexts.set(kind, context);
    try {
      await using client = await connectTo(address);
      if (order.prune) await pruneAll(client);
      const base = contextBuild(context);
      const { ref } = await build(client, {
        ...base,
        options: new Map([...base.options, ['build-arg:STAMP', order.stamp], ...(order.kind === 'memory' ? LITTLE_MEMORY : [])]),
        services: [...base.services, ...secretServices(order)],
        exporters:
          order.kind === 'push'
            ? [
                {
                  type: 'image',
                  attributes: new Map([
                    ['name', `${order.registry}/app:${order.stamp}`],
                    ['push', 'true'],
                  ]),
                },
              ]
            : [],
        ...caches(order),
        entitlements: [],
        display: QUIET,
        signal: order.signal,
      });
      return { ref, outcome: 'success' };
    } catch (thrown) {
      const error = BuildError.from(thrown);
      return { ref: '', outcome: error.kind, fault: ERROR_KINDS[error.kind].fault, message: error.message.slice(0, 300) };
    }
  };
}

const LITTLE_MEMORY = [['memory', String(32 * 1024 * 1024)]] as const;

async function pruneAll(client: RpcClient): Promise<void> {
  for await (const _ of client.serverStream(Control.method.prune, { all: true }));
}

function makeContext(context: string, order: BuildOrder): string {
  mkdirSync(context, { recursive: true });
  const busybox = findProgram('busybox');
  if (busybox === undefined) throw new BuildError('unavailable', 'the builds of a game need busybox');
  copyFileSync(busybox, join(context, 'busybox'));
  const leak = order.leakToLog ? 'RUN --mount=type=secret,id=canary busybox sed "s/./&./g" /run/secrets/canary > /dotted\n' : '';
  const dockerfile = `FROM scratch\nENV PATH=/bin\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nARG STAMP\n${leak}${RUNS[order.kind]}\n`;
  writeFileSync(join(context, 'Dockerfile'), dockerfile);
  return context;
}

const secretServices = ({ kind, secret }: BuildOrder): ReturnType<typeof secretsService>[] =>
  kind === 'secret' ? [secretsService(new Map([['canary', { value: secret }]]))] : [];

function caches(order: BuildOrder): Pick<Parameters<typeof build>[1], 'cacheImports' | 'cacheExports'> {
  if (order.kind !== 'cache') return {};
  const ref = ['ref', `${order.registry}/cache:gameday`] as const;
  const strict = order.strictCache ? ([['ignore-error', 'false']] as const) : [];
  return {
    cacheImports: [{ type: 'registry', attributes: new Map([ref]) }],
    cacheExports: [{ type: 'registry', attributes: new Map([ref, ['mode', 'max'], ...strict]) }],
  };
}
