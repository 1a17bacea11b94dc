/**
 * YAML with places: every value knows its line and its path, and says what is wrong with it instead of throwing, so that one look at
 * a file finds all of its problems. A key that nobody asked for is reported when the map is closed, with the nearest that was.
 */
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseAllDocuments, type YAMLMap } from 'yaml';
import { nearest } from '../../core/nearest.ts';
import type { FileRule, Finding, Place } from './finding.ts';

const MAX_BYTES = 1024 * 1024;
const MAX_DOCUMENTS = 500;

/** The text of a file and where its lines begin. */
interface Written {
  readonly text: string;
  readonly lines: LineCounter;
}

/** A file being read: where findings go. */
export class Source {
  readonly file: string;
  readonly findings: Finding[];
  /** Of text inside a block of another file: lines and columns before its first character. */
  readonly #shift: { readonly lines: number; readonly columns: number };

  constructor(file: string, findings: Finding[], shift = { lines: 0, columns: 0 }) {
    this.file = file;
    this.findings = findings;
    this.#shift = shift;
  }

  /** The maps of a file, one per document. What is no YAML, or no map, is reported and left out. */
  documents(text: string, path = ''): Entry[] {
    if (Buffer.byteLength(text) > MAX_BYTES) {
      this.report(this.start(path), 'syntax', 'the file is larger than 1 MiB', 'split it');
      return [];
    }
    const lines = new LineCounter();
    const documents = parseAllDocuments(text, { lineCounter: lines });
    const parsed = Array.isArray(documents) ? documents : [];
    if (parsed.length > MAX_DOCUMENTS) {
      this.report(this.start(path), 'too-many', `the file has ${parsed.length} documents`, `split it: ${MAX_DOCUMENTS} at most`);
      return [];
    }
    return parsed.flatMap((document) => {
      const place = (offset: number): Place => this.placeOf(lines, offset, path);
      for (const { message, pos } of document.errors) {
        this.report(place(pos[0]), 'syntax', message.split('\n')[0]?.replace(/ at line .*$/, '') ?? message, 'correct the YAML');
      }
      if (document.errors.length > 0 || document.contents === null) return [];
      return [new Entry(this, document, { text, lines }, document.contents, path)];
    });
  }

  start = (field: string): Place => ({ file: this.file, line: 1 + this.#shift.lines, column: 1 + this.#shift.columns, field });

  report(place: Place, rule: Finding['rule'], message: string, fix: string, level: Finding['level'] = 'error'): void {
    this.findings.push({ ...place, rule, level, message, fix });
  }

  placeOf(lines: LineCounter, offset: number, field: string): Place {
    const { line, col } = lines.linePos(offset);
    return { file: this.file, line: line + this.#shift.lines, column: col + this.#shift.columns, field };
  }
}

/** A value in a file. Readers answer undefined when it is not what they want, and have then said so. */
export class Entry {
  readonly source: Source;
  readonly path: string;
  readonly #document: Document;
  readonly #written: Written;
  readonly #node: unknown;
  readonly #asked = new Set<string>();

  constructor(source: Source, document: Document, written: Written, node: unknown, path: string) {
    this.source = source;
    this.path = path;
    this.#document = document;
    this.#written = written;
    this.#node = isAlias(node) ? node.resolve(document) : node;
  }

  get place(): Place {
    const range = isNode(this.#node) ? this.#node.range : undefined;
    return this.source.placeOf(this.#written.lines, range?.[0] ?? 0, this.path);
  }
  get isMap(): boolean {
    return isMap(this.#node);
  }
  get isList(): boolean {
    return isSeq(this.#node);
  }
  /** The scalar as YAML reads it; undefined for maps and lists. */
  get scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }

  error(rule: FileRule, message: string, fix: string): undefined {
    this.source.report(this.place, rule, message, fix);
  }
  warning(rule: FileRule, message: string, fix: string): undefined {
    this.source.report(this.place, rule, message, fix, 'warning');
  }

  /** A value of this map. Absent and null are the same. */
  get(key: string): Entry | undefined {
    this.#asked.add(key);
    const node = isMap(this.#node) ? this.#node.get(key, true) : undefined;
    if (node === undefined || node === null || (isScalar(node) && node.value === null)) return undefined;
    return this.#child(node, this.path === '' ? key : /^[\w-]+$/.test(key) ? `${this.path}.${key}` : `${this.path}["${key}"]`);
  }
  /** As get; its absence is an error. */
  need(key: string, fix: string): Entry | undefined {
    const found = this.get(key);
    if (found === undefined) this.error('required', `${key} is missing`, fix);
    return found;
  }

  asMap(): Entry | undefined {
    return this.isMap
      ? this
      : this.error('type', `expected a map of fields, not ${this.#kind()}`, 'write `name: value` lines below it');
  }
  /** The items of a list, at most `limit`. */
  asList(limit = 200): Entry[] | undefined {
    if (!isSeq(this.#node)) return this.error('type', `expected a list, not ${this.#kind()}`, 'begin each item with a dash');
    if (this.#node.items.length > limit)
      return this.error('too-many', `${this.#node.items.length} items`, `write ${limit} at most`);
    return this.#node.items.map((item, index) => this.#child(item, `${this.path}[${index}]`));
  }
  /** Text of one to `max` characters without control characters but line ends. Numbers and booleans are taken as they are written. */
  asText(max = 200): string | undefined {
    const value = this.scalar;
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
      return this.error('type', `expected text, not ${this.#kind()}`, 'write it in quotes');
    const text = typeof value === 'string' ? value.trim() : String(isScalar(this.#node) ? (this.#node.source ?? value) : value);
    if (text.length > max) return this.error('value', `${text.length} characters are too many`, `use ${max} at most`);
    if (/[\u0000-\u0009\u000b-\u001f\u007f]/.test(text)) return this.error('value', 'a control character', 'remove it');
    return text;
  }
  asNumber(): number | undefined {
    const { scalar } = this;
    if (typeof scalar === 'number' && Number.isFinite(scalar)) return scalar;
    return this.error('type', `expected a number, not ${this.#kind()}`, 'write digits, without a unit or quotes');
  }
  asBoolean(): boolean | undefined {
    const { scalar } = this;
    return typeof scalar === 'boolean'
      ? scalar
      : this.error('type', `expected true or false, not ${this.#kind()}`, 'write true or false');
  }
  asChoice<T extends string>(choices: readonly T[]): T | undefined {
    const text = this.asText();
    if (text === undefined) return undefined;
    const found = choices.find((choice) => choice === text);
    if (found !== undefined) return found;
    const near = nearest(text, choices);
    return this.error(
      'value',
      `"${text}" is not one of ${choices.join(', ')}`,
      near === undefined ? `write ${choices[0]}` : `did you mean ${near}?`,
    );
  }
  /** Text that a pattern accepts; `what` names it, `fix` shows one. */
  asPattern(pattern: RegExp, what: string, fix: string): string | undefined {
    const text = this.asText(1000);
    if (text === undefined || pattern.test(text)) return text;
    return this.error('value', `"${text}" is not ${what}`, fix);
  }

  text = (key: string, max?: number): string | undefined => this.get(key)?.asText(max);
  number = (key: string): number | undefined => this.get(key)?.asNumber();
  boolean = (key: string): boolean | undefined => this.get(key)?.asBoolean();
  choice = <T extends string>(key: string, choices: readonly T[]): T | undefined => this.get(key)?.asChoice(choices);
  list = (key: string): Entry[] => this.get(key)?.asList() ?? [];

  /** Keys of this map, in order. */
  keys(): string[] {
    return isMap(this.#node) ? this.#pairs(this.#node).map(({ key }) => key) : [];
  }

  /** Keys that were meant to be something but that nobody asked for. */
  close(): void {
    if (!isMap(this.#node)) return;
    for (const { key, offset } of this.#pairs(this.#node)) {
      if (this.#asked.has(key)) continue;
      const near = nearest(key, this.#asked);
      const place = this.source.placeOf(this.#written.lines, offset, this.path === '' ? key : `${this.path}.${key}`);
      const fix = near === undefined ? `it has: ${[...this.#asked].join(', ')}` : `did you mean ${near}?`;
      this.source.report(place, 'unknown-field', `there is no field ${key} here, it has no effect`, fix, 'warning');
    }
  }

  /** YAML inside a block of text (`key: |`), as the maps it holds, with places of this file. */
  nested(): Entry[] {
    const text = this.scalar;
    if (typeof text !== 'string') {
      this.error('type', `expected a block of text, not ${this.#kind()}`, 'write `|` after the key and the fields below it');
      return [];
    }
    const node = isScalar(this.#node) ? this.#node : undefined;
    const block = node?.type === 'BLOCK_LITERAL' || node?.type === 'BLOCK_FOLDED';
    const { line, col } = this.#written.lines.linePos(node?.range?.[0] ?? 0);
    const first = this.#written.text.split('\n', line + 1)[line] ?? '';
    const shift = block ? { lines: line, columns: first.length - first.trimStart().length } : { lines: line - 1, columns: col };
    return new Source(this.source.file, this.source.findings, shift).documents(text, this.path);
  }

  #child = (node: unknown, path: string): Entry => new Entry(this.source, this.#document, this.#written, node, path);

  #pairs(map: YAMLMap): { readonly key: string; readonly offset: number }[] {
    return map.items.map(({ key }) => ({
      key: isScalar(key) ? String(key.value) : String(key),
      offset: isNode(key) ? (key.range?.[0] ?? 0) : 0,
    }));
  }

  #kind(): string {
    if (isMap(this.#node)) return 'a map';
    if (isSeq(this.#node)) return 'a list';
    const value = this.scalar;
    return value === null || value === undefined
      ? 'nothing'
      : `${typeof value === 'string' ? `"${value.slice(0, 60)}"` : String(value)}`;
  }
}
