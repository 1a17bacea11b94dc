/** docs/api.md from the route table of the ops API. */
import type * as z from 'zod';
import { jsonSchemaOf } from '../../src/web/api/api-description.ts';
import type { Route } from '../../src/web/api/route.ts';
import { ROUTES } from '../../src/web/api/routes.ts';

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly additionalProperties?: Schema | boolean;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
}

export function apiPage(): string {
  return `# Ops API

Generated from \`src/web/api/routes.ts\` by \`npm run generate\`. The same as OpenAPI 3.1: \`/api/v1/openapi.json\` of a running daemon.

Served on \`cooper.ops.address\` (\`127.0.0.1:8470\`), beside the page at \`/\`, \`/metrics\`, \`/livez\`, \`/readyz\` and \`/slo\`. Answers are JSON. Fields may be
added; none changes its meaning within v1. Times are RFC 3339; times inside a build are milliseconds since its start.

Errors are \`{"error": {"kind", "message", "hint"}}\` with a status: 400 for input that cannot be meant (the message names the parameter), 401 and 403 for
a call that may not be made, 404 for what is not there, 405, 413, 415, 421 for a name in \`Host\` that is not this port's, 503 with \`Retry-After\` when
there is too much to do. An input that the call does not know is refused, not ignored.

**Reading** needs no token: keep the port on loopback, or behind a proxy that says who may look.
**Changing** needs \`Authorization: Bearer TOKEN\` with a token of the file that \`cooper.ops.token-file\` names (without that key the port is read-only), and
is refused to pages of another origin. Every such call, allowed or not, is reported for the audit log under the name of its act.

**Following**: the \`live\` calls are server-sent events. \`all\` carries \`{"set": {key: value}, "gone": []}\`, the whole document; \`change\` the keys that changed
and those that are gone; \`end\` says that nothing will follow. A client that does not read is dropped; 64 streams may be open.

| call | |
|---|---|
${ROUTES.map((route) => `| [\`${titleOf(route)}\`](#${anchorOf(route)}) | ${route.summary} |`).join('\n')}

${ROUTES.map(section).join('\n')}`;
}

const titleOf = (route: Route): string => `${route.method} /api/v1${route.path}`;
const anchorOf = (route: Route): string =>
  titleOf(route)
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');

function section(route: Route): string {
  const inputs = [...inputRows(route.params, 'path'), ...inputRows(route.query, 'query'), ...inputRows(route.body, 'body')];
  const parts = [
    `## ${titleOf(route)}`,
    `${route.summary}${route.act === undefined ? '' : ` Needs a token; audited as \`${route.act}\`.`}`,
    ...(inputs.length === 0 ? [] : [`| input | in | type | |\n|---|---|---|---|\n${inputs.join('\n')}`]),
    answerOf(route.answer),
  ];
  return `${parts.join('\n\n')}\n`;
}

function inputRows(schema: z.ZodObject, place: string): string[] {
  const { properties = {}, required = [] } = jsonSchemaOf(schema, 'input') as Schema;
  return Object.entries(properties).map(([name, property]) => {
    const needed = required.includes(name) ? 'required' : '';
    const otherwise = property.default === undefined ? '' : `default \`${JSON.stringify(property.default)}\``;
    const range = rangeOf(property);
    return `| \`${name}\` | ${place} | ${typeOf(property)}${range} | ${[property.description, needed, otherwise].filter(Boolean).join('; ')} |`;
  });
}

function rangeOf({ type, minimum, maximum }: Schema): string {
  if (type !== 'integer' && type !== 'number') return '';
  return minimum === undefined && maximum === undefined ? '' : ` ${minimum ?? ''}–${maximum ?? ''}`;
}

function answerOf(answer: Route['answer']): string {
  if (typeof answer === 'string') return `Answer: ${answer}`;
  const rows = rowsOf(jsonSchemaOf(answer, 'output') as Schema, '');
  return `| answer | type | |\n|---|---|---|\n${rows.join('\n')}`;
}

function rowsOf(schema: Schema, prefix: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const isOptional = !(schema.required ?? []).includes(name);
    const inner = property.items?.properties === undefined ? property : property.items;
    const path = `${prefix}${name}${inner === property ? '' : '[]'}`;
    const row = `| \`${path}\` | ${typeOf(property)} | ${[isOptional ? 'may be absent' : '', property.description].filter(Boolean).join('; ')} |`;
    return [row, ...rowsOf(inner, `${path}.`)];
  });
}

function typeOf(schema: Schema): string {
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(' ');
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeOf).join(' or ');
  if (schema.type === 'array') return `list of ${schema.items === undefined ? 'any' : typeOf(schema.items)}`;
  if (
    typeof schema.additionalProperties === 'object' &&
    Object.keys(schema.additionalProperties).length > 0 &&
    schema.properties === undefined
  )
    return `object of ${typeOf(schema.additionalProperties)}`;
  return Array.isArray(schema.type) ? schema.type.join(' or ') : String(schema.type ?? 'any');
}
