/** A runbook as data: front matter, sections, and the blocks in them that a machine can run. */
import { createHash } from 'node:crypto';
import { BuildError } from '../../core/errors.ts';

/** `check` only looks, `mitigate` changes something, `verify` proves it worked, `rollback` undoes it, `promql` asks Prometheus. */
export const BLOCK_KINDS = ['check', 'mitigate', 'verify', 'rollback', 'promql'] as const;
export type BlockKind = (typeof BLOCK_KINDS)[number];

export interface Block {
  readonly kind: BlockKind;
  /** The heading it stands under. */
  readonly section: string;
  /** Of its first line in the file, from 1. */
  readonly line: number;
  readonly text: string;
}
export interface Runbook {
  readonly name: string;
  /** Front matter: alert, severity, owner, slo, failure_mode, last_drilled. */
  readonly facts: Readonly<Record<string, string>>;
  readonly sections: readonly string[];
  readonly blocks: readonly Block[];
  readonly text: string;
  /** Of everything below the front matter: a drill is of this text, and `last_drilled` may change without changing it. */
  readonly bodySha256: string;
}

/** @throws BuildError `invalid-input` with the line: no front matter, a block that never ends, a tag that is none. */
export function parseRunbook(name: string, text: string): Runbook {
  const front = /^---\n([\s\S]*?)\n---\n/.exec(text);
  if (front === null)
    throw new BuildError('invalid-input', `${name}.md:1: a runbook begins with front matter between two lines of ---`);
  const facts = Object.fromEntries(
    (front[1] ?? '').split('\n').map((line) => [line.split(':')[0] ?? '', line.split(':').slice(1).join(':').trim()]),
  );
  const sections: string[] = [];
  const blocks: Block[] = [];
  let open: { readonly kind: BlockKind; readonly line: number; readonly lines: string[] } | undefined;
  for (const [i, line] of text.split('\n').entries()) {
    if (open !== undefined) {
      if (line.startsWith('```')) {
        blocks.push({ kind: open.kind, section: sections.at(-1) ?? '', line: open.line, text: open.lines.join('\n') });
        open = undefined;
      } else open.lines.push(line);
    } else if (line.startsWith('```')) open = { kind: kindOf(name, i + 1, line.slice(3).trim()), line: i + 2, lines: [] };
    else if (line.startsWith('## ')) sections.push(line.slice(3).trim());
  }
  if (open !== undefined) throw new BuildError('invalid-input', `${name}.md:${open.line}: the block never ends`);
  const bodySha256 = createHash('sha256').update(text.slice(front[0].length)).digest('hex');
  return { name, facts, sections, blocks, text, bodySha256 };
}

function kindOf(name: string, line: number, tag: string): BlockKind {
  const kind = BLOCK_KINDS.find((candidate) => tag === (candidate === 'promql' ? candidate : `sh ${candidate}`));
  if (kind !== undefined) return kind;
  throw new BuildError(
    'invalid-input',
    `${name}.md:${line}: "${tag}" is no tag of a block; expected promql or sh check, mitigate, verify or rollback`,
  );
}

/** Commands of a shell block: its lines, those that end in a backslash with the next. Comments are none. */
export function commandsOf(block: Block): { readonly line: number; readonly text: string }[] {
  const commands: { line: number; text: string }[] = [];
  let begun: { line: number; text: string } | undefined;
  for (const [i, line] of block.text.split('\n').entries()) {
    begun = begun === undefined ? { line: block.line + i, text: line } : { ...begun, text: `${begun.text}\n${line}` };
    if (line.endsWith('\\')) continue;
    if (begun.text.trim() !== '' && !begun.text.trim().startsWith('#')) commands.push(begun);
    begun = undefined;
  }
  return commands;
}
