/** `cooper doctor`: every check at once, none of which can hold up or end the others. */
import { checkCertificates } from './certificates.ts';
import { checkClient } from './client.ts';
import { checkDaemon, configurationFindings } from './daemon.ts';
import type { DoctorFacts } from './facts.ts';
import { type Diagnosis, diagnosisOf, type Finding, warning } from './finding.ts';
import { checkHost, checkOverlay, checkRuntime } from './host.ts';
import { checkNetwork } from './network.ts';
import { checkCache, checkState } from './state.ts';

const LIMIT_MS = 60_000;
const CHECKS: Readonly<Record<string, (facts: DoctorFacts) => readonly Finding[] | Promise<readonly Finding[]>>> = {
  configuration: configurationFindings,
  state: checkState,
  cache: checkCache,
  host: checkHost,
  overlay: checkOverlay,
  runtime: checkRuntime,
  daemon: checkDaemon,
  network: checkNetwork,
  certificates: checkCertificates,
  client: checkClient,
};

/** Changes nothing but a probe folder that it removes. Never rejects: a check that fails is a finding itself. */
export async function examine(facts: DoctorFacts, strict: boolean): Promise<Diagnosis> {
  const findings = await Promise.all(
    Object.entries(CHECKS).map(([name, check]) => guarded(name, async () => await check(facts))),
  );
  const daemon =
    facts.daemonPid === undefined ? ({ running: false } as const) : ({ running: true, pid: facts.daemonPid } as const);
  return diagnosisOf({ at: new Date().toISOString(), version: facts.version, root: facts.root, daemon }, findings.flat(), strict);
}

async function guarded(name: string, check: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  const failed = (why: string): Finding[] => [warning(`doctor.${name}`, `The check of ${name} could not be made.`, why)];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<readonly Finding[]>((resolve) => {
    timer = setTimeout(() => resolve(failed(`not done within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  });
  try {
    return await Promise.race([check(), late]);
  } catch (thrown) {
    return failed((thrown as Error).message);
  } finally {
    clearTimeout(timer);
  }
}
