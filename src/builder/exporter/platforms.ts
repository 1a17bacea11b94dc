/** Which platforms a result is for: what the frontend said, else what the image config says, else this machine. */
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { normalizePlatform, type Platform, platformId } from '../llb/platform.ts';
import { parseJson } from '../registry/go-json.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import type { ExportSource } from './ports.ts';

export interface ExportPlatform {
  /** Key of the result and suffix of its metadata keys. */
  readonly id: string;
  readonly platform: Platform;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
export const HOST_PLATFORM: Platform = {
  os: 'linux',
  architecture: ARCHITECTURES[process.arch] ?? process.arch,
  variant: '',
  osVersion: '',
  osFeatures: [],
};

/** @throws BuildError `invalid-input` when metadata and results do not fit together. */
export function exportPlatforms(source: ExportSource): readonly ExportPlatform[] {
  const listed = source.metadata.get('refs.platforms');
  if (listed === undefined && source.multiPlatform) throw invalid('unable to export multiple refs, missing platforms mapping');
  const platforms = listed === undefined ? [implied(source)] : parseListed(listed);
  if (!source.multiPlatform && platforms.length > 1)
    throw invalid('cannot export multiple platforms without multi-platform enabled');
  for (const { id } of platforms)
    if (source.multiPlatform && !source.results.has(id)) throw invalid(`failed to find ref for ID ${id}`);
  return platforms;
}

/** The result for a platform; in the single form there is just one. */
export function resultFor(source: ExportSource, platform: ExportPlatform): Snapshot | undefined {
  return source.multiPlatform ? source.results.get(platform.id) : source.results.get('');
}

/** Metadata for a platform: `<key>/<platform id>`, else `<key>`. */
export function metadataFor(source: ExportSource, key: string, platform: ExportPlatform): Uint8Array | undefined {
  return source.metadata.get(`${key}/${platform.id}`) ?? source.metadata.get(key);
}

export function descriptorPlatform({ platform }: ExportPlatform): NonNullable<Descriptor['platform']> {
  const { os, architecture, variant, osVersion, osFeatures } = platform;
  return {
    architecture,
    os,
    ...(osVersion === '' ? {} : { 'os.version': osVersion }),
    ...(osFeatures.length === 0 ? {} : { 'os.features': osFeatures }),
    ...(variant === '' ? {} : { variant }),
  };
}

interface OciPlatform {
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}
const platformOf = (json: OciPlatform): Platform =>
  normalizePlatform({
    os: json.os ?? '',
    architecture: json.architecture ?? '',
    variant: json.variant ?? '',
    osVersion: json['os.version'] ?? '',
    osFeatures: json['os.features'] ?? [],
  });

function parseListed(bytes: Uint8Array): ExportPlatform[] {
  const json = parseJson(new TextDecoder().decode(bytes), 'refs.platforms') as {
    Platforms?: readonly { ID?: string; Platform?: OciPlatform }[];
  } | null;
  const platforms = json?.Platforms ?? [];
  if (platforms.length === 0) throw invalid('invalid empty platforms index for exporter');
  return platforms.map(({ ID: id = '', Platform: platform = {} }) => {
    if (id === '') throw invalid('invalid empty platform key for exporter');
    if ((platform.os ?? '') === '' || (platform.architecture ?? '') === '')
      throw invalid(`invalid platform value ${JSON.stringify(platform)} for exporter`);
    return { id, platform: platformOf(platform) };
  });
}

function implied(source: ExportSource): ExportPlatform {
  const config = source.metadata.get('containerimage.config');
  if (config === undefined) return withId(HOST_PLATFORM);
  const json = parseJson(new TextDecoder().decode(config), 'image config') as OciPlatform | null;
  const os = json?.os ?? '';
  const architecture = json?.architecture ?? '';
  if ((os === '') !== (architecture === ''))
    throw invalid('invalid image config: os and architecture must be specified together');
  return withId(os === '' ? HOST_PLATFORM : platformOf(json ?? {}));
}

const withId = (platform: Platform): ExportPlatform => ({ id: platformId(platform), platform });
const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
