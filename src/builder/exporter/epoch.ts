/** The source date epoch that holds for an export: the exporter's attribute, else what the frontend decided. */
import { BuildError } from '../../core/errors.ts';
import { type EpochChoice, parseEpoch } from './attributes.ts';
import { type ExportPlatform, metadataFor } from './platforms.ts';
import type { ExportSource } from './ports.ts';

/** Seconds since the Unix epoch. @throws BuildError `invalid-input` for metadata that is no number. */
export function epochOf(source: ExportSource, choice: EpochChoice, platform: ExportPlatform): bigint | undefined {
  if (choice === 'none') return undefined;
  if (choice !== undefined) return choice.seconds;
  const bytes = metadataFor(source, 'source.date.epoch', platform);
  if (bytes === undefined) return undefined;
  try {
    const decided = parseEpoch(new TextDecoder().decode(bytes), 'SOURCE_DATE_EPOCH');
    return decided === undefined || decided === 'none' ? undefined : decided.seconds;
  } catch (error) {
    throw BuildError.from(error).wrap('invalid SOURCE_DATE_EPOCH from frontend');
  }
}
