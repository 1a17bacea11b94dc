/** `cooper build [flags] PATH`: builds the Dockerfile in a directory. Flags are those of `docker build` where there is one. */
import { writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseTime } from '../../builder/control/trigger-time.ts';
import type { Explanation } from '../../builder/explain/explanation.ts';
import type { Service } from '../../builder/rpc/handlers.ts';
import { authService } from '../../builder/session/attachables/auth.ts';
import { type ClientOutput, fileSendService } from '../../builder/session/attachables/file-send.ts';
import { fileSyncService } from '../../builder/session/attachables/file-sync.ts';
import { type SecretSource, secretsService } from '../../builder/session/attachables/secrets.ts';
import { BuildError } from '../../core/errors.ts';
import { type Arguments, type FlagSpec, formatFlags, isOn, parseArguments, splitOnce, textOf, textsOf } from '../args.ts';
import { openDisplay, PROGRESS_MODES } from '../progress/open-display.ts';
import { build, type ClientBuild } from './build.ts';
import { ENDPOINT_FLAGS, getOps, openClient } from './endpoint.ts';
import { formatExplanation } from './explain-text.ts';
import { type ParsedOutput, parseOutput } from './outputs.ts';
import { formatExcerpt } from './source-excerpt.ts';

const FLAGS: readonly FlagSpec[] = [
  ...ENDPOINT_FLAGS,
  { name: 'file', short: 'f', kind: 'text', value: 'FILE', doc: 'Dockerfile (PATH/Dockerfile)' },
  { name: 'tag', short: 't', kind: 'texts', value: 'NAME', doc: 'name of the image; repeat for several' },
  { name: 'target', kind: 'text', value: 'STAGE', doc: 'stage to build' },
  { name: 'build-arg', kind: 'texts', value: 'K=V', doc: 'build argument; K alone takes it from the environment' },
  { name: 'label', kind: 'texts', value: 'K=V', doc: 'image label' },
  { name: 'platform', kind: 'text', value: 'LIST', doc: 'platforms of the result' },
  { name: 'opt', kind: 'texts', value: 'K=V', doc: 'any option of the frontend' },
  {
    name: 'output',
    short: 'o',
    kind: 'texts',
    value: 'SPEC',
    doc: 'type=image|oci|docker|local|tar[,dest=PATH][,name=NAME][,push=true]; PATH alone is type=local',
  },
  { name: 'push', kind: 'switch', doc: 'push the image' },
  { name: 'secret', kind: 'texts', value: 'SPEC', doc: 'id=ID[,src=FILE|,env=NAME]' },
  { name: 'allow', kind: 'texts', value: 'NAME', doc: 'entitlement: network.host, security.insecure' },
  { name: 'network', kind: 'text', value: 'MODE', doc: 'network of RUN steps: default, host, none' },
  { name: 'no-cache', kind: 'switch', doc: 'run every step again' },
  { name: 'cache-from', kind: 'texts', value: 'SPEC', doc: 'remote cache to look into: type=registry,ref=REF, ... or REF alone' },
  {
    name: 'cache-to',
    kind: 'texts',
    value: 'SPEC',
    doc: 'remote cache to write: type=registry,ref=REF,mode=min|max, ... or REF alone',
  },
  { name: 'pull', kind: 'switch', doc: 'look for newer base images' },
  {
    name: 'triggered-at',
    kind: 'text',
    value: 'TIME',
    doc: 'when what led to this build happened: RFC 3339 or epoch seconds (COOPER_TRIGGERED_AT)',
  },
  { name: 'progress', kind: 'text', value: 'MODE', doc: `one of ${PROGRESS_MODES.join(', ')} (auto, BUILDKIT_PROGRESS)` },
  { name: 'explain', kind: 'switch', doc: 'say afterwards why steps were not cached (needs the ops server)' },
  { name: 'metadata-file', kind: 'text', value: 'FILE', doc: 'write what the exporters answer as JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
];

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper build [flags] PATH\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const [path, ...more] = args.operands;
  if (path === undefined || more.length > 0)
    throw new BuildError('invalid-input', 'usage: cooper build [flags] PATH', {
      hint: 'PATH is the directory with the build context, often "."',
    });
  const outputs = outputsOf(args);
  const display = openDisplay(textOf(args, 'progress') ?? process.env.BUILDKIT_PROGRESS ?? 'auto', process.stderr);
  const signal = interruptSignal();
  await using client = await openClient(args);
  const request = contextBuild(path, textOf(args, 'file'));
  try {
    const { ref, response } = await build(client, {
      ...request,
      options: new Map([...request.options, ...optionsOf(args)]),
      services: [
        ...request.services,
        fileSendService(clientOutputs(outputs)),
        secretsService(secretsOf(args)),
        authService(dockerConfigDir()),
      ],
      exporters: outputs,
      cacheImports: cachesOf(args, 'cache-from'),
      cacheExports: cachesOf(args, 'cache-to'),
      entitlements: textsOf(args, 'allow'),
      display,
      traceparent: process.env.TRACEPARENT,
      triggeredAt: triggerOf(args),
      signal,
    });
    const file = textOf(args, 'metadata-file');
    if (file !== undefined) writeFileSync(file, `${JSON.stringify(Object.fromEntries(response), null, 2)}\n`);
    if (isOn(args, 'explain')) await tellWhy(args, ref);
    return 0;
  } catch (thrown) {
    const error = BuildError.from(thrown);
    const excerpt = error.detail.source === undefined ? '' : formatExcerpt(error.detail.source);
    if (excerpt !== '') console.error(excerpt);
    throw error.wrap('failed to solve');
  }
}

/** The build is done and right: an explanation that cannot be had is told and fails nothing. */
async function tellWhy(args: Arguments, ref: string): Promise<void> {
  try {
    console.error(formatExplanation(await getOps<Explanation>(args, `/api/v1/builds/${encodeURIComponent(ref)}/explain`)));
  } catch (thrown) {
    console.error(`no explanation: ${BuildError.from(thrown).message}`);
  }
}

/** Directories and options of a build of `path`; shared with quickstart. */
export function contextBuild(
  path: string,
  dockerfile?: string,
): { readonly options: ReadonlyMap<string, string>; readonly services: readonly Service[]; readonly sharedKey: string } {
  const context = resolve(path);
  const file = resolve(dockerfile ?? join(context, 'Dockerfile'));
  const dirs = new Map([
    ['context', context],
    ['dockerfile', dirname(file)],
  ]);
  return { options: new Map([['filename', basename(file)]]), services: [fileSyncService(dirs)], sharedKey: context };
}

function optionsOf(args: Arguments): [string, string][] {
  const options: [string, string][] = [];
  const target = textOf(args, 'target');
  const platform = textOf(args, 'platform');
  const network = textOf(args, 'network');
  if (target !== undefined) options.push(['target', target]);
  if (platform !== undefined) options.push(['platform', platform]);
  if (network !== undefined && network !== 'default') options.push(['force-network-mode', network]);
  if (isOn(args, 'no-cache')) options.push(['no-cache', '']);
  if (isOn(args, 'pull')) options.push(['image-resolve-mode', 'pull']);
  for (const pair of textsOf(args, 'build-arg')) {
    const [name, value = process.env[name]] = splitOnce(pair, '=');
    if (value !== undefined) options.push([`build-arg:${name}`, value]);
  }
  for (const pair of textsOf(args, 'label')) options.push([`label:${splitOnce(pair, '=')[0]}`, splitOnce(pair, '=')[1] ?? '']);
  for (const pair of textsOf(args, 'opt')) options.push([splitOnce(pair, '=')[0], splitOnce(pair, '=')[1] ?? '']);
  return options;
}

/** A time typed wrong is told here, where someone reads it; the daemon only ignores it. */
function triggerOf(args: Arguments): string | undefined {
  const flag = textOf(args, 'triggered-at');
  if (flag !== undefined) parseTime(flag);
  return flag ?? process.env.COOPER_TRIGGERED_AT;
}

/** `type=T,key=value,...`; a text without `=` is a reference in a registry. @throws BuildError `invalid-input`. */
function cachesOf(args: Arguments, flag: 'cache-from' | 'cache-to'): NonNullable<ClientBuild['cacheImports']> {
  return textsOf(args, flag).map((spec) => {
    if (!spec.includes('=')) return { type: 'registry', attributes: new Map([['ref', spec]]) };
    const parts = spec.split(',').map((part): [string, string] => [splitOnce(part, '=')[0], splitOnce(part, '=')[1] ?? '']);
    const { type = '', ...attributes } = Object.fromEntries(parts);
    if (type === '') throw new BuildError('invalid-input', `--${flag} ${spec}: type is missing`);
    if (type === 'local')
      throw new BuildError('unsupported', `--${flag} ${spec}: this client serves no cache folder`, {
        hint: 'buildctl and docker buildx do; other types work here',
      });
    return { type, attributes: new Map(Object.entries(attributes)) };
  });
}

/** What `-o` says, or an image when there is a name for it. */
function outputsOf(args: Arguments): ParsedOutput[] {
  const tags = textsOf(args, 'tag');
  const specs = textsOf(args, 'output');
  if (specs.length === 0 && tags.length === 0) {
    if (isOn(args, 'push'))
      throw new BuildError('invalid-input', '--push needs a name', { hint: 'add -t registry.example/name:tag' });
    return [];
  }
  const parsed = specs.length === 0 ? [parseOutput('type=image')] : specs.map(parseOutput);
  return parsed.map((output) => {
    const attributes = new Map(output.attributes);
    if (tags.length > 0 && !attributes.has('name') && output.type !== 'local' && output.type !== 'tar')
      attributes.set('name', tags.join(','));
    if (isOn(args, 'push') && output.type === 'image') attributes.set('push', 'true');
    return { ...output, attributes };
  });
}

function clientOutputs(outputs: readonly ParsedOutput[]): Map<number, ClientOutput> {
  return new Map(outputs.flatMap(({ output }, index) => (output === undefined ? [] : [[index, output] as const])));
}

/** `id=ID[,src=FILE|,env=NAME]`; without either, the variable or the file of that name. */
function secretsOf(args: Arguments): Map<string, SecretSource> {
  return new Map(
    textsOf(args, 'secret').map((spec): [string, SecretSource] => {
      const parts = new Map(
        spec.split(',').map((part): [string, string] => [splitOnce(part, '=')[0], splitOnce(part, '=')[1] ?? '']),
      );
      const id = parts.get('id') ?? parts.get('src') ?? parts.get('source') ?? '';
      if (id === '')
        throw new BuildError('invalid-input', `--secret ${spec}: an id is missing`, {
          hint: 'write id=NAME,src=FILE or id=NAME,env=VARIABLE',
        });
      const file = parts.get('src') ?? parts.get('source');
      const variable = parts.get('env') ?? (file === undefined && process.env[id] !== undefined ? id : undefined);
      if (variable === undefined) return [id, { file: resolve(file ?? id) }];
      const value = process.env[variable];
      if (value === undefined)
        throw new BuildError('invalid-input', `--secret ${spec}: the environment has no variable ${variable}`);
      return [id, { value }];
    }),
  );
}

export const dockerConfigDir = (): string => process.env.DOCKER_CONFIG ?? join(homedir(), '.docker');

function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort(new BuildError('cancelled', 'context canceled')));
  return controller.signal;
}
