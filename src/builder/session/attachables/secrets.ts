/** Secrets the client offers, read when they are asked for (buildkit-wire.md 3.6). */
import { readFile, stat } from 'node:fs/promises';
import { BuildError } from '../../../core/errors.ts';
import { MAX_SECRET_BYTES } from '../../../core/limits.ts';
import { Secrets } from '../../proto/gen/moby/buildkit/secrets/v1/secrets_pb.ts';
import { type Service, service } from '../../rpc/handlers.ts';

export type SecretSource = { readonly file: string } | { readonly value: string };

/** `sources`: by secret id. */
export function secretsService(sources: ReadonlyMap<string, SecretSource>): Service {
  return service(Secrets, {
    async getSecret({ ID }) {
      const source = sources.get(ID);
      if (source === undefined) throw new BuildError('not-found', `secret ${ID} not found`);
      return { data: 'file' in source ? await readSecretFile(source.file) : Buffer.from(source.value) };
    },
  });
}

async function readSecretFile(file: string): Promise<Buffer> {
  const { size } = await stat(file);
  if (size > MAX_SECRET_BYTES) {
    throw new BuildError('invalid-input', `invalid secret size ${size}: ${file} has more than ${MAX_SECRET_BYTES} bytes`);
  }
  return await readFile(file);
}
