/** The state folder: whose it is, its layout, room on its disk, and whether what is in it is whole. */
import { createHash } from 'node:crypto';
import { accessSync, constants, createReadStream, existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DoctorFacts } from './facts.ts';
import { error, type Finding, info, ok, warning } from './finding.ts';

/** Layouts this version knows (`<root>/VERSION`). */
const LAYOUTS = ['1'];
const GIB = 1024 ** 3;
/** Blobs are read newest first until this much was compared: enough to see a bad disk, short enough for the first minute. */
const SAMPLE_BYTES = 256 * 1024 * 1024;
const OVERLAY_MAGIC = 0x794c7630; // linux/magic.h

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;

export function checkState(facts: DoctorFacts): Finding[] {
  const { root } = facts;
  const rights = rightsOf(facts);
  return existsSync(root) ? [rights, layoutOf(root), ...diskOf(root)] : [rights, ...diskOf(nearestFolder(root))];
}

function nearestFolder(path: string): string {
  let at = path;
  while (!existsSync(at)) at = dirname(at);
  return at;
}

function rightsOf({ root, uid, daemonPid }: DoctorFacts): Finding {
  const id = 'state.rights';
  const at = nearestFolder(root);
  try {
    accessSync(at, constants.W_OK | constants.X_OK);
  } catch {
    const owner = statSync(at).uid;
    return daemonPid !== undefined
      ? info(id, 'The state folder is another user’s; some checks see less.', `${at} belongs to user ${owner}, this is ${uid}`, {
          fix: 'run the doctor as that user',
        })
      : error(id, 'The state folder cannot be written.', `${at} belongs to user ${owner}, this is user ${uid}`, {
          fix: `start the daemon as user ${owner}, give the folder to ${uid}, or name another with --root`,
        });
  }
  return ok(id, 'The state folder can be written.', at);
}

function layoutOf(root: string): Finding {
  const file = join(root, 'VERSION');
  if (!existsSync(file)) return ok('state.layout', 'The state folder is new.', `${file} does not exist`);
  const found = readFileSync(file, 'utf8').trim();
  if (LAYOUTS.includes(found)) return ok('state.layout', 'The layout of the state folder is known.', `layout ${found}`);
  return error(
    'state.layout',
    'Another version wrote the state folder; this one will not start on it.',
    `${file} says ${found}, known: ${LAYOUTS.join(', ')}`,
    {
      fix: 'start the version that wrote it, or this one with another --root',
    },
  );
}

function diskOf(path: string): Finding[] {
  const { bavail, blocks, bsize, ffree, files, type } = statfsSync(path);
  const freeBytes = bavail * bsize;
  const share = blocks === 0 ? 1 : bavail / blocks;
  const seen = `${gib(freeBytes)} of ${gib(blocks * bsize)} free below ${path} (${percent(share)})`;
  const fix =
    'cooper gc plan shows what would go; cooper prune --keep-duration 24h makes room; then lower the limit of the gc policies';
  const space =
    share < 0.03
      ? error('disk.space', 'The disk under the state folder is full.', seen, { cause: 'disk-space', fix })
      : share < 0.1
        ? warning('disk.space', 'The disk under the state folder is nearly full.', seen, { cause: 'disk-space', fix })
        : ok('disk.space', 'There is room on the disk.', seen, { cause: 'disk-space' });
  const inodeShare = files === 0 ? 1 : ffree / files;
  const inodesSeen =
    files === 0 ? 'this file system has no limit of inodes' : `${ffree} of ${files} inodes free (${percent(inodeShare)})`;
  const inodes =
    inodeShare < 0.02
      ? error('disk.inodes', 'The disk under the state folder has no inodes left.', inodesSeen, { cause: 'disk-space', fix })
      : inodeShare < 0.1
        ? warning('disk.inodes', 'The disk under the state folder is running out of inodes.', inodesSeen, {
            cause: 'disk-space',
            fix,
          })
        : ok('disk.inodes', 'There are inodes to spare.', inodesSeen, { cause: 'disk-space' });
  const kind =
    type === OVERLAY_MAGIC
      ? warning(
          'disk.filesystem',
          'The state folder lies on an overlay file system.',
          `${path} is on overlayfs, which cannot carry another overlay for writing`,
          {
            fix: 'mount a volume (ext4, xfs, btrfs or tmpfs) at the state folder; until then snapshots are whole copies',
          },
        )
      : ok('disk.filesystem', 'The file system of the state folder can carry snapshots.', `type 0x${type.toString(16)}`);
  return [space, inodes, kind];
}

/** What was moved aside earlier, and the newest blobs compared with their names. Reads, changes nothing. */
export async function checkCache({ root, checkStore, daemonPid }: DoctorFacts): Promise<Finding[]> {
  const findings = [quarantineOf(root), databaseOf(root)];
  if (checkStore === undefined) return [...findings, await sampleOf(root)];
  const { looked, findings: found } = await checkStore();
  const first = found.slice(0, 5).map(({ kind, subject, detail }) => `${kind} ${subject}: ${detail}`);
  return [
    ...findings,
    found.length === 0
      ? ok('cache.store', 'Blobs, records, snapshots and keys agree.', looked, { cause: 'cache-corruption' })
      : error(
          'cache.store',
          'The store holds what is damaged or does not belong together.',
          `${found.length} findings: ${first.join('; ')}`,
          {
            cause: 'cache-corruption',
            fix: `cooper cache check --repair${daemonPid === undefined ? ` --root ${root}` : ''}`,
          },
        ),
  ];
}

function quarantineOf(root: string): Finding {
  const dir = join(root, 'quarantine');
  const names = existsSync(dir) ? readdirSync(dir) : [];
  if (names.length === 0)
    return ok('cache.quarantine', 'Nothing was moved aside as damaged.', `${dir} is empty`, { cause: 'cache-corruption' });
  return warning(
    'cache.quarantine',
    'Damaged data was found and moved aside.',
    `${names.length} entries in ${dir}, for example ${names[0]}`,
    {
      cause: 'cache-corruption',
      fix: 'cooper cache check looks for more; if it comes back, suspect disk or memory. Remove the folder’s content once the cause is known',
    },
  );
}

/** A store that could not be read is renamed by the daemon at start, beside the new one. */
function databaseOf(root: string): Finding {
  const aside = existsSync(root)
    ? readdirSync(root).filter((name) => /^cooper\.sqlite.*(corrupt|quarantine|bad)/.test(name))
    : [];
  if (aside.length === 0)
    return ok('cache.database', 'The metadata store was never replaced.', join(root, 'cooper.sqlite'), {
      cause: 'cache-corruption',
    });
  return warning('cache.database', 'The metadata store was unreadable once and was replaced by an empty one.', aside.join(', '), {
    cause: 'cache-corruption',
    fix: 'nothing now: the cache fills again. If it comes back, suspect the disk',
  });
}

async function sampleOf(root: string): Promise<Finding> {
  const id = 'cache.blobs';
  const dir = join(root, 'content', 'blobs', 'sha256');
  const names = existsSync(dir) ? readdirSync(dir).filter((name) => /^[0-9a-f]{64}$/.test(name)) : [];
  const blobs = names.flatMap((name) => {
    const stat = statSync(join(dir, name), { throwIfNoEntry: false }); // a collection may run
    return stat === undefined ? [] : [{ name, sizeBytes: stat.size, mtimeMs: stat.mtimeMs }];
  });
  blobs.sort((a, b) => b.mtimeMs - a.mtimeMs);
  let bytes = 0;
  let looked = 0;
  const bad: string[] = [];
  for (const { name, sizeBytes } of blobs) {
    if (bytes + sizeBytes > SAMPLE_BYTES) continue;
    const actual = await hashOf(join(dir, name));
    if (actual === undefined) continue;
    bytes += sizeBytes;
    looked += 1;
    if (actual !== name) bad.push(`sha256:${name.slice(0, 12)}`);
  }
  const seen = `${looked} of ${blobs.length} blobs read, ${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  if (bad.length === 0) return ok(id, 'The newest blobs match their digests.', seen, { cause: 'cache-corruption' });
  return error(id, 'Blobs do not match their digests.', `${bad.length} damaged (${bad.slice(0, 5).join(', ')}); ${seen}`, {
    cause: 'cache-corruption',
    fix: 'cooper cache check --repair quarantines them, and what was bad is built anew; if it comes back, suspect disk or memory',
  });
}

/** Undefined when the blob is gone meanwhile. */
async function hashOf(file: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  } catch {
    return undefined;
  }
  return hash.digest('hex');
}
