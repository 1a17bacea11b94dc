/** "did you mean": the nearest of the names that would have been right. */

const MAX_DISTANCE = 2;
const MAX_COMPARED = 64; // longer words are no typing errors, and distance costs the product of both lengths

/** The option nearest to `word`, at most two edits away; none when the word itself is an option. */
export function nearest(word: string, options: Iterable<string>, { caseSensitive = true } = {}): string | undefined {
  if (word.length > MAX_COMPARED) return undefined;
  const wanted = caseSensitive ? word : word.toLowerCase();
  let best: string | undefined;
  let bestDistance = MAX_DISTANCE + 1;
  for (const option of options) {
    const candidate = caseSensitive ? option : option.toLowerCase();
    if (candidate === wanted) return undefined;
    if (Math.abs(candidate.length - wanted.length) >= bestDistance) continue;
    const distance = editDistance(wanted, candidate);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = caseSensitive ? candidate : matchCase(candidate, word);
  }
  return best;
}

/** ` (did you mean X?)`, or nothing. */
export function didYouMean(word: string, options: Iterable<string>, how?: { readonly caseSensitive: boolean }): string {
  const found = nearest(word, options, how);
  return found === undefined ? '' : ` (did you mean ${found}?)`;
}

function matchCase(text: string, like: string): string {
  if (like === like.toLowerCase()) return text.toLowerCase();
  return like === like.toUpperCase() ? text.toUpperCase() : text;
}

/** Levenshtein distance, two rows at a time. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(swap, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
