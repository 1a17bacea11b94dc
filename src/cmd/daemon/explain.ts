/** Wires the accounts of builds: why steps were not cached. */
import { type Accounts, openAccounts } from '../../builder/explain/accounts.ts';
import type { Evictions } from '../../builder/gc/evictions.ts';
import type { Metadata } from '../../builder/metadata/ports.ts';
import { openDigestLists } from '../../builder/snapshot/digest-lists.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';

export interface ExplainParts {
  readonly root: string;
  readonly pool: WorkerPool;
  readonly metadata: Metadata;
  readonly evictions: Evictions;
  readonly log: { warn(message: string, fields?: Readonly<Record<string, unknown>>): void };
}

export async function openExplain({ root, pool, metadata, evictions, log }: ExplainParts): Promise<Accounts> {
  return await openAccounts({
    metadata,
    lists: await openDigestLists({ root, pool }),
    findEviction: (key) => evictions.findEviction(key),
    onProblem: (error) => log.warn('the account of a build', { error }),
  });
}
