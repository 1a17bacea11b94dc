/** The distribution protocol (OCI distribution-spec v1.1), as sources and exporters see it. One implementation: registry.ts. */
import type { Digest } from '../../core/digest.ts';
import type { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';

/** `docker.io/library/busybox:latest@sha256:...` taken apart and normalised. */
export interface ImageReference {
  /** `docker.io`, `localhost:5000`. */
  readonly host: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
  /** The normalised text. */
  readonly text: string;
}

/** Credentials for one host, asked when a registry challenges. Backed by the sessions of the build. */
export interface RegistryAuth {
  /** A bearer token for a challenge, or undefined when the client offers none (then credentials are tried). */
  token(
    challenge: { readonly host: string; readonly realm: string; readonly service: string; readonly scopes: readonly string[] },
    signal: AbortSignal,
  ): Promise<{ readonly token: string; readonly expiresInS: number } | undefined>;
  /** Empty user name with a secret is an identity token; both empty is anonymous. */
  credentials(host: string, signal: AbortSignal): Promise<{ readonly username: string; readonly secret: string }>;
}

export interface RegistryCall {
  readonly auth: RegistryAuth;
  readonly signal: AbortSignal;
  /** Plain HTTP or unverified TLS for this call (`registry.insecure`), on top of the configuration. */
  readonly insecure?: boolean;
  /** At most so many attempts, for a caller that decides by itself about trying again. */
  readonly attempts?: number;
  /** Hears of each wait before a request is sent again, for the log of the step. */
  readonly onRetry?: (error: BuildError, delayMs: number) => void;
}

/** Mirrors, retries within a budget, Retry-After and resumed downloads are inside. Statuses become kinds: 404 `not-found`,
 *  401/403 `denied`, 429 and 5xx `unavailable`, wrong bytes `corrupt`; messages name the reference. */
export interface Registry {
  /** Digest, media type and bytes of the manifest or index a reference names. */
  resolve(
    reference: ImageReference,
    call: RegistryCall,
  ): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }>;
  /** A manifest, config or other small blob by descriptor, verified. */
  fetchSmall(reference: ImageReference, descriptor: Descriptor, call: RegistryCall): Promise<Uint8Array>;
  /** A layer into the content store, hashed while written. */
  fetchBlob(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall & { readonly onProgress: (bytes: number) => void },
  ): Promise<void>;
  /** Uploads a blob from the content store unless it is there; mounts it from `mountFrom` when the registry allows. */
  pushBlob(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall & { readonly mountFrom?: ImageReference; readonly onProgress: (bytes: number) => void },
  ): Promise<void>;
  pushManifest(reference: ImageReference, descriptor: Descriptor, bytes: Uint8Array, call: RegistryCall): Promise<void>;
}
