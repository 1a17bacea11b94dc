/** The words of COPY and ADD. */
import { invalid } from './errors.ts';
import { parseFlags } from './flags.ts';
import { chompTabs, findHeredoc } from './heredoc.ts';
import type { InlineFile } from './instruction.ts';
import type { RawInstruction } from './lexer.ts';

const TRANSFER_FLAGS = { chown: 'string', chmod: 'string', link: 'bool', exclude: 'strings' } as const;

/** @throws BuildError `invalid-input`. */
export function parseAdd(raw: RawInstruction, words: readonly string[]) {
  needDestination(words, 'ADD');
  const flags = parseFlags(raw.flags, { ...TRANSFER_FLAGS, 'keep-git-dir': 'bool', checksum: 'string', unpack: 'bool' });
  return {
    ...transfer(raw, words, 'ADD'),
    ...transferFlags(flags),
    keepGitDir: flags.bool('keep-git-dir'),
    checksum: flags.string('checksum'),
    unpack: flags.bool('unpack'),
  };
}

/** @throws BuildError `invalid-input`. */
export function parseCopy(raw: RawInstruction, words: readonly string[]) {
  needDestination(words, 'COPY');
  const flags = parseFlags(raw.flags, { ...TRANSFER_FLAGS, from: 'string', parents: 'bool' });
  return {
    ...transfer(raw, words, 'COPY'),
    ...transferFlags(flags),
    from: flags.string('from'),
    parents: flags.bool('parents') ?? false,
  };
}

function needDestination(words: readonly string[], keyword: string): void {
  if (words.length >= 2) return;
  throw invalid(`${keyword} requires at least two arguments, but only one was provided. Destination could not be determined`);
}

function transferFlags(flags: ReturnType<typeof parseFlags>) {
  return {
    chown: flags.string('chown'),
    chmod: flags.string('chmod'),
    link: flags.bool('link') ?? false,
    exclude: flags.strings('exclude'),
  };
}

function transfer({ heredocs }: RawInstruction, words: readonly string[], keyword: string) {
  const destination = words.at(-1) ?? '';
  if (findHeredoc(destination) !== undefined) throw invalid(`${keyword} cannot accept a heredoc as a destination`);
  const sources: string[] = [];
  const inlineFiles: InlineFile[] = [];
  for (const word of words.slice(0, -1)) {
    const heredoc = findHeredoc(word);
    if (heredoc === undefined) {
      sources.push(word);
      continue;
    }
    const { name, expand, chomp } = heredoc;
    const content = heredocs.findLast((other) => other.name === name)?.content ?? '';
    inlineFiles.push({ name, expand, content: chomp ? chompTabs(content) : content });
  }
  return { sources, inlineFiles, destination };
}
