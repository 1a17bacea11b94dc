/** Runbooks as pages: front matter apart, Markdown rendered. HTML in a runbook is shown as text, so nothing of it can run. */
import { BuildError } from '../../core/errors.ts';
import type { Runbook } from './model.ts';

/** @throws BuildError `not-found`. */
export async function readRunbook(name: string, find: (name: string) => Promise<string | undefined>): Promise<Runbook> {
  const text = await find(name);
  if (text === undefined)
    throw new BuildError('not-found', `there is no runbook ${name}`, { hint: 'runbooks are named as their alert' });
  const [, front = '', body = text] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(text) ?? [];
  const { default: MarkdownIt } = await import('markdown-it'); // 4 MB that an idle daemon does not need
  const markdown = new MarkdownIt({ html: false, linkify: false, typographer: false });
  const linkOpen: NonNullable<typeof markdown.renderer.rules.link_open> = (tokens, at, options, _env, self) => {
    const token = tokens[at];
    const target = String(token?.attrGet('href') ?? '');
    const other = /^(\w+)\.md(?:#.*)?$/.exec(target)?.[1];
    if (other !== undefined) token?.attrSet('href', `#/runbooks/${other}`);
    else if (/^https?:/.test(target)) token?.attrSet('rel', 'noreferrer noopener');
    return self.renderToken(tokens, at, options);
  };
  markdown.renderer.rules.link_open = linkOpen;
  markdown.disable('image'); // an image would be a request to another host
  return { name, facts: factsOf(front), html: markdown.render(body) };
}

function factsOf(front: string): Record<string, string> {
  const pairs = front.split('\n').map((line) => /^([\w-]+):\s*(.*)$/.exec(line));
  return Object.fromEntries(pairs.flatMap((match) => (match === null ? [] : [[match[1] ?? '', match[2] ?? '']])));
}
