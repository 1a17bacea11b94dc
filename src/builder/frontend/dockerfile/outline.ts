/** Everything a target can be given: arguments with their values, secrets, agents (`docker build --call=outline`). */
import type { SourceRange } from '../../../core/errors.ts';
import type { GoValue } from '../../registry/go-json.ts';
import type { MountUse } from './outline-capture.ts';
import { locationJson } from './result-json.ts';
import type { StageState } from './stage-state.ts';
import { textTable } from './text-table.ts';

interface Named {
  readonly name: string;
  readonly ranges: readonly SourceRange[];
}
interface Arg extends Named {
  readonly description: string;
  readonly value: string;
}
interface Mount extends Named {
  readonly required: boolean;
}
export interface Outline {
  readonly name: string;
  readonly description: string;
  readonly args: readonly Arg[];
  readonly secrets: readonly Mount[];
  readonly ssh: readonly Mount[];
  readonly json: GoValue;
}

/** Of the target and all stages it needs; what is nearest to the target wins a name. */
export function outlineOf(target: StageState, data: Uint8Array): Outline {
  const args = new Map<string, Arg>();
  const secrets = new Map<string, Mount>();
  const ssh = new Map<string, Mount>();
  for (const { outline } of nearestFirst(target)) {
    for (const name of outline.usedArgs()) {
      const use = outline.args.get(name);
      if (use === undefined || args.has(name)) continue;
      args.set(name, { name, description: use.definition.doc, value: use.value, ranges: use.ranges });
    }
    collect(outline.secrets, secrets);
    collect(outline.ssh, ssh);
  }
  const { name, doc: description } = target.stage;
  const found = { name, description, args: byLine(args), secrets: byLine(secrets), ssh: byLine(ssh) };
  return { ...found, json: outlineJson(found, data) };
}

/** A stage, then what it is built on, then what it reads from. */
function nearestFirst(target: StageState): Set<StageState> {
  const found = new Set<StageState>();
  const stack = [target];
  for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
    if (found.has(state)) continue;
    found.add(state);
    stack.push(...[...state.deps.keys()].reverse(), ...(state.base === undefined ? [] : [state.base]));
  }
  return found;
}

function collect(uses: ReadonlyMap<string, MountUse>, into: Map<string, Mount>): void {
  for (const [name, { required, ranges }] of uses) if (!into.has(name)) into.set(name, { name, required, ranges });
}

const lineOf = ({ ranges }: Named): number => ranges[0]?.start.line ?? 0;
const byLine = <T extends Named>(items: ReadonlyMap<string, T>): T[] => [...items.values()].sort((a, b) => lineOf(a) - lineOf(b));

function outlineJson({ name, description, args, secrets, ssh }: Omit<Outline, 'json'>, data: Uint8Array): GoValue {
  const mountJson = (mount: Mount): GoValue => {
    return { name: mount.name, required: mount.required ? true : undefined, location: locationJson(mount.ranges) };
  };
  return {
    name: name || undefined,
    description: description || undefined,
    args: listOrNothing(
      args.map((arg) => ({
        name: arg.name,
        description: arg.description || undefined,
        value: arg.value || undefined,
        location: locationJson(arg.ranges),
      })),
    ),
    secrets: listOrNothing(secrets.map(mountJson)),
    ssh: listOrNothing(ssh.map(mountJson)),
    sources: [Buffer.from(data).toString('base64')],
  };
}

const listOrNothing = (items: readonly GoValue[]): readonly GoValue[] | undefined => (items.length === 0 ? undefined : items);

/** Tables for people, one per kind, each followed by an empty line. */
export function outlineText({ name, description, args, secrets, ssh }: Outline): string {
  const head = [['TARGET:', name || '(default)'], ...(description === '' ? [] : [['DESCRIPTION:', description]])];
  const mountRows = (mounts: readonly Mount[]): string[][] => mounts.map((mount) => [mount.name, mount.required ? 'true' : '']);
  const argRows = args.map((arg) => [arg.name, arg.value, arg.description]);
  const sections = [
    name === '' && description === '' ? '' : textTable(head, 1),
    args.length === 0 ? '' : textTable([['BUILD ARG', 'VALUE', 'DESCRIPTION'], ...argRows], 3),
    secrets.length === 0 ? '' : textTable([['SECRET', 'REQUIRED'], ...mountRows(secrets)], 3),
    ssh.length === 0 ? '' : textTable([['SSH', 'REQUIRED'], ...mountRows(ssh)], 3),
  ];
  return sections
    .filter((section) => section !== '')
    .map((section) => `${section}\n`)
    .join('');
}
