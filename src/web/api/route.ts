/** What a call of the ops API is: one entry of the route table, from which requests are checked and docs/api.md is written. */
import type { Request, Response } from 'express';
import * as z from 'zod';
import type { Tokens } from '../http/tokens.ts';
import type { OpsProviders } from '../ops-providers.ts';
import type { Live } from './live.ts';
import type { StepCache } from './step-history.ts';

/** What handlers work with. */
export interface ApiContext {
  readonly providers: OpsProviders;
  readonly steps: StepCache;
  readonly live: Live;
  /** Undefined: nothing can be changed. */
  readonly tokens: Tokens | undefined;
}
/** One request; `signal` aborts when the caller goes. */
export interface Call {
  readonly request: Request;
  readonly response: Response;
  readonly signal: AbortSignal;
  /** Name beside the caller's token; empty for calls that need none. */
  readonly actor: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  /** Below /api/v1; `:name` is a parameter. */
  readonly path: string;
  readonly summary: string;
  readonly params: z.ZodObject;
  readonly query: z.ZodObject;
  /** JSON body of a POST. */
  readonly body: z.ZodObject;
  /** Schema of a JSON answer, or what else is sent. */
  readonly answer: z.ZodType | string;
  /** Present: the call changes something, needs a token and is reported under this name. */
  readonly act: string | undefined;
  /** Says of a request that its body is not JSON and is read by the handler. */
  readonly isUpload: ((request: Request) => boolean) | undefined;
  /** Returns the JSON answer; a route whose answer is text sends it itself. */
  readonly handle: (input: Input, context: ApiContext, call: Call) => unknown;
}
interface Input {
  readonly params: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: Readonly<Record<string, unknown>>;
}

const NONE = z.strictObject({});
type None = typeof NONE;

/** Types of the input follow from the schemas. */
export function route<P extends z.ZodObject = None, Q extends z.ZodObject = None, B extends z.ZodObject = None>(spec: {
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  readonly summary: string;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly answer: z.ZodType | string;
  readonly act?: string;
  readonly isUpload?: (request: Request) => boolean;
  readonly handle: (
    input: { readonly params: z.infer<P>; readonly query: z.infer<Q>; readonly body: z.infer<B> },
    context: ApiContext,
    call: Call,
  ) => unknown;
}): Route {
  return {
    method: spec.method ?? 'GET',
    path: spec.path,
    summary: spec.summary,
    params: spec.params ?? NONE,
    query: spec.query ?? NONE,
    body: spec.body ?? NONE,
    answer: spec.answer,
    act: spec.act,
    isUpload: spec.isUpload,
    handle: spec.handle as unknown as Route['handle'],
  };
}
