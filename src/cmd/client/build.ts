/**
 * A build as our own client makes it: a session that serves files, secrets and credentials, the solve, and its progress. The daemon
 * runs the Dockerfile frontend.
 */
import { TRIGGER_HEADER } from '../../builder/control/trigger-time.ts';
import { Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import type { RpcClient } from '../../builder/rpc/client.ts';
import type { Service } from '../../builder/rpc/handlers.ts';
import type { HeaderList } from '../../builder/rpc/metadata.ts';
import { openClientSession, randomId } from '../../builder/session/attachables/client-session.ts';
import { systemClock } from '../../core/clock.ts';
import type { Display } from '../progress/display.ts';

export interface ClientBuild {
  /** Frontend options: `filename`, `target`, `build-arg:K`, ... */
  readonly options: ReadonlyMap<string, string>;
  readonly exporters: readonly { readonly type: string; readonly attributes: ReadonlyMap<string, string> }[];
  readonly cacheImports?: readonly { readonly type: string; readonly attributes: ReadonlyMap<string, string> }[];
  readonly cacheExports?: readonly { readonly type: string; readonly attributes: ReadonlyMap<string, string> }[];
  readonly entitlements: readonly string[];
  /** What this client serves inside the session. */
  readonly services: readonly Service[];
  /** Names the directory across builds, so that the daemon transfers only what changed. */
  readonly sharedKey: string;
  /** Left out: nobody looks, and nothing is asked for. */
  readonly display?: Display;
  /** The name of the build; a random one unless given. */
  readonly ref?: string;
  /** W3C traceparent of the caller (TRACEPARENT), if it has one. */
  readonly traceparent?: string | undefined;
  /** Not admitted like a user's build, not recorded, not counted. */
  readonly internal?: boolean;
  /** When what led to the build happened, as text. */
  readonly triggeredAt?: string | undefined;
  readonly signal: AbortSignal;
}
export interface ClientBuildResult {
  readonly ref: string;
  readonly response: ReadonlyMap<string, string>;
}

/** Rejects with the daemon's error; its detail carries the place in the Dockerfile. The display is ended either way. */
export async function build(client: RpcClient, request: ClientBuild): Promise<ClientBuildResult> {
  const ref = request.ref ?? randomId();
  await using session = openClientSession(client, {
    services: request.services,
    sharedKey: request.sharedKey,
    clock: systemClock(),
  });
  const status = request.display === undefined ? Promise.resolve() : showStatus(client, ref, request.display);
  try {
    const solve = {
      Ref: ref,
      Session: session.id,
      Frontend: 'dockerfile.v0',
      FrontendAttrs: Object.fromEntries(request.options),
      Exporters: request.exporters.map(({ type, attributes }) => ({ Type: type, Attrs: Object.fromEntries(attributes) })),
      Cache: {
        Imports: (request.cacheImports ?? []).map(({ type, attributes }) => ({
          Type: type,
          Attrs: Object.fromEntries(attributes),
        })),
        Exports: (request.cacheExports ?? []).map(({ type, attributes }) => ({
          Type: type,
          Attrs: Object.fromEntries(attributes),
        })),
      },
      Entitlements: [...request.entitlements],
      Internal: request.internal === true,
    };
    const headers: HeaderList = [
      ...(request.traceparent ? [['traceparent', request.traceparent] as const] : []),
      ...(request.triggeredAt ? [[TRIGGER_HEADER, request.triggeredAt] as const] : []),
    ];
    const { ExporterResponse } = await client.unary(Control.method.solve, solve, { signal: request.signal, headers });
    return { ref, response: new Map(Object.entries(ExporterResponse)) };
  } finally {
    await status.catch(() => {}); // the solve says what went wrong; without progress there is nothing to add
    request.display?.end();
  }
}

async function showStatus(client: RpcClient, ref: string, display: Display): Promise<void> {
  for await (const message of client.serverStream(Control.method.status, { Ref: ref })) display.update(message);
}
