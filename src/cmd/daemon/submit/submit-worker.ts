/**
 * The thread that is the client of submitted builds: its sessions list and send the files of uploaded contexts and write what is to be
 * downloaded, so that none of that happens on the control loop. Talks to the daemon through its build API, like every client.
 */
import { parentPort } from 'node:worker_threads';
import { connect, type RpcClient } from '../../../builder/rpc/client.ts';
import { authService } from '../../../builder/session/attachables/auth.ts';
import { fileSendService } from '../../../builder/session/attachables/file-send.ts';
import { fileSyncService } from '../../../builder/session/attachables/file-sync.ts';
import { BuildError, type ErrorDetail, type ErrorKind } from '../../../core/errors.ts';
import { build } from '../../client/build.ts';

interface Named {
  readonly type: string;
  readonly attributes: Readonly<Record<string, string>>;
}
/** A build whose context, if it has one, is a folder. */
export interface WorkerOrder {
  readonly ref: string;
  /** Names to folders that the session serves. */
  readonly dirs: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly exporters: readonly Named[];
  readonly cacheImports: readonly Named[];
  readonly cacheExports: readonly Named[];
  /** File for what the first exporter sends to its client. */
  readonly download: string | undefined;
  /** Folder with the config.json of the caller's registries. */
  readonly authDir: string;
  readonly sharedKey: string;
  readonly traceparent: string | undefined;
}
export type ToWorker =
  | { readonly type: 'build'; readonly socket: string; readonly order: WorkerOrder }
  | { readonly type: 'abort'; readonly ref: string; readonly kind: ErrorKind; readonly message: string };
export type FromWorker =
  | { readonly type: 'done'; readonly ref: string; readonly response: Readonly<Record<string, string>> }
  | {
      readonly type: 'failed';
      readonly ref: string;
      readonly kind: ErrorKind;
      readonly message: string;
      readonly detail: ErrorDetail;
    };

const running = new Map<string, AbortController>();
const port = parentPort;
port?.on('message', (message: ToWorker) => {
  if (message.type === 'abort') running.get(message.ref)?.abort(new BuildError(message.kind, message.message));
  else void run(message.socket, message.order).then((reply) => port.postMessage(reply));
});

async function run(socket: string, order: WorkerOrder): Promise<FromWorker> {
  const { ref } = order;
  const controller = new AbortController();
  running.set(ref, controller);
  try {
    await using client = await connect({ type: 'unix', path: socket });
    return { type: 'done', ref, response: Object.fromEntries(await buildOver(client, order, controller.signal)) };
  } catch (thrown) {
    const { kind, message, detail } = BuildError.from(thrown);
    return { type: 'failed', ref, kind, message, detail: clonable(detail) };
  } finally {
    running.delete(ref);
  }
}

async function buildOver(client: RpcClient, order: WorkerOrder, signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
  const asMaps = (list: readonly Named[]) =>
    list.map(({ type, attributes }) => ({ type, attributes: new Map(Object.entries(attributes)) }));
  const { response } = await build(client, {
    ref: order.ref,
    options: new Map(Object.entries(order.options)),
    exporters: asMaps(order.exporters),
    cacheImports: asMaps(order.cacheImports),
    cacheExports: asMaps(order.cacheExports),
    entitlements: [],
    services: [
      fileSyncService(new Map(Object.entries(order.dirs))),
      fileSendService(new Map(order.download === undefined ? [] : [[0, { type: 'file', path: order.download }]])),
      authService(order.authDir),
    ],
    sharedKey: order.sharedKey,
    traceparent: order.traceparent,
    signal,
  });
  return response;
}

/** A graph may have a function in it, which no message can carry. */
function clonable({ source, hint, exitCode, vertex, retryAfterS }: ErrorDetail): ErrorDetail {
  return {
    ...(source && {
      source: { filename: source.filename, language: source.language, data: source.data, ranges: source.ranges },
    }),
    ...(hint !== undefined && { hint }),
    ...(exitCode !== undefined && { exitCode }),
    ...(vertex !== undefined && { vertex }),
    ...(retryAfterS !== undefined && { retryAfterS }),
  };
}
