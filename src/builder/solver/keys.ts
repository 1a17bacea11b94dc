/**
 * Cache keys (buildkit-wire.md section 7.1). The key of an output is named by the op's digest and, per input, by any of the names its
 * input goes under: keys of the input itself (with the selector of the link) or the digest of the content read from it. The index
 * holds the links from such names to the key; a key is known when every input links to it.
 */
import { type CacheDigest, digestOf } from '../../core/digest.ts';
import { type CacheIndex, type CacheLink, EPHEMERAL } from './ports.ts';

/** Names of one input, at the time they are used. */
export interface InputNames {
  readonly keys: readonly string[];
  readonly selector: CacheDigest | undefined;
  /** Name by content, once the input was evaluated. */
  readonly contentKey: string | undefined;
}
export interface OpOutput {
  readonly digest: CacheDigest;
  readonly output: number;
}

/** Name of an op without inputs. */
export function rootKey(digest: CacheDigest, output: number, ephemeral: boolean): string {
  return `${ephemeral ? EPHEMERAL : ''}${digest}@${output}`;
}
/** Name of an input by what was read from it; the same text a remote cache hashes for its records. */
export const contentKeyOf = (digest: CacheDigest): string => `${digest}@-1`;

const isEphemeral = (key: string): boolean => key.startsWith(EPHEMERAL);

export function linkOf(of: OpOutput, input: number, selector: CacheDigest | undefined): CacheLink {
  return { digest: of.digest, output: of.output, input, ...(selector === undefined ? {} : { selector }) };
}

/** Every link under which one input may lead to a key: [name, link]. */
function* linksOf(of: OpOutput, input: number, names: InputNames): Generator<readonly [string, CacheLink]> {
  for (const key of names.keys) yield [key, linkOf(of, input, names.selector)];
  if (names.contentKey !== undefined) yield [names.contentKey, linkOf(of, input, undefined)];
}

/** Members of every set, in the order of the first. */
export function inAll(sets: readonly ReadonlySet<string>[]): string[] {
  const [first, ...others] = sets;
  return first === undefined ? [] : [...first].filter((key) => others.every((set) => set.has(key)));
}

/** Keys known for this op on these inputs. */
export function findKeys(index: CacheIndex, of: OpOutput, inputs: readonly InputNames[]): string[] {
  return inAll(
    inputs.map(
      (names, input) => new Set([...linksOf(of, input, names)].flatMap(([from, link]) => [...index.linked(from, link)])),
    ),
  );
}

/**
 * The key under which a result of this op on these inputs belongs: one already known, or a new one. A new one is derived from the
 * content of the inputs where it is known, so that two builds which reach the same step by different ways name it alike.
 */
export function keyFor(index: CacheIndex, of: OpOutput, inputs: readonly InputNames[]): string {
  const [known] = findKeys(index, of, inputs);
  if (known !== undefined) return known;
  let ephemeral = false;
  const parts = inputs.map(({ keys, selector, contentKey }) => {
    if (contentKey !== undefined) return contentKey;
    const lasting = keys.find((key) => !isEphemeral(key));
    if (lasting === undefined) ephemeral = true;
    return `${lasting ?? keys[0] ?? ''}#${selector ?? ''}`;
  });
  return `${ephemeral ? EPHEMERAL : ''}${digestOf([of.digest, of.output, ...parts].join('\n'))}`;
}

/** Makes the key reachable from every name of every input, so that the next build finds it at the first of them. */
export function linkAll(index: CacheIndex, of: OpOutput, inputs: readonly InputNames[], key: string): void {
  for (const [input, names] of inputs.entries()) {
    for (const [from, link] of linksOf(of, input, names)) index.addLink(from, link, key);
  }
}
