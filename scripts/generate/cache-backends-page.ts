/** docs/cache-backends.md from the attribute tables of the stores. */
import { AZBLOB_ATTRIBUTES } from '../../src/builder/cache/remote/azblob.ts';
import { GHA_ATTRIBUTES } from '../../src/builder/cache/remote/gha.ts';
import { REDIS_ATTRIBUTES } from '../../src/builder/cache/remote/redis.ts';
import { S3_ATTRIBUTES } from '../../src/builder/cache/remote/s3.ts';
import type { AttributeSpec, AttributeTable } from '../../src/builder/cache/remote/store-attributes.ts';

function table(attributes: AttributeTable): string {
  const rows = Object.entries<AttributeSpec>(attributes).map(([name, { kind, default: fallback, env, alias, required, doc }]) => {
    const names = alias === undefined ? `\`${name}\`` : `\`${name}\`, \`${alias}\``;
    const absent = [env === undefined ? '' : `\`$${env}\``, fallback === undefined ? '' : `\`${fallback}\``].filter(Boolean);
    return `| ${names} | ${kind} | ${absent.join(', else ') || (required === true ? '**needed**' : '-')} | ${doc} |`;
  });
  return `| attribute | kind | when absent | meaning |\n|---|---|---|---|\n${rows.join('\n')}`;
}

export function cacheBackendsPage(): string {
  return `# Cache backends

Generated from the attribute tables in \`src/builder/cache/remote/\` by \`npm run generate\`.

Where \`--cache-to\`, \`--cache-from\`, \`--export-cache\` and \`--import-cache\` may lead besides a registry, the image itself (\`inline\`) and a folder of the client
(\`local\`). All of them understand \`mode\`, \`compression\`, \`compression-level\`, \`force-compression\` and \`ignore-error\` too, and all of them fail in the same way:
see [cache.md](cache.md). Names of objects are BuildKit's, so the two daemons read each other's caches in S3, Azure and GitHub Actions.

A \`duration\` is written \`90s\`, \`10m\` or \`24h\`, a \`size\` \`64MB\`, a \`names\` is a list separated by \`;\`. Variables are those of the daemon's environment. Credentials
that a client sends are used for its build only; they are in no log, trace, history or error text.

## s3

\`\`\`sh
docker buildx build --cache-to type=s3,region=eu-west-1,bucket=builds,prefix=app/,mode=max --cache-from type=s3,region=eu-west-1,bucket=builds,prefix=app/ .
\`\`\`

${table(S3_ATTRIBUTES)}

- Objects: \`<prefix><manifests_prefix><name>\` and \`<prefix><blobs_prefix>sha256:<hex>\`. Nothing is ever deleted: give the bucket a lifecycle rule that ends
  objects some days older than \`touch_refresh\`, and one that ends incomplete multipart uploads.
- Permissions: \`s3:GetObject\`, \`s3:PutObject\`, \`s3:AbortMultipartUpload\`, and \`s3:ListBucket\`, without which S3 answers 403 for an object that is not there.
- Layers above 64 MiB are written in parts. Smaller ones are signed with their digest, so the service refuses a body that was cut off on its way.
- Proxies are read from \`HTTP_PROXY\`, \`HTTPS_PROXY\` and \`NO_PROXY\` of the daemon.

## azblob

\`\`\`sh
docker buildx build --cache-to type=azblob,account_url=https://builds.blob.core.windows.net,name=app,mode=max .
\`\`\`

${table(AZBLOB_ATTRIBUTES)}

- Blobs: \`<prefix>/<manifests_prefix>/<name>\` and \`<prefix>/<blobs_prefix>/sha256:<hex>\`. Nothing is ever deleted: give the account a lifecycle rule by last access.
- Without a key the daemon is who its environment says: \`AZURE_TENANT_ID\`, \`AZURE_CLIENT_ID\` with \`AZURE_CLIENT_SECRET\` or \`AZURE_FEDERATED_TOKEN_FILE\` (workload
  identity), else the managed identity of the machine (\`AZURE_CLIENT_ID\` chooses among several). Log-ins of developers (\`az login\`) and certificates are not read.
  The role needed is *Storage Blob Data Contributor*. Tokens are sent over https only.
- Layers above 32 MiB are written in blocks.

## gha

\`\`\`yaml
- uses: docker/build-push-action@v6
  with:
    cache-from: type=gha,scope=app
    cache-to: type=gha,scope=app,mode=max
\`\`\`

${table(GHA_ATTRIBUTES)}

- Outside that action, \`crazy-max/ghaction-github-runtime\` shows a workflow's steps the addresses and the token; buildx sends them along by itself.
- A workflow reads the caches of its own branch and of those it comes from, and writes its own branch's.
- An entry of this service cannot be replaced or removed. Each export writes a new configuration; the service removes what was not used for 7 days, or
  when the repository has more than 10 GB.
- Tests run against a double of the service (\`test/fixtures/actions-cache.ts\`), for the real one takes only tokens of running workflows. It has not been tried there.
- \`[cache.gha]\` signing and verifying of configurations is not there yet.

## redis

\`\`\`toml
[[cache.registry]]          # for builds that name no cache
type = "redis"
redis-addr = "redis://redis.build.svc:6379"
\`\`\`

\`\`\`sh
buildctl build --export-cache type=redis,addr=rediss://redis.build.svc:6380,password=...,name=app,mode=max ...
\`\`\`

${table(REDIS_ATTRIBUTES)}

- BuildKit has no such backend. [ADR 11](adr/0011-redis-cache.md) says what is kept and why.
- Several daemons may share one server: each export leaves a configuration of its own, and an import reads the newest of them as one.
- Layers live in the server's memory. Set \`maxmemory\` and \`maxmemory-policy allkeys-lru\`; a layer that was evicted is a miss. A server that is full and may not
  evict refuses exports, which the build's warning says.
- Redis Cluster is not spoken; Sentinel neither.
`;
}
