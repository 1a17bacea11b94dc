/**
 * The files of the audit log: `audit.jsonl` is written to, `audit-<time>.jsonl` are full. Only ever appended to; a full one is renamed,
 * and removed once it is too old or all of them are too big.
 */
import { type FileHandle, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';

export interface AuditLimits {
  /** Size at which a file is full. */
  readonly maxFileBytes: number;
  /** Of all files together; the oldest go first. The one that is written to is always kept. */
  readonly maxTotalBytes: number;
  readonly maxAgeMs: number;
}

const CURRENT = 'audit.jsonl';
const FULL = /^audit-(\d{8}T\d{9}Z)\.jsonl$/;
const MODE = 0o600; // names of secrets are nobody else's business
const DAY_MS = 86_400_000;

/** Files of the log in `dir`, the oldest records first. Empty when there is none. */
export async function auditFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch((): string[] => []);
  const full = names.filter((name) => FULL.test(name)).sort();
  return [...full, ...(names.includes(CURRENT) ? [CURRENT] : [])].map((name) => join(dir, name));
}

/** One appender. Every call may reject with what the file system says; the next call starts over from what is on the disk. */
export class AuditFile {
  readonly #dir: string;
  readonly #limits: AuditLimits;
  #file: { readonly handle: FileHandle; size: number; readonly sinceMs: number; endsInLine: boolean } | undefined;

  constructor(dir: string, limits: AuditLimits) {
    this.#dir = dir;
    this.#limits = limits;
  }

  /** Whole lines onto the end, on the disk when it resolves. */
  async append(lines: string, nowMs: number): Promise<void> {
    try {
      await this.#rotateWhenFull(nowMs);
      const file = await this.#open(nowMs);
      const bytes = Buffer.from(file.endsInLine ? lines : `\n${lines}`);
      file.endsInLine = false; // until all of it is there
      const { bytesWritten } = await file.handle.write(bytes);
      if (bytesWritten < bytes.length) await file.handle.appendFile(bytes.subarray(bytesWritten));
      await file.handle.datasync();
      file.size += bytes.length;
      file.endsInLine = true;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => {});
  }

  async #open(nowMs: number) {
    if (this.#file !== undefined) return this.#file;
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const handle = await open(join(this.#dir, CURRENT), 'a+', MODE);
    const { size, birthtimeMs, mtimeMs } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    const sinceMs = size === 0 ? nowMs : Math.min(birthtimeMs || mtimeMs, nowMs);
    this.#file = { handle, size, sinceMs, endsInLine: size === 0 || last[0] === 0x0a };
    return this.#file;
  }

  async #rotateWhenFull(nowMs: number): Promise<void> {
    const { size, sinceMs } = await this.#open(nowMs);
    if (size === 0 || (size < this.#limits.maxFileBytes && nowMs - sinceMs < DAY_MS)) return;
    await this.close();
    const stamp = new Date(nowMs).toISOString().replace(/[-:.]/g, '');
    await rename(join(this.#dir, CURRENT), join(this.#dir, `audit-${stamp}.jsonl`));
    await this.#removeOld(nowMs);
  }

  async #removeOld(nowMs: number): Promise<void> {
    const full = (await auditFiles(this.#dir)).filter((path) => !path.endsWith(`/${CURRENT}`)).reverse();
    let totalBytes = this.#limits.maxFileBytes; // room for the one that follows
    for (const path of full) {
      const { size, mtimeMs } = await stat(path);
      totalBytes += size;
      if (totalBytes > this.#limits.maxTotalBytes || nowMs - mtimeMs > this.#limits.maxAgeMs) await unlink(path);
    }
  }
}
