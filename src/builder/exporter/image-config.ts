/**
 * Completes an image config for the layers it goes with (OCI image-spec v1.1, config.md): `rootfs`, one history entry per layer,
 * creation times. Byte for byte what BuildKit's exporter makes of the same input.
 */
import { rfc3339 } from '../../core/clock.ts';
import type { DiffId } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { type GoValue, goJson, objectMembers, parseJson, RawJson } from '../registry/go-json.ts';
import { parseGoTime } from './go-time.ts';
import { HOST_PLATFORM } from './platforms.ts';

export interface ConfigLayer {
  readonly diffId: DiffId;
  readonly createdAtNs: bigint;
  readonly description: string;
}
export interface ConfigInput {
  /** Undefined: a default config for this machine's platform. */
  readonly config: Uint8Array | undefined;
  /** Config of the image built upon; its history keeps its times when an epoch is set. */
  readonly baseConfig: Uint8Array | undefined;
  readonly layers: readonly ConfigLayer[];
  /** Times after it become it. */
  readonly epochSeconds: bigint | undefined;
  /** Records of `type=inline`. */
  readonly inlineCache?: Uint8Array | undefined;
}

/** One entry of `history`, in the field order of the Go struct. A type, not an interface, so that it is a GoValue. */
type History = {
  readonly created?: string | undefined;
  readonly created_by?: string | undefined;
  readonly author?: string | undefined;
  readonly comment?: string | undefined;
  readonly empty_layer?: true | undefined;
};

const EXPORTER_COMMENT = 'buildkit.exporter.image.v0'; // readers of histories look for this text
const INLINE_CACHE = 'moby.buildkit.cache.v0';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @throws BuildError `invalid-input` for a config that is not one. */
export function completeConfig(input: ConfigInput): Uint8Array {
  const { layers, epochSeconds } = input;
  const text = input.config === undefined ? defaultConfig() : new TextDecoder().decode(input.config);
  if (text.trim() === 'null') throw invalid('invalid null image config for export');
  const members: Map<string, GoValue> = objectMembers(text, 'image config for export');
  for (const name of ['os', 'architecture'])
    if (rawText(members.get(name)) === undefined) throw invalid(`invalid image config for export: missing ${name}`);
  const given = parseHistory(members.get('history'));
  let history = given === undefined && layers.length === 0 ? undefined : withLayers(given ?? [], layers);
  if (history !== undefined) history = withTimes(history, layers);
  if (history !== undefined && epochSeconds !== undefined)
    history = clampHistory(history, parseBaseHistory(input.baseConfig), epochSeconds);
  const diffIds = layers.length === 0 ? null : layers.map(({ diffId }) => diffId);
  members.set('rootfs', { type: 'layers', diff_ids: diffIds });
  members.set('history', history?.map(ordered) ?? null);
  if (input.inlineCache !== undefined) members.set(INLINE_CACHE, Buffer.from(input.inlineCache).toString('base64'));
  const created = rawText(members.get('created'));
  if (!members.has('created')) members.set('created', history?.findLast((entry) => entry.created !== undefined)?.created ?? null);
  else if (epochSeconds !== undefined && created !== undefined) members.set('created', clampTime(created, epochSeconds, true));
  return new TextEncoder().encode(goJson(members));
}

/** Too many entries for the layers there are: the later ones count as empty. Too few: layers without entry get one. */
function withLayers(history: readonly History[], layers: readonly ConfigLayer[]): readonly History[] {
  let used = 0;
  const fitted = history.map((entry) => {
    if (entry.empty_layer === true) return entry;
    used += 1;
    return used > layers.length ? { ...entry, empty_layer: true as const } : entry;
  });
  const missing = layers.slice(Math.min(used, layers.length)).map((layer) => ({
    created: rfc3339(layer.createdAtNs),
    created_by: layer.description === '' ? 'created by buildkit' : layer.description,
    comment: EXPORTER_COMMENT,
  }));
  return [...fitted, ...missing];
}

/**
 * Times for entries that have none: a layer's own, and for an empty entry that of the nearest dated entry before it, or for the
 * first new ones that of the first new layer, lest a new instruction look as old as its base image.
 */
function withTimes(history: readonly History[], layers: readonly ConfigLayer[]): readonly History[] {
  let layer = 0;
  const dated = history.map((entry) => {
    if (entry.empty_layer === true) return entry;
    const own = layers[layer]?.createdAtNs;
    layer += 1;
    return entry.created === undefined && own !== undefined ? { ...entry, created: rfc3339(own) } : entry;
  });
  let created: string | undefined;
  let gap = false;
  for (const entry of dated) {
    if (entry.created === undefined) gap = true;
    else {
      created = entry.created;
      if (gap) break;
    }
  }
  gap = false;
  return dated.map((entry) => {
    if (entry.created === undefined) {
      gap = true;
      return created === undefined ? entry : { ...entry, created };
    }
    if (gap) created = entry.created;
    return entry;
  });
}

/** Entries shared with the base image keep their times: they are not of this build. */
function clampHistory(history: readonly History[], base: readonly History[], epochSeconds: bigint): readonly History[] {
  let diverged = false;
  return history.map((entry, at) => {
    if (!diverged && at < base.length && goJson(ordered(entry)) === goJson(ordered(base[at] as History))) return entry;
    diverged = true;
    return {
      ...entry,
      created: entry.created === undefined ? epochText(epochSeconds) : clampTime(entry.created, epochSeconds, false),
    };
  });
}

function clampTime(text: string, epochSeconds: bigint, keepSpelling: boolean): string {
  const time = parseGoTime(text);
  if (time.ns > epochSeconds * 1_000_000_000n) return epochText(epochSeconds);
  return keepSpelling ? text : time.text;
}
const epochText = (seconds: bigint): string => rfc3339(seconds * 1_000_000_000n);

function parseHistory(raw: GoValue | undefined): readonly History[] | undefined {
  if (!(raw instanceof RawJson)) return undefined;
  const list = parseJson(raw.text, 'history of the image config');
  if (list === null) return undefined;
  if (!Array.isArray(list)) throw invalid('failed to unmarshal history from config: it is not a list');
  return list.map((value: unknown) => {
    if (value === null || typeof value !== 'object')
      throw invalid('failed to unmarshal history from config: an entry is not an object');
    const entry = value as Record<string, unknown>;
    return ordered({
      created: typeof entry.created === 'string' ? parseGoTime(entry.created).text : undefined,
      created_by: textOf(entry.created_by),
      author: textOf(entry.author),
      comment: textOf(entry.comment),
      empty_layer: entry.empty_layer === true ? true : undefined,
    });
  });
}

function parseBaseHistory(config: Uint8Array | undefined): readonly History[] {
  if (config === undefined || config.byteLength === 0) return [];
  return parseHistory(objectMembers(new TextDecoder().decode(config), 'base image config').get('history')) ?? [];
}

/** Spreading keeps the place of a key that was there and appends one that was not; the struct's order is fixed. */
const ordered = ({ created, created_by, author, comment, empty_layer }: History): History => ({
  created,
  created_by,
  author,
  comment,
  empty_layer,
});
const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

function rawText(value: GoValue | undefined): string | undefined {
  const parsed: unknown = value instanceof RawJson ? JSON.parse(value.text) : undefined;
  return typeof parsed === 'string' && parsed !== '' ? parsed : undefined;
}

function defaultConfig(): string {
  const { architecture, os } = HOST_PLATFORM;
  return goJson({ architecture, os, config: { Env: [DEFAULT_PATH], WorkingDir: '/' } });
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
