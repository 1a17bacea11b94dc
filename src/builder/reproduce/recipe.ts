/**
 * What it takes to make an image again: the graphs a build made it from, what the frontend said of it, and how it was exported.
 * Kept with the build's record, as JSON. Source texts are left out; secrets were never in a graph.
 */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { VertexDigest } from '../../core/digest.ts';
import { type Definition, DefinitionSchema } from '../proto/gen/pb/ops_pb.ts';

export interface Recipe {
  /** By platform id; the key '' is a single result. Undefined is scratch. */
  readonly results: ReadonlyMap<string, Definition | undefined>;
  readonly multiPlatform: boolean;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  readonly exporter: { readonly type: string; readonly attributes: ReadonlyMap<string, string> };
  /** Digest of the image's manifest or index. */
  readonly manifest: string;
  readonly entitlements: readonly string[];
  /** Stored results of sources that only the client could give, by vertex. */
  readonly locals: ReadonlyMap<string, string>;
  /** What the other sources were found to be, by vertex. */
  readonly pins: ReadonlyMap<string, string>;
}

/** Text of that many characters at most is kept; above it a check says that the build is too large to be repeated. */
const MAX_TEXT = 1024 * 1024;

/** How a build's recipe is written down; of a too large one only that it was. */
export function recipeToJson(recipe: Recipe): object {
  const graphs = [...recipe.results].map(([platform, definition]) => [platform, definition && encoded(definition)] as const);
  if (graphs.reduce((sum, [, text = '']) => sum + text.length, 0) > MAX_TEXT) return { tooLarge: true };
  return {
    results: graphs.map(([platform, text]) => [platform, text ?? null]),
    multiPlatform: recipe.multiPlatform,
    metadata: [...recipe.metadata].map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    exporter: { type: recipe.exporter.type, attributes: [...recipe.exporter.attributes] },
    manifest: recipe.manifest,
    entitlements: recipe.entitlements,
    locals: [...recipe.locals],
    pins: [...recipe.pins],
  };
}

interface RecipeJson {
  readonly tooLarge?: boolean;
  readonly results: readonly (readonly [string, string | null])[];
  readonly multiPlatform: boolean;
  readonly metadata: readonly (readonly [string, string])[];
  readonly exporter: { readonly type: string; readonly attributes: readonly (readonly [string, string])[] };
  readonly manifest: string;
  readonly entitlements: readonly string[];
  readonly locals: readonly (readonly [VertexDigest, string])[];
  readonly pins: readonly (readonly [VertexDigest, string])[];
}

/** Reads what `recipeToJson` wrote; undefined for a recipe that was too large. */
export function recipeFromJson(value: unknown): Recipe | undefined {
  const json = value as RecipeJson; // our own store, written by the function above
  if (json.tooLarge === true) return undefined;
  const graph = (text: string): Definition => fromBinary(DefinitionSchema, Buffer.from(text, 'base64'));
  return {
    results: new Map(json.results.map(([platform, text]) => [platform, text === null ? undefined : graph(text)])),
    multiPlatform: json.multiPlatform,
    metadata: new Map(json.metadata.map(([key, text]) => [key, Buffer.from(text, 'base64')])),
    exporter: { type: json.exporter.type, attributes: new Map(json.exporter.attributes) },
    manifest: json.manifest,
    entitlements: json.entitlements,
    locals: new Map(json.locals),
    pins: new Map(json.pins),
  };
}

function encoded({ Source: _texts, ...definition }: Definition): string {
  return Buffer.from(toBinary(DefinitionSchema, definition)).toString('base64');
}
