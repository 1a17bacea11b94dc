/** What differs between the same build by two daemons. Times that a build stamps itself are told apart from everything else. */
import type { Image, Layer, Layout } from './oci-image.ts';
import type { TarEntry } from './tar-list.ts';

export interface Comparison {
  /** What time stamps do not explain. */
  readonly differences: readonly string[];
  /** Entries and JSON fields that differ in their time only. */
  readonly times: number;
  readonly layers: number;
  readonly entries: number;
  readonly diffIdsEqual: number;
  readonly configsEqual: boolean;
  readonly manifestsEqual: boolean;
}

export function compareLayouts(ours: Layout, theirs: Layout): Comparison {
  const report = new Report();
  report.same('number of images', ours.images.length, theirs.images.length);
  report.same('number of indexes', ours.indexes.length, theirs.indexes.length);
  for (const [at, image] of ours.images.entries()) {
    const other = theirs.images[at];
    if (other !== undefined) compareImages(report, ours.images.length === 1 ? '' : `image ${at}: `, image, other);
  }
  for (const [at, index] of ours.indexes.entries())
    report.same(`index ${at}`, withoutContent(index), withoutContent(theirs.indexes[at] ?? ''));
  const pairs = ours.images.flatMap(({ layers }, at) => layers.map((layer, n) => [layer, theirs.images[at]?.layers[n]] as const));
  return {
    differences: report.differences,
    times: report.times,
    layers: pairs.length,
    entries: pairs.reduce((sum, [layer]) => sum + layer.entries.length, 0),
    diffIdsEqual: pairs.filter(([layer, other]) => layer.diffId === other?.diffId).length,
    configsEqual: ours.images.every(({ configDigest }, at) => configDigest === theirs.images[at]?.configDigest),
    manifestsEqual: ours.images.every(({ digest }, at) => digest === theirs.images[at]?.digest),
  };
}

class Report {
  readonly differences: string[] = [];
  times = 0;

  same(what: string, ours: string | number, theirs: string | number): boolean {
    if (ours === theirs) return true;
    this.differences.push(`${what}: ${excerpt(String(ours), String(theirs))}`);
    return false;
  }
}

function compareImages(report: Report, prefix: string, ours: Image, theirs: Image): void {
  report.same(`${prefix}number of layers`, ours.layers.length, theirs.layers.length);
  for (const [at, layer] of ours.layers.entries()) {
    const other = theirs.layers[at];
    if (other !== undefined && layer.diffId !== other.diffId) compareLayers(report, `${prefix}layer ${at}`, layer, other);
  }
  report.same(`${prefix}manifest`, withoutContent(ours.manifest), withoutContent(theirs.manifest));
  const [config, otherConfig] = [ours.config, theirs.config].map(withoutTimes);
  if (report.same(`${prefix}config`, config ?? '', otherConfig ?? '') && ours.config !== theirs.config) report.times += 1;
}

function compareLayers(report: Report, where: string, ours: Layer, theirs: Layer): void {
  const names = (layer: Layer): string => layer.entries.map(({ name }) => name).join('\n');
  const before = report.differences.length;
  const timesBefore = report.times;
  if (!report.same(`${where} entries`, names(ours), names(theirs))) return;
  for (const [at, entry] of ours.entries.entries()) {
    const other = theirs.entries[at];
    if (other === undefined) continue;
    const { modifiedAt, ...rest } = comparable(entry);
    const { modifiedAt: otherModifiedAt, ...otherRest } = comparable(other);
    report.same(`${where} ${entry.name}`, JSON.stringify(rest), JSON.stringify(otherRest));
    if (modifiedAt !== otherModifiedAt) report.times += 1;
  }
  if (report.differences.length === before && report.times === timesBefore)
    report.differences.push(`${where}: equal entries, but not byte by byte`);
}

/** Without the pax record that only says that the time has a fraction. */
const comparable = (entry: TarEntry) => ({ ...entry, pax: entry.pax.filter((name) => name !== 'mtime').join() });

/** Digests and sizes stand for content, which is compared itself. */
const withoutContent = (json: string): string =>
  withoutTimes(json)
    .replace(/"sha256:[0-9a-f]{64}"/g, '"DIGEST"')
    .replace(/"size":\s*\d+/g, '"size":N');
const withoutTimes = (json: string): string =>
  json.replace(/"((?:org\.opencontainers\.image\.)?created)":\s*"[^"]*"/g, '"$1":"TIME"').replace(
    /"diff_ids":\[[^\]]*\]/g,
    (ids) =>
      `"diff_ids":[${ids
        .split(',')
        .map(() => 'LAYER')
        .join()}]`,
  );

/** The two texts from a little before the place where they part. */
function excerpt(ours: string, theirs: string): string {
  let at = 0;
  while (at < ours.length && ours[at] === theirs[at]) at += 1;
  const from = Math.max(0, at - 60);
  return `${JSON.stringify(ours.slice(from, at + 160))}, buildkitd has ${JSON.stringify(theirs.slice(from, at + 160))}`;
}
