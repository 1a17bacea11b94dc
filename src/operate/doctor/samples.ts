/** Reads numbers out of what `/metrics` answered. */

/** Sum of the samples of `name` (as exposed) whose labels have these values; 0 when there is none. */
export function sumOf(exposition: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  let sum = 0;
  for (const line of exposition.split('\n')) {
    if (!line.startsWith(name)) continue;
    const match = /^([\w:]+)(?:\{([^}]*)\})? (\S+)/.exec(line);
    if (match?.[1] !== name) continue;
    const own = match[2] ?? '';
    if (Object.entries(labels).every(([label, value]) => `,${own}`.includes(`,${label}="${value}"`))) sum += Number(match[3]);
  }
  return sum;
}
