/** Exporter attributes, read once and whole before the build runs (buildkit-wire.md section 5.9). */
import { BuildError } from '../../core/errors.ts';
import type { Compression } from '../snapshot/ports.ts';
import { type Annotations, parseAnnotations } from './annotations.ts';

export type Attributes = ReadonlyMap<string, string>;

/** `undefined` leaves the decision to the frontend; `none` says that there is no epoch, whatever the frontend decided. */
export type EpochChoice = { readonly seconds: bigint } | 'none' | undefined;

export interface ImageOptions {
  /** As given: a csv of references, or `*` for the name the frontend proposes. */
  readonly name: string;
  readonly ociTypes: boolean;
  readonly compression: Compression;
  readonly compressionLevel: number | undefined;
  readonly forceCompression: boolean;
  readonly keepNonDistributable: boolean;
  readonly epoch: EpochChoice;
  readonly rewriteTimestamp: boolean;
  readonly annotations: Annotations;
}

/** @throws BuildError `invalid-input` for a value that has no meaning, `unsupported` for one that we cannot honour. */
export function parseImageOptions(attributes: Attributes): ImageOptions {
  const compression = parseCompression(attributes.get('compression'));
  const ociTypes = parseFlag(attributes, 'oci-mediatypes', true);
  if (compression === 'zstd' && !ociTypes)
    throw invalid('exporter option "compression=zstd" conflicts with "oci-mediatypes=false"');
  if (parseFlag(attributes, 'oci-artifact', false) && !ociTypes)
    throw invalid('exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"');
  const annotations = parseAnnotations(attributes);
  if (!ociTypes && annotations.onDescriptorsOrIndex) throw invalid('cannot export annotations with "oci-mediatypes=false"');
  return {
    name: attributes.get('name') ?? '',
    ociTypes,
    compression,
    compressionLevel: parseLevel(attributes.get('compression-level'), compression),
    forceCompression: parseFlag(attributes, 'force-compression', false),
    keepNonDistributable: parseFlag(attributes, 'prefer-nondist-layers', false),
    epoch: parseEpoch(attributes.get('source-date-epoch'), 'source-date-epoch'),
    rewriteTimestamp: parseFlag(attributes, 'rewrite-timestamp', false),
    annotations,
  };
}

/** A boolean as Go's strconv.ParseBool reads it; an empty value means yes, as in `push` without `=`. */
export function parseFlag(attributes: Attributes, name: string, absent: boolean): boolean {
  const text = attributes.get(name);
  if (text === undefined) return absent;
  if (['', '1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw invalid(`non-bool value specified for ${name}: "${text}"`);
}

/** Seconds since the Unix epoch; an empty text is a choice too: none. */
export function parseEpoch(text: string | undefined, name: string): EpochChoice {
  if (text === undefined) return undefined;
  if (text === '') return 'none';
  if (!/^[+-]?\d{1,18}$/.test(text)) throw invalid(`invalid ${name}: "${text}" is not a number of seconds`);
  return { seconds: BigInt(text) };
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
  const max = compression === 'zstd' ? 22 : 9;
  return Math.min(max, Math.max(0, Number(text)));
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
