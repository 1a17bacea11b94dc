/**
 * Which records policies remove, in which order and by which rule. The same generator answers "what would go" and drives a run, so a
 * plan and the run after it cannot differ in anything but what happened in between. Children go before their parents; nothing in use
 * goes, nor anything something in use stands on.
 */
import { Breather } from '../../core/breather.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';
import { compileFilter } from './filter.ts';
import { ageFrame, orderOf } from './order.ts';
import { boundOf, type DiskSpace, type GcPolicy, type Rule } from './policy.ts';

/** A policy and what it is called where people read it: `policy 2`, `prune`. */
export interface NamedPolicy {
  readonly name: string;
  readonly rules: GcPolicy;
}
export interface Moment {
  readonly nowNs: bigint;
  readonly space: DiskSpace;
  /** When it was first noticed that stamps lie in the future (order.ts). */
  readonly setBackAtNs?: bigint | undefined;
}
/** A record that goes, or would go. */
export interface Removal {
  readonly record: SnapshotUsage;
  readonly policy: string;
  readonly rule: Rule;
}

/**
 * Applies policies in order and yields one record after the other; the consumer answers whether it is gone now (a record that was kept
 * keeps its parents too). Each policy sees what those before it left. Works in slices.
 * @throws BuildError `invalid-input` for a filter that cannot be read.
 */
export async function* sweep(
  records: readonly SnapshotUsage[],
  policies: readonly NamedPolicy[],
  moment: Moment,
): AsyncGenerator<Removal, void, boolean> {
  const breather = new Breather();
  let left = records;
  let { totalBytes, freeBytes } = moment.space;
  for (const { name, rules } of policies) {
    const gone = new Set<string>();
    const chosen = victims(left, rules, { ...moment, space: { totalBytes, freeBytes } }, breather);
    let next = await chosen.next(true);
    while (next.done !== true) {
      const { record, rule } = next.value;
      const isGone = yield { record, rule, policy: name };
      if (isGone) {
        gone.add(record.id);
        freeBytes += record.sizeBytes;
      }
      next = await chosen.next(isGone);
    }
    if (gone.size > 0) left = left.filter(({ id }) => !gone.has(id));
  }
}

/** With a bound on space it ends as soon as the bound holds. */
async function* victims(
  records: readonly SnapshotUsage[],
  policy: GcPolicy,
  moment: Moment,
  breather: Breather,
): AsyncGenerator<{ readonly record: SnapshotUsage; readonly rule: Rule }, void, boolean> {
  const matches = compileFilter(policy.filters);
  let usedBytes = 0;
  if (breather.dueNow) await breather.pause();
  for (const { shared, sizeBytes } of records) {
    if (!shared) usedBytes += sizeBytes;
    if (breather.due) await breather.pause();
  }
  const { keepBytes, rule } = boundOf(policy, usedBytes, moment.space);
  const holds = (): boolean => keepBytes !== undefined && usedBytes <= keepBytes;
  if (holds()) return;
  const { usedAtNs } = await ageFrame(records, moment.nowNs, breather, moment.setBackAtNs);
  const removable: SnapshotUsage[] = [];
  for (const record of records) {
    if (mayGo(record, policy, moment.nowNs, usedAtNs) && matches(record)) removable.push(record);
    if (breather.due) await breather.pause();
  }
  const order = await orderOf(removable, usedAtNs, breather);
  const children = await childrenOf(records, breather);
  const rank = new Map<string, number>();
  const ready = new Heap();
  for (const [at, { id }] of order.entries()) {
    rank.set(id, at);
    if (!children.has(id)) ready.push(at);
    if (breather.due) await breather.pause();
  }
  for (let at = ready.pop(); at !== undefined && !holds(); at = ready.pop()) {
    const record = order[at] as SnapshotUsage;
    const gone = yield { record, rule };
    if (breather.dueNow) await breather.pause(); // the consumer removes between two steps, which takes its time
    if (!gone) continue;
    if (!record.shared) usedBytes -= record.sizeBytes;
    for (const parent of record.parents) {
      const left = (children.get(parent) ?? 0) - 1;
      children.set(parent, left);
      const place = rank.get(parent);
      if (left === 0 && place !== undefined) ready.push(place);
    }
  }
}

function mayGo(record: SnapshotUsage, policy: GcPolicy, nowNs: bigint, usedAtNs: (record: SnapshotUsage) => bigint): boolean {
  if (record.inUse) return false;
  if (!policy.all && (record.shared || record.recordType === 'internal' || record.recordType === 'frontend')) return false;
  return policy.keepDurationNs <= 0n || usedAtNs(record) <= nowNs - policy.keepDurationNs;
}

async function childrenOf(records: readonly SnapshotUsage[], breather: Breather): Promise<Map<string, number>> {
  const children = new Map<string, number>();
  for (const { parents } of records) {
    for (const parent of parents) children.set(parent, (children.get(parent) ?? 0) + 1);
    if (breather.due) await breather.pause();
  }
  return children;
}

/** Smallest number first. */
class Heap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent] as number) <= item) break;
      items[at] = items[parent] as number;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return top;
    let at = 0;
    while (true) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child += 1;
      if ((items[child] as number) >= last) break;
      items[at] = items[child] as number;
      at = child;
    }
    items[at] = last;
    return top;
  }
}
