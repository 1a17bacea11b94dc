/** Aligned columns, as Go's tabwriter lays them out: every cell but the last of a line is padded to the widest of its column. */
export function textTable(rows: readonly (readonly string[])[], gap: number): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, [...cell].length);
  return rows
    .map((row) => `${row.map((cell, i) => pad(cell, i === row.length - 1 ? 0 : (widths[i] ?? 0) + gap)).join('')}\n`)
    .join('');
}

const pad = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - [...text].length));
