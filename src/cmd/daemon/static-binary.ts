/** Programs that run in an empty root file system. */
import { closeSync, openSync, readSync } from 'node:fs';

const PT_INTERP = 3;

/** The first of the paths that is an ELF program for itself: one that names no loader. */
export function findStaticBinary(paths: readonly string[]): string | undefined {
  return paths.find(isStatic);
}

function isStatic(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return false;
  }
  try {
    const header = Buffer.alloc(64);
    if (readSync(file, header, 0, 64, 0) < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
      return false; // not ELF, or of a kind that is not read here
    const [offset, size, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(54), header.readUInt16LE(56)];
    const entries = Buffer.alloc(size * count);
    if (readSync(file, entries, 0, entries.length, offset) < entries.length) return false;
    return Array.from({ length: count }, (_, n) => entries.readUInt32LE(n * size)).every((type) => type !== PT_INTERP);
  } catch {
    return false;
  } finally {
    closeSync(file);
  }
}
