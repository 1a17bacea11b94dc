/** Words to instructions, and stages opened by FROM. */
import { BuildError } from '../../../core/errors.ts';
import { invalid, located, type SourceFile } from './errors.ts';
import { parseFlags } from './flags.ts';
import { goQuote, trimSpace } from './go-text.ts';
import type { ArgDefinition, Common, Instruction, InstructionOf, Stage } from './instruction.ts';
import type { RawInstruction } from './lexer.ts';
import { Linter } from './lint.ts';
import { parseHealthcheck } from './parse-healthcheck.ts';
import { commandLine, parseRun } from './parse-run.ts';
import { parseAdd, parseCopy } from './parse-transfer.ts';
import { didYouMean } from './suggest.ts';
import type { Pair } from './words.ts';

export interface ParsedStages {
  readonly stages: readonly Stage[];
  /** ARG before the first FROM. */
  readonly globalArgs: readonly InstructionOf<'arg'>[];
}

const KEYWORDS = [
  ...['ADD', 'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'FROM', 'HEALTHCHECK', 'LABEL', 'MAINTAINER'],
  ...['ONBUILD', 'RUN', 'SHELL', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR'],
];

/** @throws BuildError `invalid-input` with line and place. */
export function parseStages(file: SourceFile, raws: readonly RawInstruction[], lint: Linter): ParsedStages {
  const stages: (Omit<Stage, 'instructions'> & { readonly instructions: Instruction[] })[] = [];
  const globalArgs: InstructionOf<'arg'>[] = [];
  for (const raw of raws) {
    const parsed = parseOne(file, raw, lint.withComments(raw.comments));
    const current = stages.at(-1);
    if (parsed.kind === 'from') stages.push({ ...parsed.stage, instructions: [] });
    else if (current !== undefined) current.instructions.push(parsed);
    else if (parsed.kind === 'arg') globalArgs.push(parsed);
    else throw located(invalid('no build stage in current context'), file, raw.ranges);
  }
  return { stages, globalArgs };
}

type Parsed = Instruction | { readonly kind: 'from'; readonly stage: Stage };

function parseOne(file: SourceFile, raw: RawInstruction, lint: Linter): Parsed {
  try {
    return parseInstruction(raw, lint);
  } catch (thrown) {
    const line = raw.ranges[0]?.start.line ?? 0;
    throw located(BuildError.from(thrown).wrap(`dockerfile parse error on line ${line}`), file, raw.ranges);
  }
}

/** One ONBUILD trigger. @throws BuildError `invalid-input`. */
export function parseTrigger(raw: RawInstruction): Instruction {
  const parsed = parseInstruction(raw, Linter.silent);
  if (parsed.kind === 'from') throw invalid("FROM isn't allowed as an ONBUILD trigger");
  return parsed;
}

function parseInstruction(raw: RawInstruction, lint: Linter): Parsed {
  const { keyword, ranges, comments } = raw;
  const common: Common = { keyword, code: trimSpace(raw.original), ranges, comments };
  const words = wordsOf(raw);
  const kind = keyword.toLowerCase();
  switch (kind) {
    case 'from':
      return { kind: 'from', stage: parseFrom(raw, common, words, lint) };
    case 'add':
      return { ...common, kind, ...parseAdd(raw, words) };
    case 'arg':
      return { ...common, kind, args: parseArgs(raw, words, lint) };
    case 'cmd':
    case 'entrypoint':
      parseFlags(raw.flags, {});
      return { ...common, kind, ...commandLine(raw, words) };
    case 'copy':
      return { ...common, kind, ...parseCopy(raw, words) };
    case 'env':
    case 'label':
      return { ...common, kind, pairs: parsePairList(raw, kind.toUpperCase()) };
    case 'expose':
      atLeastOne(words, 'EXPOSE');
      parseFlags(raw.flags, {});
      return { ...common, kind, ports: words.toSorted() };
    case 'healthcheck':
      return { ...common, kind, health: parseHealthcheck(raw) };
    case 'maintainer':
      lint.run('MaintainerDeprecated', ranges, 'Maintainer instruction is deprecated in favor of using label');
      return { ...common, kind, name: onlyOne(raw, words, 'MAINTAINER') };
    case 'onbuild':
      return { ...common, kind, expression: parseOnbuild(raw) };
    case 'run':
      return { ...common, kind, ...parseRun(raw, words) };
    case 'shell':
      return { ...common, kind, shell: parseShell(raw, words) };
    case 'stopsignal': // its flags are not looked at
      return { ...common, kind, signal: onlyOne({ ...raw, flags: [] }, words, 'STOPSIGNAL') };
    case 'user':
      return { ...common, kind, user: onlyOne(raw, words, 'USER') };
    case 'volume':
      return { ...common, kind, volumes: parseVolumes(raw, words) };
    case 'workdir':
      return { ...common, kind, path: onlyOne(raw, words, 'WORKDIR') };
    default:
      throw invalid(`unknown instruction: ${keyword}${didYouMean(keyword, KEYWORDS, { caseSensitive: false })}`);
  }
}

function wordsOf({ args }: RawInstruction): readonly string[] {
  return args.form === 'words' || args.form === 'json' ? args.words : [];
}

function atLeastOne(words: readonly unknown[], keyword: string): void {
  if (words.length === 0) throw invalid(`${keyword} requires at least one argument`);
}

function onlyOne(raw: RawInstruction, words: readonly string[], keyword: string): string {
  const [word] = words;
  if (word === undefined || words.length > 1) throw invalid(`${keyword} requires exactly one argument`);
  parseFlags(raw.flags, {});
  return word;
}

const STAGE_NAME = /^[a-z][a-z0-9\-_.]*$/;

function parseFrom(raw: RawInstruction, common: Common, words: readonly string[], lint: Linter): Stage {
  const [baseName, as, written] = words;
  if (words.length === 3 && written !== undefined && as !== undefined) lintFrom(raw, as, written, lint);
  let name = '';
  if (words.length === 3 && as?.toLowerCase() === 'as' && written !== undefined) {
    name = written.toLowerCase();
    if (!STAGE_NAME.test(name)) {
      throw invalid(`invalid name for build stage: ${goQuote(written)}, name can't start with a number or contain symbols`);
    }
  } else if (words.length !== 1) throw invalid('FROM requires either one or three arguments');
  const flags = parseFlags(raw.flags, { platform: 'string' });
  if (name !== '') lintDescription('FROM', [name], raw, lint);
  const doc = docCommentOf(raw.comments, name);
  return { ...common, name, baseName: baseName ?? '', platform: flags.string('platform'), doc, instructions: [] };
}

function lintFrom({ keyword, ranges }: RawInstruction, as: string, name: string, lint: Linter): void {
  if (name !== name.toLowerCase()) lint.run('StageNameCasing', ranges, `Stage name '${name}' should be lowercase`);
  const isLower = keyword === keyword.toLowerCase();
  const isUpper = keyword === keyword.toUpperCase();
  if ((isLower && as !== as.toLowerCase()) || (!isLower && isUpper && as !== as.toUpperCase())) {
    lint.run('FromAsCasing', ranges, `'${as}' and '${keyword}' keywords' casing do not match`);
  }
}

function parseArgs(raw: RawInstruction, words: readonly string[], lint: Linter): ArgDefinition[] {
  atLeastOne(words, 'ARG');
  const args = words.map((word): ArgDefinition => {
    const equals = word.indexOf('=');
    if (equals === 0) throw invalid('ARG names can not be blank');
    const name = equals === -1 ? word : word.slice(0, equals);
    return { name, value: equals === -1 ? undefined : word.slice(equals + 1), doc: docCommentOf(raw.comments, name) };
  });
  const names = args.map(({ name }) => name);
  lintDescription('ARG', names, raw, lint);
  return args;
}

function docCommentOf(comments: readonly string[], name: string): string {
  if (name === '') return '';
  return comments.find((comment) => comment.startsWith(`${name} `))?.slice(name.length + 1) ?? '';
}

function lintDescription(keyword: string, names: readonly string[], { comments, ranges }: RawInstruction, lint: Linter): void {
  const first = comments.at(-1)?.split(' ')[0];
  if (first === undefined || names.length === 0 || names.includes(first)) return;
  const example = names.length > 1 ? '<arg_key>' : names[0];
  const message = `Comment for ${keyword} should follow the format: \`# ${example} <description>\``;
  lint.run('InvalidDefinitionDescription', ranges, message);
}

function parsePairList(raw: RawInstruction, keyword: string): readonly Pair[] {
  parseFlags(raw.flags, {});
  const pairs = raw.args.form === 'pairs' ? raw.args.pairs : [];
  atLeastOne(pairs, keyword);
  if (pairs.some(({ key }) => key === '')) throw invalid(`${keyword} names can not be blank`);
  return pairs;
}

function parseOnbuild(raw: RawInstruction): string {
  const trigger = raw.args.form === 'trigger' ? raw.args.trigger : undefined;
  if (trigger === undefined) throw invalid('ONBUILD requires at least one argument');
  parseFlags(raw.flags, {});
  const keyword = trimSpace(trigger.keyword).toUpperCase();
  if (keyword === 'ONBUILD') throw invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (keyword === 'MAINTAINER' || keyword === 'FROM') throw invalid(`${keyword} isn't allowed as an ONBUILD trigger`);
  const expression = raw.original.replace(/^\s*ONBUILD\s*/i, '');
  return [expression, ...raw.heredocs.map(({ content, name }) => content + name)].join('\n');
}

function parseShell(raw: RawInstruction, words: readonly string[]): readonly string[] {
  parseFlags(raw.flags, {});
  atLeastOne(words, 'SHELL');
  if (raw.args.form !== 'json') throw notJson('SHELL', raw.original);
  return words;
}

function notJson(keyword: string, original: string): BuildError {
  return invalid(`${keyword} requires the arguments to be in JSON form`, {
    hint: `write ${keyword} ["..."] instead of ${trimSpace(original)}`,
  });
}

function parseVolumes(raw: RawInstruction, words: readonly string[]): string[] {
  atLeastOne(words, 'VOLUME');
  parseFlags(raw.flags, {});
  const volumes = words.map(trimSpace);
  if (volumes.includes('')) throw invalid('VOLUME specified can not be an empty string');
  return volumes;
}
