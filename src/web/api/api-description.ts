/** The route table for readers: OpenAPI 3.1 for programs. docs/api.md is made from the same entries. */
import * as z from 'zod';
import type { Route } from './route.ts';

type Json = Readonly<Record<string, unknown>>;

/** JSON Schema of an answer or an input, without the noise a reader does not need. */
export function jsonSchemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _schema, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as Record<string, unknown>;
  return rest;
}

export function openApiOf(routes: readonly Route[], version: string): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    const path = `/api/v1${route.path.replace(/:(\w+)/g, '{$1}')}`;
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Cooper ops API', version },
    paths,
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
  };
}

function operationOf(route: Route): Json {
  const ok =
    typeof route.answer === 'string'
      ? { description: route.answer }
      : { description: 'OK', content: { 'application/json': { schema: jsonSchemaOf(route.answer, 'output') } } };
  return {
    summary: route.summary,
    parameters: [...parametersOf(route.params, 'path'), ...parametersOf(route.query, 'query')],
    ...(Object.keys(route.body.shape).length > 0 && {
      requestBody: { content: { 'application/json': { schema: jsonSchemaOf(route.body, 'input') } } },
    }),
    responses: { 200: ok, '4XX': { description: 'What was wrong, where, and how to put it right.' } },
    ...(route.act !== undefined && { security: [{ token: [] }] }),
  };
}

function parametersOf(schema: z.ZodObject, place: 'path' | 'query'): Json[] {
  const { properties = {}, required = [] } = jsonSchemaOf(schema, 'input') as {
    properties?: Readonly<Record<string, Json>>;
    required?: readonly string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: required.includes(name),
    schema: property,
  }));
}
