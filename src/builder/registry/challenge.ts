/** `WWW-Authenticate` challenges and registry token scopes (distribution's auth/token.md and auth/scope.md). */

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** Every challenge of a header, which may hold several separated by commas (RFC 9110, section 11.6.1). Unreadable parts are skipped. */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  // A token followed by `=` is a parameter of the challenge before it; a token that is not starts the next one.
  for (const match of header.matchAll(/([!#$%&'*+.^_`|~\w-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g)) {
    const [, name = '', quoted, plain] = match;
    const current = challenges.at(-1);
    if (quoted === undefined && plain === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: {} });
    else if (current !== undefined) current.parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
  }
  return challenges;
}

export const pullScope = (repository: string): string => `repository:${repository}:pull`;
export const pushScope = (repository: string): string => `repository:${repository}:pull,push`;

/** Scopes merged per resource, resources and actions sorted: equal rights give equal text. */
export function normaliseScopes(scopes: readonly string[]): readonly string[] {
  const actionsOf = new Map<string, Set<string>>();
  for (const scope of scopes.flatMap((text) => text.split(' ')).filter((text) => text !== '')) {
    const at = scope.lastIndexOf(':');
    const resource = at === -1 ? scope : scope.slice(0, at);
    const actions = actionsOf.get(resource) ?? new Set();
    for (const action of at === -1 ? [] : scope.slice(at + 1).split(',')) if (action !== '') actions.add(action);
    actionsOf.set(resource, actions);
  }
  return [...actionsOf]
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([resource, actions]) => `${resource}:${[...actions].sort().join(',')}`);
}
