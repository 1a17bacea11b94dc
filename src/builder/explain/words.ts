/** Changes in one sentence each, as `cooper explain`, spans and the page show them. */
import type { CacheChange, MissReason } from '../events.ts';

const MAX_SHOWN = 120;
const NAMED = 3;

export interface SummaryParts {
  readonly because?: string | undefined;
  readonly files?: { readonly changes: readonly CacheChange[]; readonly more: number; readonly total: number } | undefined;
}

export function summaryOf(reason: MissReason, changes: readonly CacheChange[], { because, files }: SummaryParts): string {
  if (reason === 'parent-changed') return `because "${clip(because ?? '')}" was not served from cache`;
  if (reason === 'key-format-changed') return 'cache keys are made in another way than when it was built';
  if (reason === 'input-changed' && files !== undefined) return filesSummary(files);
  const first = changes.find(({ what }) => what !== 'instruction') ?? changes[0];
  const told = reason === 'instruction-changed' ? (changes.find(({ what }) => what === 'instruction') ?? first) : first;
  if (told === undefined) return 'its input changed';
  const rest = changes.length - 1;
  return `${describeChange(told)}${rest > 0 && reason !== 'instruction-changed' ? ` and ${rest} more` : ''}`;
}

/** Of a step whose input is another one than before although all of it was in the cache. */
export const standsOnAnother = (name: string): string =>
  `it stands on "${clip(name)}", which was in the cache but is not what it stood on before`;

function filesSummary({ changes, more, total }: NonNullable<SummaryParts['files']>): string {
  const count = changes.length + more;
  const names = changes
    .slice(0, NAMED)
    .map(({ name, old, new: now }) => `${name}${old === undefined ? ' (new)' : now === undefined ? ' (gone)' : ''}`);
  const rest = count - names.length;
  return `${count} of ${Math.max(total, count)} files changed: ${names.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

const LABEL: Readonly<Record<CacheChange['what'], string>> = {
  file: 'file',
  'build-arg': 'build argument',
  env: 'variable',
  instruction: 'the instruction',
  command: 'the command',
  workdir: 'the working directory',
  user: 'the user',
  mount: 'mount',
  platform: 'the platform',
  'base-image': 'base image',
  source: 'source',
  action: 'what it writes',
  option: 'option',
  input: 'files of',
  'key-format': 'the key format',
};

/** `variable GREETING changed: "a" -> "b"`. */
export function describeChange({ what, name, old, new: now }: CacheChange): string {
  const subject = `${LABEL[what]}${name === '' ? '' : ` ${clip(name)}`}`;
  if (what === 'input') return `files of "${clip(name)}" changed`;
  if (old === undefined && now === undefined) return `${subject} changed`;
  if (old === undefined) return `${subject} is new: ${show(now)}`;
  if (now === undefined) return `${subject} is gone; it was ${show(old)}`;
  return `${subject} changed: ${show(old)} -> ${show(now)}`;
}

const show = (value: string | undefined): string => {
  const text = value ?? '';
  return /^(sha256:)?[0-9a-f]{40,64}$/.test(text) ? text.replace('sha256:', '').slice(0, 12) : JSON.stringify(clip(text));
};
const clip = (text: string): string => (text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`);
