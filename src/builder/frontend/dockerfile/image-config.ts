/**
 * The image config a Dockerfile produces: read from the base image, changed by instructions, written with the fields, order and
 * omissions of BuildKit's (OCI image-spec v1.1 config.md, with Docker's Healthcheck, OnBuild and Shell).
 */
import { rfc3339 } from '../../../core/clock.ts';
import { splitEntry } from '../../llb/env.ts';
import type { Platform } from '../../llb/platform.ts';
import { type GoValue, goJson, RawJson } from '../../registry/go-json.ts';
import { invalid } from './errors.ts';
import type { Healthcheck } from './instruction.ts';

export interface HistoryEntry {
  readonly created?: string;
  readonly createdBy?: string;
  readonly author?: string;
  readonly comment?: string;
  readonly emptyLayer?: boolean;
}

const HISTORY_COMMENT = 'buildkit.dockerfile.v0';
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Changed in place while a stage is built; `clone` before another stage takes over from it. */
export class ImageConfig {
  created: string | undefined;
  author = '';
  platform: Platform;
  rootfsType = '';
  /** Null when there never was a list: Go writes it so. */
  diffIds: readonly string[] | null = null;
  history: HistoryEntry[] = [];
  user = '';
  exposedPorts = new Set<string>();
  env: string[] = [];
  entrypoint: readonly string[] = [];
  cmd: readonly string[] = [];
  volumes = new Set<string>();
  workingDir = '';
  labels = new Map<string, string>();
  stopSignal = '';
  argsEscaped = false;
  healthcheck: Healthcheck | undefined;
  onbuild: readonly string[] = [];
  shell: readonly string[] = [];

  #indexed: { readonly env: readonly string[]; readonly places: Map<string, number> } | undefined;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** What FROM scratch starts with. */
  static empty(platform: Platform): ImageConfig {
    const image = new ImageConfig(platform);
    image.rootfsType = 'layers';
    image.workingDir = '/';
    if (platform.os !== 'windows') image.env = [`PATH=${DEFAULT_PATH}`];
    return image;
  }

  /** @throws BuildError `invalid-input` when `json` is no image config. */
  static parse(json: Uint8Array): ImageConfig {
    let parsed: unknown;
    try {
      parsed = JSON.parse(new TextDecoder().decode(json));
    } catch (cause) {
      throw invalid(`failed to parse image config: ${(cause as Error).message}`);
    }
    return new ConfigReader(objectOf(parsed, 'image config')).read();
  }

  clone(): ImageConfig {
    const copy = new ImageConfig(this.platform);
    Object.assign(copy, this);
    copy.history = [...this.history];
    copy.env = [...this.env];
    copy.exposedPorts = new Set(this.exposedPorts);
    copy.volumes = new Set(this.volumes);
    copy.labels = new Map(this.labels);
    return copy;
  }

  /** Adds what an instruction did. `epochS` is the build's fixed time, seconds since 1970. */
  commit(createdBy: string, { layer, epochS }: { readonly layer: boolean; readonly epochS: number | undefined }): void {
    this.history.push({
      ...(epochS === undefined ? {} : { created: rfc3339(BigInt(epochS) * 1_000_000_000n) }),
      createdBy,
      comment: HISTORY_COMMENT,
      emptyLayer: !layer,
    });
  }

  /** A variable that is there keeps its place. */
  setEnv(key: string, value: string): void {
    const at = this.#envIndex().get(key) ?? this.env.length;
    this.env[at] = `${key}=${value}`;
    this.#envIndex().set(key, at);
  }

  hasEnv(key: string): boolean {
    return this.#envIndex().has(key);
  }

  /** Where each variable stands; a list of ten thousand is not searched for every one that is added. */
  #envIndex(): Map<string, number> {
    if (this.#indexed?.env === this.env) return this.#indexed.places;
    const places = new Map<string, number>();
    for (const [i, entry] of this.env.entries()) {
      const [key] = splitEntry(entry);
      if (!places.has(key)) places.set(key, i);
    }
    this.#indexed = { env: this.env, places };
    return places;
  }

  /** JSON, byte for byte as Go's encoder writes the same config. */
  toJson(): string {
    const { os, architecture, variant, osVersion, osFeatures } = this.platform;
    return goJson({
      created: this.created,
      author: orNothing(this.author),
      architecture,
      os,
      'os.version': orNothing(osVersion),
      'os.features': listOrNothing(osFeatures),
      variant: orNothing(variant),
      rootfs: { type: this.rootfsType, diff_ids: this.diffIds },
      history: this.history.length === 0 ? undefined : this.history.map(historyJson),
      config: {
        User: orNothing(this.user),
        ExposedPorts: setOrNothing(this.exposedPorts),
        Env: listOrNothing(this.env),
        Entrypoint: listOrNothing(this.entrypoint),
        Cmd: listOrNothing(this.cmd),
        Volumes: setOrNothing(this.volumes),
        WorkingDir: orNothing(this.workingDir),
        Labels: this.labels.size === 0 ? undefined : this.labels,
        StopSignal: orNothing(this.stopSignal),
        ArgsEscaped: this.argsEscaped ? true : undefined,
        Healthcheck: this.healthcheck === undefined ? undefined : healthcheckJson(this.healthcheck),
        OnBuild: listOrNothing(this.onbuild),
        Shell: listOrNothing(this.shell),
      },
    });
  }
}

const orNothing = (text: string): string | undefined => (text === '' ? undefined : text);
const listOrNothing = (items: readonly string[]): readonly string[] | undefined => (items.length === 0 ? undefined : items);
const setOrNothing = (items: ReadonlySet<string>): ReadonlyMap<string, GoValue> | undefined =>
  items.size === 0 ? undefined : new Map(Array.from(items, (item) => [item, {}]));
const numberOrNothing = (value: bigint): RawJson | undefined => (value === 0n ? undefined : new RawJson(`${value}`));

function historyJson(entry: HistoryEntry): GoValue {
  return {
    created: entry.created,
    created_by: orNothing(entry.createdBy ?? ''),
    author: orNothing(entry.author ?? ''),
    comment: orNothing(entry.comment ?? ''),
    empty_layer: entry.emptyLayer === true ? true : undefined,
  };
}

function healthcheckJson(health: Healthcheck): GoValue {
  return {
    Test: listOrNothing(health.test),
    Interval: numberOrNothing(health.intervalNs),
    Timeout: numberOrNothing(health.timeoutNs),
    StartPeriod: numberOrNothing(health.startPeriodNs),
    StartInterval: numberOrNothing(health.startIntervalNs),
    Retries: health.retries === 0 ? undefined : health.retries,
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads a config whose author may be anyone: every field is checked, fields nobody knows are dropped. */
class ConfigReader {
  readonly #fields: Fields;

  constructor(fields: Fields) {
    this.#fields = fields;
  }

  read(): ImageConfig {
    const fields = this.#fields;
    const image = new ImageConfig({
      os: text(fields, 'os'),
      architecture: text(fields, 'architecture'),
      variant: text(fields, 'variant'),
      osVersion: text(fields, 'os.version'),
      osFeatures: list(fields, 'os.features'),
    });
    image.created = text(fields, 'created') || undefined;
    image.author = text(fields, 'author');
    const rootfs = objectOf(fields.rootfs ?? {}, 'rootfs');
    image.rootfsType = text(rootfs, 'type');
    image.diffIds = rootfs.diff_ids == null ? null : list(rootfs, 'diff_ids');
    image.history = arrayOf(fields.history, 'history').map(historyEntry);
    this.#readConfig(image, objectOf(fields.config ?? {}, 'config'));
    return image;
  }

  #readConfig(image: ImageConfig, config: Fields): void {
    image.user = text(config, 'User');
    image.exposedPorts = new Set(Object.keys(objectOf(config.ExposedPorts ?? {}, 'ExposedPorts')));
    image.env = [...list(config, 'Env')];
    image.entrypoint = list(config, 'Entrypoint');
    image.cmd = list(config, 'Cmd');
    image.volumes = new Set(Object.keys(objectOf(config.Volumes ?? {}, 'Volumes')));
    image.workingDir = text(config, 'WorkingDir');
    const labels = objectOf(config.Labels ?? {}, 'Labels');
    image.labels = new Map(Object.keys(labels).map((key) => [key, text(labels, key)]));
    image.stopSignal = text(config, 'StopSignal');
    image.argsEscaped = config.ArgsEscaped === true;
    image.onbuild = list(config, 'OnBuild');
    image.shell = list(config, 'Shell');
    if (config.Healthcheck != null) image.healthcheck = healthcheckOf(objectOf(config.Healthcheck, 'Healthcheck'));
  }
}

function historyEntry(value: unknown): HistoryEntry {
  const fields = objectOf(value, 'history');
  return {
    ...(fields.created == null ? {} : { created: text(fields, 'created') }),
    createdBy: text(fields, 'created_by'),
    author: text(fields, 'author'),
    comment: text(fields, 'comment'),
    emptyLayer: fields.empty_layer === true,
  };
}

function healthcheckOf(fields: Fields): Healthcheck {
  return {
    test: list(fields, 'Test'),
    intervalNs: integer(fields, 'Interval'),
    timeoutNs: integer(fields, 'Timeout'),
    startPeriodNs: integer(fields, 'StartPeriod'),
    startIntervalNs: integer(fields, 'StartInterval'),
    retries: Number(integer(fields, 'Retries')),
  };
}

const wrong = (what: string): Error => invalid(`failed to parse image config: ${what} is not what an image config holds there`);

function objectOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(what);
  return value as Fields;
}

function arrayOf(value: unknown, what: string): readonly unknown[] {
  if (value == null) return [];
  if (!Array.isArray(value)) throw wrong(what);
  return value;
}

function text(fields: Fields, key: string): string {
  const value = fields[key];
  if (value == null) return '';
  if (typeof value !== 'string') throw wrong(key);
  return value;
}

function list(fields: Fields, key: string): readonly string[] {
  const items = arrayOf(fields[key], key);
  if (!items.every((item) => typeof item === 'string')) throw wrong(key);
  return items;
}

function integer(fields: Fields, key: string): bigint {
  const value = fields[key] ?? 0;
  if (typeof value !== 'number' || !Number.isInteger(value)) throw wrong(key);
  return BigInt(value);
}
