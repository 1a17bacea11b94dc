/** What a runbook is run against, and how the words it leaves open are filled in. */

export interface Stand {
  /** Address of the build API, as COOPER_HOST has it. */
  readonly address: string;
  /** `127.0.0.1:8470` */
  readonly opsAddress: string;
  readonly root: string;
  /** Undefined: queries are not asked. */
  readonly prometheus: string | undefined;
  /** Folder that relative paths in commands begin at. */
  readonly cwd: string;
  /** A folder with `cooper`, put first in PATH. */
  readonly binDir: string;
  /** Values for open words, by name; those the stand knows itself are added. */
  readonly values: Readonly<Record<string, string>>;
}

/** Words a runbook may leave open, and where their value comes from. */
export const PLACEHOLDERS: Readonly<Record<string, string>> = {
  REF: 'the newest finished build of the daemon, or --set REF=...',
  PID: 'the process id in the lock of the state folder, or --set PID=...',
  REGISTRY: '--set REGISTRY=host',
  ADDRESS: '--set ADDRESS=...',
};
/** What pages write for a daemon where everything is where it is by default. */
const DEFAULT_OPS = '127.0.0.1:8470';
const DEFAULT_ROOT = '/var/lib/cooper';

/** The command for this stand, and the open words nobody has a value for. */
export function fillIn(text: string, stand: Stand): { readonly text: string; readonly unfilled: readonly string[] } {
  const unfilled = new Set<string>();
  const filled = text
    .replaceAll(DEFAULT_OPS, stand.opsAddress)
    .replaceAll(/:8470\b/g, `:${stand.opsAddress.split(':').at(-1)}`)
    .replaceAll(new RegExp(`${DEFAULT_ROOT}(?![\\w-])`, 'g'), stand.root)
    .replaceAll(new RegExp(`\\b(${Object.keys(PLACEHOLDERS).join('|')})\\b`, 'g'), (word) => {
      const value = stand.values[word];
      if (value === undefined) unfilled.add(word);
      return value === undefined ? word : quoted(value);
    });
  return { text: filled, unfilled: [...unfilled] };
}

/** A value is data to the shell, whatever is in it. */
const quoted = (value: string): string => (/^[\w.:/@-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`);

/** The ref of the newest build that has ended, or undefined. */
export async function newestBuild(opsAddress: string): Promise<string | undefined> {
  try {
    const response = await fetch(`http://${opsAddress}/api/v1/builds`, { signal: AbortSignal.timeout(5_000) });
    const { builds = [] } = (await response.json()) as { builds?: { ref: string; state: string }[] };
    return builds.find(({ state }) => state !== 'running' && state !== 'queued')?.ref;
  } catch {
    return undefined;
  }
}
