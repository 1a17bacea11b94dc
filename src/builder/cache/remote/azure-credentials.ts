/**
 * Who the daemon is to Azure when the user named no key: a service principal (AZURE_CLIENT_SECRET), a workload identity (a token file
 * that Kubernetes mounts) or the managed identity of the machine, in the order and with the variables that Azure's own libraries use.
 * Three small requests here instead of a library of 30 MB; developer log-ins (az, PowerShell) are left out.
 */
import { readFile } from 'node:fs/promises';
import { BuildError } from '../../../core/errors.ts';
import type { StoreDeps } from './ports.ts';
import { failureOf, networkCode, storeError } from './store-errors.ts';

const RESOURCE = 'https://storage.azure.com/';
/** Of the machine's own metadata service: https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/ */
const METADATA_URL = 'http://169.254.169.254/metadata/identity/oauth2/token';
/** Asked again this long before it ends, so that a token does not expire on its way. */
const RENEW_BEFORE_MS = 5 * 60_000;
const GIVE_UP_MS = 10_000;

interface AccessToken {
  readonly token: string;
  readonly expiresOnTimestamp: number;
}
/** What the storage library asks of a credential (its TokenCredential). */
export interface AmbientCredential {
  getToken(
    scopes: string | string[],
    options?: { readonly abortSignal?: { readonly aborted: boolean } },
  ): Promise<AccessToken | null>;
}

/** Tokens are kept until shortly before they end. @throws BuildError (from `getToken`) `denied` when no identity is configured or it is refused. */
export function ambientCredential(deps: Pick<StoreDeps, 'env' | 'nowMs'>): AmbientCredential {
  let known: AccessToken | undefined;
  return {
    async getToken() {
      if (known === undefined || known.expiresOnTimestamp - RENEW_BEFORE_MS < deps.nowMs()) known = await askToken(deps);
      return known;
    },
  };
}

async function askToken(deps: Pick<StoreDeps, 'env' | 'nowMs'>): Promise<AccessToken> {
  const { env } = deps;
  const { AZURE_TENANT_ID: tenant, AZURE_CLIENT_ID: client, AZURE_CLIENT_SECRET: secret, AZURE_FEDERATED_TOKEN_FILE: file } = env;
  if (tenant && client && (secret || file)) {
    const authority = (env.AZURE_AUTHORITY_HOST || 'https://login.microsoftonline.com').replace(/\/$/, '');
    const proof: Record<string, string> = secret
      ? { client_secret: secret }
      : {
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: (await readFile(file ?? '', 'utf8')).trim(),
        };
    const form = { grant_type: 'client_credentials', client_id: client, scope: `${RESOURCE}.default`, ...proof };
    return await request(`${authority}/${tenant}/oauth2/v2.0/token`, { method: 'POST', body: new URLSearchParams(form) }, deps);
  }
  // App Service and container apps tell their own address; a virtual machine has the well-known one.
  const url = new URL(env.IDENTITY_ENDPOINT || METADATA_URL);
  url.searchParams.set('api-version', env.IDENTITY_ENDPOINT ? '2019-08-01' : '2018-02-01');
  url.searchParams.set('resource', RESOURCE);
  if (client) url.searchParams.set('client_id', client);
  const headers = env.IDENTITY_HEADER ? { 'x-identity-header': env.IDENTITY_HEADER } : { metadata: 'true' };
  return await request(url.href, { headers }, deps);
}

async function request(url: string, init: RequestInit, deps: Pick<StoreDeps, 'nowMs'>): Promise<AccessToken> {
  const signal = AbortSignal.timeout(GIVE_UP_MS);
  const what = `azblob: asking ${new URL(url).host} for a token`;
  try {
    const answer = await fetch(url, { ...init, signal });
    const retryAfter = answer.headers.get('retry-after') ?? undefined;
    const body = (await answer.json().catch(() => ({}))) as { access_token?: unknown; expires_in?: unknown; error?: unknown };
    // A refused identity is 400 with `invalid_client` or `unauthorized_client` (RFC 6749, 5.2).
    const status = answer.status === 400 ? 401 : answer.status;
    if (!answer.ok) throw storeError(what, { status, code: String(body.error ?? ''), retryAfter }, deps.nowMs());
    const { access_token: token, expires_in: expiresInS } = body;
    if (typeof token !== 'string') throw new BuildError('corrupt', `${what}: the answer holds no token`);
    return { token, expiresOnTimestamp: deps.nowMs() + Number(expiresInS ?? 0) * 1000 };
  } catch (thrown) {
    throw failureOf(thrown, new AbortController().signal, () => noIdentity(what, thrown, deps.nowMs()));
  }
}

/** Outside Azure the metadata address answers nothing: then the user is missing a key, and the network is not to blame. */
function noIdentity(what: string, thrown: unknown, nowMs: number): BuildError {
  if (!what.includes('169.254.169.254')) return storeError(what, { code: networkCode(thrown) }, nowMs);
  return new BuildError('denied', 'azblob: no credentials: this machine has no managed identity', {
    hint: 'give secret_access_key, a signature in account_url, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET to the daemon',
  });
}
