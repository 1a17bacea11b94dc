/** What `cooper doctor` says: one finding per thing looked at, with the evidence it rests on and what to do. */

export type Severity = 'ok' | 'info' | 'warning' | 'error';
/** The seven causes of failing builds that the usual troubleshooting list names; docs/doctor.md. */
export type Cause =
  | 'disk-space'
  | 'configuration-not-applied'
  | 'cache-corruption'
  | 'network'
  | 'memory-or-cpu'
  | 'daemon-trouble'
  | 'builder-variable';

export interface Finding {
  /** Stable, `area.what`: scripts match on it. */
  readonly id: string;
  readonly severity: Severity;
  readonly cause?: Cause;
  readonly summary: string;
  /** What was seen, with figures, paths and words of the system. Never a secret. */
  readonly evidence: string;
  /** What to do; absent where nothing needs doing. */
  readonly fix?: string;
}

export interface Diagnosis {
  readonly at: string;
  readonly version: string;
  readonly root: string;
  /** The daemon that holds the state folder. */
  readonly daemon: { readonly running: false } | { readonly running: true; readonly pid: number };
  readonly healthy: boolean;
  readonly counts: Readonly<Record<Severity, number>>;
  /** Worst first. */
  readonly findings: readonly Finding[];
}

const ORDER: readonly Severity[] = ['error', 'warning', 'info', 'ok'];

/** `strict`: warnings make it unhealthy too. */
export function diagnosisOf(
  head: Pick<Diagnosis, 'at' | 'version' | 'root' | 'daemon'>,
  findings: readonly Finding[],
  strict: boolean,
): Diagnosis {
  const counts: Record<Severity, number> = { ok: 0, info: 0, warning: 0, error: 0 };
  for (const { severity } of findings) counts[severity] += 1;
  return {
    ...head,
    healthy: counts.error === 0 && !(strict && counts.warning > 0),
    counts,
    findings: [...findings].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity) || (a.id < b.id ? -1 : 1)),
  };
}

/** For people: what is wrong with its fix, then what is worth knowing; what is fine only by name unless `all`. */
export function formatDiagnosis(diagnosis: Diagnosis, all: boolean): string {
  const { counts, daemon, root } = diagnosis;
  const lines = [`${root}: ${daemon.running ? `held by the daemon with process id ${daemon.pid}` : 'no daemon runs on it'}`, ''];
  for (const { id, severity, summary, evidence, fix } of diagnosis.findings) {
    if (severity === 'ok' && !all) continue;
    lines.push(`${severity.toUpperCase().padEnd(8)}${id}: ${summary}`, `        seen: ${evidence}`);
    if (fix !== undefined) lines.push(`        fix:  ${fix}`);
  }
  const fine = diagnosis.findings.filter(({ severity }) => severity === 'ok').map(({ id }) => id);
  if (!all && fine.length > 0) lines.push(`${'OK'.padEnd(8)}${fine.join(', ')}`);
  lines.push('', `${counts.error} errors, ${counts.warning} warnings, ${counts.info} to know, ${counts.ok} fine`);
  return lines.join('\n');
}

type Rest = Partial<Pick<Finding, 'cause' | 'fix'>>;
const make =
  (severity: Severity) =>
  (id: string, summary: string, evidence: string, rest: Rest = {}): Finding => ({ id, severity, summary, evidence, ...rest });
export const ok = make('ok');
export const info = make('info');
export const warning = make('warning');
export const error = make('error');
