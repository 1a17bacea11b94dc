/**
 * Questions about a Dockerfile that build nothing: which targets, which arguments, which warnings, which graph
 * (buildkit-wire.md section 5.6). The answer is metadata: `result.json`, `result.txt`, `version`.
 */
import { fromBinary, toJson } from '@bufbuild/protobuf';
import { vertexDigestOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import { marshal, type SourceMap } from '../../llb/state.ts';
import { type Definition, type OpMetadata, OpSchema, SourceSchema } from '../../proto/gen/pb/ops_pb.ts';
import { type GoValue, goJson, RawJson } from '../../registry/go-json.ts';
import type { FrontendResult } from '../ports.ts';
import { convertDockerfile, readStages } from './convert.ts';
import type { ConvertRequest } from './convert-request.ts';
import { Linter, type LintWarning } from './lint.ts';
import { lintResult } from './lint-result.ts';
import { outlineOf, outlineText } from './outline.ts';
import { locationJson } from './result-json.ts';
import { textTable } from './text-table.ts';

type Answer = (request: ConvertRequest) => Promise<ReadonlyMap<string, string>>;

const ANSWERS: ReadonlyMap<string, Answer> = new Map<string, Answer>([
  ['frontend.subrequests.describe', async () => describe()],
  ['frontend.outline', outline],
  ['frontend.targets', async ({ sourceMap }) => targets(sourceMap)],
  ['frontend.lint', lint],
  ['frontend.convertllb', convertLlb],
]);

/** Undefined when nobody here knows the request. */
export async function answerSubrequest(name: string, request: ConvertRequest): Promise<FrontendResult | undefined> {
  const answer = ANSWERS.get(name);
  if (answer === undefined) return undefined;
  const encoder = new TextEncoder();
  const metadata = new Map(Array.from(await answer(request), ([key, value]) => [key, encoder.encode(value)]));
  return { refs: { kind: 'single', ref: undefined }, metadata };
}

const resultOf = (version: string, json: GoValue, text?: string): Map<string, string> =>
  new Map([
    ['result.json', goJson(json, '  ')],
    ...(text === undefined ? [] : ([['result.txt', text]] as const)),
    ['version', version],
  ]);

const METADATA = [named('result.json'), named('result.txt')];

function named(name: string, description = '') {
  return { name, description };
}

/** What a client may ask for, in the words it is listed with. */
const DESCRIBED = [
  {
    name: 'frontend.outline',
    description: 'List all parameters current build target supports',
    opts: [named('target', 'Target build stage')],
  },
  { name: 'frontend.targets', description: 'List all targets current build supports', opts: [] },
  { name: 'frontend.subrequests.describe', description: 'List available subrequest types', opts: null },
];

function describe(): Map<string, string> {
  const version = '1.0.0';
  const requests = DESCRIBED.map(({ name, description, opts }) => {
    return { name, version, type: 'rpc', description, opts, inputs: null, metadata: METADATA, refs: null };
  });
  const rows = DESCRIBED.map(({ name, description }) => [name.replace('frontend.', ''), version, description]);
  return resultOf(version, requests, textTable([['NAME', 'VERSION', 'DESCRIPTION'], ...rows], 1));
}

async function outline(request: ConvertRequest): Promise<Map<string, string>> {
  const { target } = await convertDockerfile(request);
  const found = outlineOf(target, request.sourceMap.data);
  return resultOf('1.0.0', found.json, outlineText(found));
}

function targets(sourceMap: SourceMap): Map<string, string> {
  const { stages } = readStages(sourceMap, Linter.silent);
  const last = stages.at(-1);
  const list = stages.map((stage) => ({
    name: stage.name || undefined,
    default: stage === last ? true : undefined,
    description: stage.doc || undefined,
    base: stage.baseName || undefined,
    platform: stage.platform || undefined,
    location: locationJson(stage.ranges),
  }));
  const rows = stages.map((stage) => {
    const mark = stage === last ? '(default)' : '';
    return [[stage.name, mark].filter(Boolean).join(' '), stage.doc];
  });
  const sources = [Buffer.from(sourceMap.data).toString('base64')];
  return resultOf('1.0.0', { targets: list, sources }, textTable([['TARGET', 'DESCRIPTION'], ...rows], 1));
}

/** All stages are checked unless a target is named; what would stop the build is part of the answer. */
async function lint(request: ConvertRequest): Promise<Map<string, string>> {
  const warnings: LintWarning[] = [];
  const allStages = request.options.target === '';
  let failure: BuildError | undefined;
  try {
    await convertDockerfile({ ...request, allStages, warn: (warning) => warnings.push(warning) });
  } catch (thrown) {
    failure = BuildError.from(thrown);
    if (failure.kind === 'cancelled' || failure.kind === 'internal') throw failure;
  }
  return lintResult(request.sourceMap, warnings, failure);
}

async function convertLlb(request: ConvertRequest): Promise<Map<string, string>> {
  const { state, platform } = await convertDockerfile(request);
  const definition = marshal(state, { platform });
  const ops = definition.def.map(
    (bytes) => [vertexDigestOf(bytes), toJson(OpSchema, fromBinary(OpSchema, bytes)) as GoValue] as const,
  );
  const metadata = Object.entries(definition.metadata).map(([digest, value]) => [digest, metadataJson(value)] as const);
  return resultOf('0.1.0', { def: new Map(ops), metadata: new Map(metadata), source: sourceJson(definition) });
}

const sourceJson = ({ Source }: Definition): GoValue =>
  Source === undefined ? new RawJson('{}') : (toJson(SourceSchema, Source) as GoValue);

/** The names Go's LLB client gives these fields, not those of proto JSON. */
function metadataJson(metadata: OpMetadata): GoValue {
  const { ignoreCache, description, exportCache, caps, progressGroup, linuxResources } = metadata;
  return {
    ignore_cache: ignoreCache ? true : undefined,
    description: mapOrNothing(description),
    export_cache: exportCache === undefined ? undefined : { Value: exportCache.Value ? true : undefined },
    caps: mapOrNothing(caps),
    progress_group:
      progressGroup === undefined
        ? undefined
        : { id: progressGroup.id, name: progressGroup.name, weak: progressGroup.weak ? true : undefined },
    linux_resources: linuxResources === undefined ? undefined : linuxResourcesJson(linuxResources),
  };
}

function mapOrNothing(record: Readonly<Record<string, string | boolean>>): ReadonlyMap<string, GoValue> | undefined {
  const entries = Object.entries(record);
  return entries.length === 0 ? undefined : new Map(entries);
}

function linuxResourcesJson(resources: NonNullable<OpMetadata['linuxResources']>): GoValue {
  const { memory, memorySwap, cpuShares, cpuPeriod, cpuQuota, cpusetCpus, cpusetMems } = resources;
  const number = (value: bigint): RawJson | undefined => (value === 0n ? undefined : new RawJson(`${value}`));
  return {
    memory: number(memory),
    memorySwap: number(memorySwap),
    cpuShares: number(cpuShares),
    cpuPeriod: number(cpuPeriod),
    cpuQuota: number(cpuQuota),
    cpusetCpus: cpusetCpus || undefined,
    cpusetMems: cpusetMems || undefined,
  };
}
