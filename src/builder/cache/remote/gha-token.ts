/** What a workflow's runtime token says of itself. It is not verified here: the service does that; we only ask within its bounds. */
import { BuildError } from '../../../core/errors.ts';

export interface ActionsToken {
  /** Branches whose caches may be used, the service's order. */
  readonly scopes: readonly { readonly name: string; readonly mayWrite: boolean }[];
  readonly expiresAtMs: number;
}

const MAY_WRITE = 2;

/** Reads the claims `ac` and `exp` of a JSON web token (RFC 7519). @throws BuildError `invalid-input`, never with a part of the token. */
export function parseActionsToken(token: string): ActionsToken {
  const claims = objectOf(textOf(token.split('.')[1]));
  const scopes = typeof claims?.ac === 'string' ? parseJson(claims.ac) : undefined;
  if (claims === undefined || !Array.isArray(scopes) || scopes.length === 0)
    throw invalid('is not a runtime token of GitHub Actions');
  if (typeof claims.exp !== 'number') throw invalid('does not say when it expires');
  return {
    scopes: scopes.map((entry: unknown) => {
      const { Scope: name, Permission: permission } = (entry ?? {}) as Record<string, unknown>;
      if (typeof name !== 'string' || typeof permission !== 'number') throw invalid('has scopes that cannot be read');
      return { name, mayWrite: (permission & MAY_WRITE) !== 0 };
    }),
    expiresAtMs: claims.exp * 1000,
  };
}

const invalid = (what: string): BuildError => new BuildError('invalid-input', `gha cache: attribute token ${what}`);
const textOf = (part: string | undefined): string => Buffer.from(part ?? '', 'base64url').toString();
function objectOf(text: string): Record<string, unknown> | undefined {
  const value = parseJson(text);
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
