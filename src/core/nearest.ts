/** The candidate nearest to what was written, when it is near enough to be what was meant. */
export function nearest(written: string, candidates: Iterable<string>): string | undefined {
  let best: { readonly text: string; readonly distance: number } | undefined;
  for (const text of candidates) {
    const distance = editDistance(written.toLowerCase(), text.toLowerCase());
    if (best === undefined || distance < best.distance) best = { text, distance };
  }
  return best !== undefined && best.distance <= Math.max(2, Math.floor(written.length / 3)) ? best.text : undefined;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
