/**
 * Image references in Docker's grammar: taken apart, checked part by part, and normalised (`busybox` is
 * `docker.io/library/busybox`). The grammar is https://github.com/distribution/reference/blob/v0.6.0/reference.go.
 */
import { type Digest, isDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { ImageReference } from './ports.ts';

const DOMAIN_LABEL = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const HOST = new RegExp(`^(?:${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const PATH_COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${PATH_COMPONENT}(?:/${PATH_COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
const ANY_DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const IMAGE_ID = /^[a-f0-9]{64}$/;
const MAX_NAME_LENGTH = 255;
const DEFAULT_HOST = 'docker.io';

/**
 * Parses and normalises `[host/]path[:tag][@digest]`. A missing tag stays missing; see `withDefaultTag`.
 * @throws BuildError `invalid-input` whose text begins with `invalid reference format` and names the bad part.
 */
export function parseReference(text: string): ImageReference {
  if (IMAGE_ID.test(text)) throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const { host, rest } = splitHost(text);
  const { repository, tag, digestText } = splitRest(rest);
  if (repository === '') throw malformed('repository name must have at least one component');
  if (repository.toLowerCase() !== repository) throw malformed(`repository name (${repository}) must be lowercase`);
  if (!HOST.test(host)) throw malformed(`"${host}" is not a registry host`);
  if (!REPOSITORY.test(repository)) throw malformed(`"${repository}" is not a repository name`);
  if (tag !== undefined && !TAG.test(tag)) throw malformed(`"${tag}" is not a tag`);
  if (`${host}/${repository}`.length > MAX_NAME_LENGTH)
    throw invalid(`repository name must not be more than ${MAX_NAME_LENGTH} characters`);
  return referenceOf(host, repository, tag, digestText === undefined ? undefined : parseDigestPart(digestText));
}

/** The reference with tag `latest` when it has neither tag nor digest. */
export function withDefaultTag(reference: ImageReference): ImageReference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference;
  return referenceOf(reference.host, reference.repository, 'latest', undefined);
}

/** The same repository and tag pinned to a digest. */
export function withDigest(reference: ImageReference, digest: Digest): ImageReference {
  return referenceOf(reference.host, reference.repository, reference.tag, digest);
}

/** The repository alone, `docker.io/library/busybox`. */
export function nameOf(reference: ImageReference): string {
  return `${reference.host}/${reference.repository}`;
}

/** What `docker images` shows: `busybox:latest` for `docker.io/library/busybox:latest`. */
export function familiarNameOf(reference: ImageReference): string {
  if (reference.host !== DEFAULT_HOST) return reference.text;
  const short = reference.text.slice(DEFAULT_HOST.length + 1);
  const name = short.startsWith('library/') ? short.slice('library/'.length) : short;
  // `library/` goes only when one component is left, as the reference library does it.
  return reference.repository.startsWith('library/') && reference.repository.split('/').length === 2 ? name : short;
}

function referenceOf(host: string, repository: string, tag: string | undefined, digest: Digest | undefined): ImageReference {
  const text = `${host}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
  return { host, repository, text, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** The part before the first slash is a host only when it looks like one: a dot, a colon, upper case, or `localhost`. */
function splitHost(text: string): { host: string; rest: string } {
  const slash = text.indexOf('/');
  const first = slash === -1 ? '' : text.slice(0, slash);
  const looksLikeHost = first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first;
  if (!looksLikeHost) return { host: DEFAULT_HOST, rest: officialName(text) };
  const rest = text.slice(slash + 1);
  if (first === 'index.docker.io' || first === DEFAULT_HOST) return { host: DEFAULT_HOST, rest: officialName(rest) };
  return { host: first, rest };
}

const officialName = (rest: string): string => (rest === '' || rest.includes('/') ? rest : `library/${rest}`);

function splitRest(rest: string): { repository: string; tag?: string; digestText?: string } {
  const at = rest.indexOf('@');
  const named = at === -1 ? rest : rest.slice(0, at);
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  return {
    repository: colon === -1 ? named : named.slice(0, colon),
    ...(colon === -1 ? {} : { tag: named.slice(colon + 1) }),
    ...(at === -1 ? {} : { digestText: rest.slice(at + 1) }),
  };
}

function parseDigestPart(text: string): Digest {
  if (isDigest(text)) return text;
  if (!ANY_DIGEST.test(text)) throw malformed(`"${text}" is not a digest`);
  if (text.startsWith('sha256:')) throw malformed(`invalid checksum digest length or case in "${text}"`);
  throw new BuildError('unsupported', `unsupported digest algorithm in "${text}"; only sha256 is supported`);
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
const malformed = (part: string): BuildError => invalid(`invalid reference format: ${part}`);
