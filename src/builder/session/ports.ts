/** The client's side of a build, as the daemon sees it: services the client offers inside `Control.Session`. */
import type { Digest } from '../../core/digest.ts';

/** `onProgress` callbacks get the bytes since the last call, a few times per second. */
export interface Session {
  readonly id: string;
  readonly sharedKey: string;
  /** Aborts when the client goes away or its health check fails twice. */
  readonly closed: AbortSignal;
  /** `/pkg.Service/Method`, compared case-insensitively. */
  supports(method: string): boolean;
  /** One request, one answer, both encoded. Rejects with a BuildError whose kind follows the status; the message is the client's. */
  unary(method: string, request: Uint8Array, options: CallOptions): Promise<Uint8Array>;
  /** A stream of small messages (ssh agents, content writes). Bulk goes through receiveFiles and the send methods. */
  stream(method: string, options: CallOptions): SessionStream;
  /** FileSync.DiffCopy with us as the receiver: the client's directory into `destination` (buildkit-wire.md 3.2, 4). */
  receiveFiles(request: ReceiveFiles): Promise<ReceivedFiles>;
  /** FileSend.DiffCopy with fsutil packets: a directory tree to the client. */
  sendFiles(request: {
    readonly dir: string;
    readonly prefix?: string;
    /** Modification time of every entry sent, instead of its own (source date epoch). */
    readonly modTimeNs?: bigint;
    readonly headers: Headers;
    readonly signal: AbortSignal;
    readonly onProgress: (bytes: number) => void;
  }): Promise<void>;
  /** FileSend.DiffCopy with raw bytes: a tarball to the client, read from `source`. Resolves once the client has it on disk, or says
   *  that it has it already. A file is read inside the session's thread, so its bytes never pass through the main one. */
  sendBytes(request: {
    readonly source: AsyncIterable<Uint8Array> | { readonly file: string };
    readonly headers: Headers;
    readonly signal: AbortSignal;
    readonly onProgress: (bytes: number) => void;
  }): Promise<void>;
  /** Upload.Pull: the body behind `http://buildkit-session/<path>`. */
  pullUpload(path: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}
export type Headers = readonly (readonly [name: string, value: string])[];
export interface CallOptions {
  readonly headers?: Headers;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}
export interface SessionStream extends AsyncIterable<Uint8Array> {
  /** Resolves when the peer's window has room again. */
  send(message: Uint8Array): Promise<void>;
  /** Half-close. */
  end(): void;
}

export interface ReceiveFiles {
  readonly dirName: string;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly followPaths: readonly string[];
  /** Existing content is the base of the difference: what the client no longer has is removed. */
  readonly destination: string;
  /** `none` requests every regular file; `metadata` only those whose stat differs. */
  readonly differ: 'none' | 'metadata';
  /** W3C traceparent of the step that wants the files, so that the client's span of the transfer joins the build's trace. */
  readonly traceparent?: string;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}
export interface ReceivedFiles {
  readonly files: number;
  readonly bytes: number;
  /** Paths written or removed against the previous content. */
  readonly changed: number;
  /** Entry digests of every regular file that arrived, path relative to destination (buildkit-wire.md 7.4), hashed while written. */
  readonly digests: ReadonlyMap<string, Digest>;
}

export interface Sessions {
  /** Waits up to 5 s for the session to connect; `prefix:id` is looked up by id. Rejects with `not-found` (`no active session for <id>`). */
  get(id: string, signal: AbortSignal): Promise<Session>;
  /** The first of `ids` that is alive and for which `use` does not fail with `not-found` or `unsupported`. */
  any<T>(ids: readonly string[], signal: AbortSignal, use: (session: Session) => Promise<T>): Promise<T>;
}
