/**
 * Registry credentials for a build (buildkit-wire.md 3.5). The daemon asks for tokens, which we fetch ourselves, so passwords stay
 * here; it tells clients with equal credentials apart from others by a key that is derived from a seed kept beside the credentials.
 */
import { createHmac, createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Auth } from '../../proto/gen/moby/filesync/v1/auth_pb.ts';
import { type Service, service } from '../../rpc/handlers.ts';
import { readCredentials } from './docker-config.ts';
import { fetchToken } from './fetch-token.ts';

/** DER prefix of an ed25519 private key (RFC 8410, section 7); its 32-byte seed follows. */
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_BYTES = 32;

/** `configDir`: where config.json lies, `~/.docker` unless DOCKER_CONFIG says otherwise. */
export function authService(configDir: string): Service {
  const seeds = new Seeds(join(configDir, '.token_seed'));

  /** The same for everybody who is anonymous; otherwise known only to who can read the seed, and different for each daemon. */
  const keyFor = async (host: string, salt: Uint8Array): Promise<KeyObject> => {
    const mac = createHmac('sha256', salt);
    const { secret } = await readCredentials(configDir, host);
    if (secret !== '') mac.update(await seeds.of(host));
    return createPrivateKey({ key: Buffer.concat([PRIVATE_PREFIX, mac.digest()]), format: 'der', type: 'pkcs8' });
  };

  return service(Auth, {
    async credentials({ Host }, { signal }) {
      const { username, secret } = await readCredentials(configDir, Host, signal);
      return { Username: username, Secret: secret };
    },
    async fetchToken({ ClientID, Host, Realm, Service: name, Scopes }, { signal }) {
      const credentials = await readCredentials(configDir, Host, signal);
      const request = { clientId: ClientID === '' ? 'cooper' : ClientID, realm: Realm, service: name, scopes: Scopes };
      const { token, expiresInS, issuedAtS } = await fetchToken(request, credentials, signal);
      return { Token: token, ExpiresIn: BigInt(expiresInS), IssuedAt: BigInt(issuedAtS) };
    },
    async getTokenAuthority({ Host, Salt }) {
      const der = createPublicKey(await keyFor(Host, Salt)).export({ format: 'der', type: 'spki' });
      return { PublicKey: der.subarray(der.length - PUBLIC_BYTES) };
    },
    async verifyTokenAuthority({ Host, Payload, Salt }) {
      return { Signed: Buffer.concat([sign(null, Payload, await keyFor(Host, Salt)), Payload]) };
    },
  });
}

/** Random bytes per registry, kept in the file that Docker's own clients keep theirs in: `{host: {Seed: base64}}`. */
class Seeds {
  readonly #file: string;
  #known: Promise<Record<string, { readonly Seed: string }>> | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  async of(host: string): Promise<Buffer> {
    this.#known ??= this.#read();
    const known = await this.#known;
    const found = known[host]?.Seed;
    if (found !== undefined) return Buffer.from(found, 'base64');
    const seed = randomBytes(16);
    known[host] = { Seed: seed.toString('base64') };
    await writeFile(this.#file, JSON.stringify(known, null, 2), { mode: 0o600 }).catch(() => {}); // then it lasts as long as we do
    return seed;
  }

  async #read(): Promise<Record<string, { readonly Seed: string }>> {
    try {
      const value: unknown = JSON.parse(await readFile(this.#file, 'utf8'));
      return typeof value === 'object' && value !== null ? { ...value } : {};
    } catch {
      return {};
    }
  }
}
