/** The attributes of `--cache-to` that every type understands, read once and whole before the build runs. */
import { BuildError } from '../../../core/errors.ts';
import type { Compression } from '../../snapshot/ports.ts';

export type Attributes = ReadonlyMap<string, string>;

export interface ExportOptions {
  /** `min`: results that are in the exported image; `max`: those of every step. */
  readonly mode: 'min' | 'max';
  readonly compression: Compression;
  readonly level: number | undefined;
  readonly force: boolean;
  /** True only where the user wrote `ignore-error=false`: then a failed export fails the build. */
  readonly failsBuild: boolean;
}
export interface ManifestOptions {
  readonly ociTypes: boolean;
  readonly imageManifest: boolean;
}

/** @throws BuildError `invalid-input` or `unsupported` that names the attribute. */
export function parseExportOptions(attributes: Attributes): ExportOptions {
  const compression = parseCompression(attributes.get('compression'));
  return {
    // An unknown mode means min, as it does to the real daemon.
    mode: attributes.get('mode') === 'max' ? 'max' : 'min',
    compression,
    level: parseLevel(attributes.get('compression-level'), compression),
    force: parseFlag(attributes, 'force-compression', false),
    failsBuild: attributes.has('ignore-error') && !parseFlag(attributes, 'ignore-error', true),
  };
}

/** @throws BuildError `invalid-input`. */
export function parseManifestOptions(attributes: Attributes): ManifestOptions {
  const ociTypes = parseFlag(attributes, 'oci-mediatypes', true);
  const imageManifest = parseFlag(attributes, 'image-manifest', ociTypes);
  if (imageManifest && !ociTypes)
    throw invalid('invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format');
  return { ociTypes, imageManifest };
}

/** A boolean as Go's strconv.ParseBool reads it; an empty value means yes. @throws BuildError `invalid-input`. */
export function parseFlag(attributes: Attributes, name: string, absent: boolean): boolean {
  const text = attributes.get(name);
  if (text === undefined) return absent;
  if (['', '1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw invalid(`failed to parse ${name}: "${text}" is not a boolean`);
}

function parseCompression(text: string | undefined): Compression {
  if (text === undefined) return 'gzip';
  if (text === 'gzip' || text === 'zstd' || text === 'uncompressed') return text;
  if (text === 'estargz') throw new BuildError('unsupported', 'compression type estargz is not supported; use gzip or zstd');
  throw invalid(`unsupported compression type ${text}`);
}

function parseLevel(text: string | undefined, compression: Compression): number | undefined {
  if (text === undefined) return undefined;
  if (!/^-?\d{1,3}$/.test(text)) throw invalid(`non-integer value ${text} specified for compression-level`);
  return Math.min(compression === 'zstd' ? 22 : 9, Math.max(0, Number(text)));
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
