/** What `POST /api/v1/builds` takes and answers; the daemon's side of it is behind OpsWrites.submit. */
import * as z from 'zod';

const text = z.string().min(1).max(1024);
const pairs = z.record(z.string().min(1).max(256), z.string().max(16_384));
const cache = z.strictObject({
  type: z.enum(['registry', 'inline', 's3', 'azblob', 'gha', 'redis']),
  attributes: pairs.default({}),
});

/** Paths in a context: relative, and not upwards. */
const inside = text.refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), 'a path inside the context');
const REMOTE = /^(https?:\/\/|git:\/\/|ssh:\/\/|git@)[^\s]+$/;

export const buildOptions = z.strictObject({
  context: z.optional(
    z
      .string()
      .max(4096)
      .regex(REMOTE, 'an http(s), git or ssh URL')
      .describe('URL of a repository or an archive; not with an upload'),
  ),
  dockerfileText: z.optional(z.string().max(1_000_000).describe('the Dockerfile itself, in place of one in the context')),
  dockerfile: inside.default('Dockerfile').describe('path in the context'),
  target: z.optional(text.describe('stage to build')),
  platform: z.optional(text.describe('platforms of the result, comma between')),
  buildArgs: pairs.default({}).describe('build arguments; never a secret, for they are kept with the image'),
  labels: pairs.default({}),
  noCache: z.boolean().default(false).describe('run every step again'),
  pull: z.boolean().default(false).describe('look for newer base images'),
  output: z
    .enum(['none', 'image', 'oci', 'docker', 'tar'])
    .default('none')
    .describe('`image` stays with the daemon or is pushed; `oci`, `docker` and `tar` are the answer'),
  names: z.array(text).max(32).default([]).describe('names of the image'),
  push: z.boolean().default(false).describe('push the image; credentials in `X-Registry-Auth`'),
  cacheFrom: z.array(cache).max(16).default([]).describe('remote caches to look into'),
  cacheTo: z.array(cache).max(16).default([]).describe('remote caches to write'),
  detach: z.boolean().default(false).describe('answer 202 with the ref at once; the build goes on without the caller'),
});
export type BuildOptions = z.infer<typeof buildOptions>;

/** User and password by registry host. */
export const registryAuth = z.record(
  z.string().min(1).max(256),
  z.strictObject({ username: z.string().max(1024), password: z.string().max(16_384) }),
);
export type RegistryAuth = z.infer<typeof registryAuth>;

export interface BuildOrder {
  readonly options: BuildOptions;
  /** A tar archive, plain, gzip or zstd; read once, at the pace it is written to disk. */
  readonly upload: { readonly body: AsyncIterable<Uint8Array>; readonly sizeBytes: number | undefined } | undefined;
  readonly registryAuth: RegistryAuth;
  readonly traceparent: string | undefined;
  /** Who is counted against the rate: the name of the token. */
  readonly actor: string;
}

/** Lines of the answer while the build runs. */
export type BuildNews =
  | {
      readonly type: 'step';
      readonly step: string;
      readonly name: string;
      readonly state: 'started' | 'cached' | 'done' | 'failed';
      readonly error?: string;
    }
  | { readonly type: 'log'; readonly step: string; readonly stream: number; readonly text: string }
  | { readonly type: 'warning'; readonly step: string; readonly text: string; readonly place?: string };

/** Milliseconds from the moment the daemon accepted the build. */
export interface BuildTimes {
  readonly queuedMs?: number;
  readonly firstArtifactMs?: number;
  readonly totalMs: number;
}
export interface BuildEnd {
  readonly response: Readonly<Record<string, string>>;
  /** File with what the build answers; gone when the build is disposed. */
  readonly download: string | undefined;
}

/** A build that was taken. Disposing cancels it if it runs and removes what was uploaded. */
export interface SubmittedBuild extends AsyncDisposable {
  readonly ref: string;
  /** Ends with the build. */
  news(signal: AbortSignal): AsyncIterable<BuildNews>;
  /** Rejects with the build's error. Safe to leave alone. */
  readonly end: Promise<BuildEnd>;
  times(): BuildTimes;
  counts(): { readonly total: number; readonly cached: number };
  /** Lets the build go on without its caller; what was uploaded goes when it ends. */
  detach(): void;
}
