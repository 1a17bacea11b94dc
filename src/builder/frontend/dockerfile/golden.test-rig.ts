/** Runs the frontend on a case folder, with files and image configs from the folder, and writes down everything it did. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, type JsonObject, toJson } from '@bufbuild/protobuf';
import { digestOf, vertexDigestOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import { type Definition, OpMetadataSchema, OpSchema, PlatformSchema } from '../../proto/gen/pb/ops_pb.ts';
import type { Bridge, FrontendWarning } from '../ports.ts';
import { dockerfileFrontend } from './frontend.ts';

export interface GoldenCase {
  readonly options: Readonly<Record<string, string>>;
  readonly images: Readonly<Record<string, unknown>>;
}
export type GoldenOutcome =
  | { readonly kind: 'graphs'; readonly text: string }
  /** The message, and the lines of the file it is about. */
  | { readonly kind: 'error'; readonly text: string };

/** `case.json` of the folder with the images all cases share. */
export function readCase(dir: string): GoldenCase {
  const own = readJson(join(dir, 'case.json')) as { options?: Record<string, string>; images?: Record<string, unknown> };
  const shared = readJson(join(dir, '..', 'images.json')) as Record<string, unknown>;
  return { options: own.options ?? {}, images: { ...shared, ...own.images } };
}

const readJson = (path: string): unknown => (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {});

export async function runCase(dir: string): Promise<GoldenOutcome> {
  const recorder = recordingBridge(dir, readCase(dir));
  const { options } = readCase(dir);
  try {
    const request = { frontend: 'dockerfile.v0', options: new Map(Object.entries(options)), inputs: new Map() };
    const { metadata } = await dockerfileFrontend.run(recorder.bridge, request);
    const values = Array.from(metadata, ([key, value]) => [key, parsedOrText(new TextDecoder().decode(value))] as const);
    return {
      kind: 'graphs',
      text: `${JSON.stringify({ ...recorder.recorded(), metadata: Object.fromEntries(values.sort()) }, null, 1)}\n`,
    };
  } catch (thrown) {
    const error = BuildError.from(thrown);
    if (error.kind === 'internal') throw error;
    const lines = error.detail.source?.ranges.map(({ start }) => start.line) ?? [];
    return { kind: 'error', text: `${error.message}\nkind: ${error.kind}\nlines: ${lines.join(' ')}\n` };
  }
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A bridge that reads files from `dir`, knows the images of the case, and remembers what it was asked for. */
export function recordingBridge(dir: string, { images }: GoldenCase, llbCaps: ReadonlySet<string> = new Set(['mergeop'])) {
  const definitions: Definition[] = [];
  const warnings: FrontendWarning[] = [];
  const logs: string[] = [];
  const bridge: Bridge = {
    sessionId: 'session',
    signal: new AbortController().signal,
    llbCaps,
    workerPlatforms: [create(PlatformSchema, { OS: 'linux', Architecture: 'amd64' })],
    solve: async (definition) => {
      definitions.push(definition);
      return { id: `${definitions.length}`, definition };
    },
    forward: async ({ options }) => {
      throw new BuildError('unsupported', `forwarded to ${options.get('source')} with ${options.get('cmdline')}`);
    },
    resolveImageConfig: async ({ ref, logName }) => {
      logs.push(logName);
      const config = images[ref];
      if (config === undefined) throw new BuildError('not-found', `${ref}: not found`);
      return { ref, digest: digestOf(ref), config: new TextEncoder().encode(JSON.stringify(config)) };
    },
    readFile: async (_ref, path) => {
      const file = join(dir, path);
      if (!existsSync(file)) throw new BuildError('not-found', `open ${path}: no such file or directory`);
      return readFileSync(file);
    },
    readDir: async () => [],
    statFile: async () => {
      throw new BuildError('not-found', 'nothing is asked for here');
    },
    warn: (warning) => {
      warnings.push(warning);
    },
  };
  const recorded = (): JsonObject => ({
    definitions: sortedByHead(definitions).map(definitionJson),
    images: logs.toSorted(),
    warnings: warnings.map(warningJson),
  });
  return { bridge, recorded, definitions };
}

/** Graphs of several platforms are made side by side; their order means nothing. */
function sortedByHead(definitions: readonly Definition[]): Definition[] {
  const head = (definition: Definition): string => vertexDigestOf(definition.def.at(-1) ?? new Uint8Array());
  return definitions.toSorted((a, b) => (head(a) < head(b) ? -1 : 1));
}

/** Every op with its digest, metadata and lines, in the order of the list. */
export function definitionJson(definition: Definition): JsonObject[] {
  return definition.def.map((bytes) => {
    const digest = vertexDigestOf(bytes);
    const metadata = definition.metadata[digest];
    const locations = definition.Source?.locations[digest]?.locations ?? [];
    return {
      digest,
      op: toJson(OpSchema, fromBinary(OpSchema, bytes)),
      ...(metadata === undefined ? {} : { metadata: sortedKeys(toJson(OpMetadataSchema, metadata) as JsonObject) }),
      ...(locations.length === 0 ? {} : { lines: locations.map(({ ranges }) => ranges.map(({ start }) => start?.line ?? 0)) }),
    };
  });
}

function sortedKeys(object: JsonObject): JsonObject {
  const entries = Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(
    entries.map(([key, value]) => [
      key,
      typeof value === 'object' && value !== null && !Array.isArray(value) ? sortedKeys(value) : value,
    ]),
  );
}

function warningJson({ short, url, detail, source, vertex }: FrontendWarning): JsonObject {
  return { short, url, detail: detail.join(' '), lines: source?.ranges.map(({ start }) => start.line) ?? [], vertex };
}
