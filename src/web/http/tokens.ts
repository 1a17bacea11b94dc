/**
 * Who may change something: bearer tokens from a file of the operator, one a line, optionally with a name before it for the audit log:
 *
 *     # comment
 *     alice 3b1f...
 *     0c77...
 *
 * The file is read again when it changed, so tokens are rotated without a restart.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Request } from 'express';
import { BuildError } from '../../core/errors.ts';
import { Refusal } from './refusal.ts';

const MIN_LENGTH = 20;
const MAX_LENGTH = 512;
const MAX_FILE_BYTES = 64 * 1024;
const UNNAMED = 'operator';

interface Token {
  readonly name: string;
  /** Of the token; comparing digests takes the same time whatever the length. */
  readonly digest: Buffer;
}

const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();

export class Tokens {
  readonly #path: string;
  #stamp = '';
  #tokens: readonly Token[] = [];

  /** @throws BuildError `invalid-input` when the file cannot be read, anybody may read it, or a token is too short. */
  constructor(path: string) {
    this.#path = path;
    this.#refresh();
  }

  /** Name of the caller. @throws Refusal 401 without a token, 403 for one that is not in the file. */
  authenticate(request: Request): string {
    const { authorization } = request.headers;
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined)
      throw new Refusal(
        401,
        'denied',
        'this call needs a token',
        { hint: 'send "Authorization: Bearer TOKEN" with a token of cooper.ops.token-file' },
        { 'www-authenticate': 'Bearer realm="cooper"' },
      );
    this.#refresh();
    const digest = digestOf(token.slice(0, MAX_LENGTH + 1));
    const known = this.#tokens.filter((candidate) => timingSafeEqual(candidate.digest, digest));
    if (known[0] === undefined)
      throw new Refusal(403, 'denied', 'the token is not known', { hint: 'is it in the file cooper.ops.token-file names?' });
    return known[0].name;
  }

  #refresh(): void {
    const bad = (what: string, hint: string): BuildError =>
      new BuildError('invalid-input', `cooper.ops.token-file: ${this.#path} ${what}`, { hint });
    let text: string;
    try {
      const { mode, size, mtimeMs, ino } = statSync(this.#path);
      const stamp = `${ino} ${size} ${mtimeMs}`;
      if (stamp === this.#stamp) return;
      if ((mode & 0o007) !== 0) throw bad('can be used by every user of this machine', 'chmod 600');
      if (size > MAX_FILE_BYTES) throw bad(`is larger than ${MAX_FILE_BYTES} bytes`, 'one token a line');
      text = readFileSync(this.#path, 'utf8');
      this.#stamp = stamp;
    } catch (cause) {
      if (cause instanceof BuildError) throw cause;
      throw bad(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`, 'create it, or remove the key to stay read-only');
    }
    const lines = text.split('\n').map((line, at) => ({ words: line.trim().split(/\s+/), at: at + 1 }));
    const entries = lines.filter(({ words }) => words[0] !== '' && !words[0]?.startsWith('#'));
    this.#tokens = entries.map(({ words, at }) => {
      const token = words.at(-1) ?? '';
      if (words.length > 2) throw bad(`line ${at} has ${words.length} words`, 'write TOKEN or NAME TOKEN');
      if (token.length < MIN_LENGTH || token.length > MAX_LENGTH)
        throw bad(`line ${at}: a token has ${MIN_LENGTH} to ${MAX_LENGTH} characters`, 'make one with: openssl rand -hex 32');
      return { name: words.length === 2 ? (words[0] ?? UNNAMED) : UNNAMED, digest: digestOf(token) };
    });
  }
}
