/** The machine: kernel, overlay, name spaces, control groups, runtime, limits, memory and processor. */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { dirname, join } from 'node:path';
import type { DoctorFacts } from './facts.ts';
import { error, type Finding, info, ok, warning } from './finding.ts';

const SEARCH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const MIB = 1024 * 1024;

const can = (path: string, mode: number): boolean => {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
};
/** Content of a file of the kernel, or undefined where this kernel has none. */
function text(...parts: string[]): string | undefined {
  try {
    return readFileSync(join(...parts), 'utf8');
  } catch {
    return undefined;
  }
}

export function checkHost(facts: DoctorFacts): Finding[] {
  return [
    kernelOf(),
    unshareOf(),
    ...userNamespaces(facts),
    cgroupsOf(facts),
    ...limitsOf(facts),
    memoryOf(facts),
    processorOf(facts),
  ];
}

function kernelOf(): Finding {
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  if (major > 5 || (major === 5 && minor >= 11)) return ok('host.kernel', 'The kernel has all that is used.', release());
  if (major > 4 || (major === 4 && minor >= 18))
    return info('host.kernel', 'The kernel lacks overlay mounts without root (5.11) and volatile ones (5.10).', release(), {
      fix: 'nothing as root; without root snapshots are whole copies',
    });
  return warning('host.kernel', 'The kernel is older than any this was tried on.', release(), { fix: 'Linux 4.18 or newer' });
}

function unshareOf(): Finding {
  const found = ['/usr/bin/unshare', '/bin/unshare'].find((path) => can(path, constants.X_OK));
  if (found !== undefined) return ok('host.unshare', 'The daemon can enter a mount name space of its own.', found);
  return error(
    'host.unshare',
    'unshare(1) is missing; the daemon does not start without it.',
    'neither /usr/bin/unshare nor /bin/unshare',
    {
      fix: 'apt-get install util-linux',
    },
  );
}

/** Matters to a daemon without root only. */
function userNamespaces({ uid, host: { proc, etc } }: DoctorFacts): Finding[] {
  const limit = Number(text(proc, 'sys/user/max_user_namespaces') ?? 'NaN');
  const clone = text(proc, 'sys/kernel/unprivileged_userns_clone')?.trim();
  const apparmor = text(proc, 'sys/kernel/apparmor_restrict_unprivileged_userns')?.trim();
  const why =
    limit === 0
      ? { seen: 'user.max_user_namespaces is 0', fix: 'sysctl -w user.max_user_namespaces=15000' }
      : clone === '0'
        ? { seen: 'kernel.unprivileged_userns_clone is 0', fix: 'sysctl -w kernel.unprivileged_userns_clone=1' }
        : apparmor === '1'
          ? {
              seen: 'kernel.apparmor_restrict_unprivileged_userns is 1',
              fix: 'an AppArmor profile that allows userns for node, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
            }
          : undefined;
  const id = 'host.user-namespaces';
  const first =
    why === undefined
      ? ok(id, 'Users may make name spaces.', `user.max_user_namespaces is ${Number.isNaN(limit) ? 'not shown' : limit}`)
      : uid === 0
        ? info(id, 'Users may not make name spaces; as root none is needed.', why.seen)
        : error(id, 'Without root the daemon needs a user name space, and may not make one.', why.seen, { fix: why.fix });
  return uid === 0 ? [first] : [first, subordinateIds(etc, uid)];
}

function subordinateIds(etc: string, uid: number): Finding {
  const id = 'host.subordinate-ids';
  const tools = ['/usr/bin/newuidmap', '/usr/bin/newgidmap'].every((path) => can(path, constants.X_OK));
  const name = text(etc, 'passwd')
    ?.split('\n')
    .find((line) => line.split(':')[2] === String(uid))
    ?.split(':')[0];
  const listed = ['subuid', 'subgid'].every((file) =>
    text(etc, file)
      ?.split('\n')
      .some((line) => [name, String(uid)].includes(line.split(':')[0])),
  );
  if (tools && listed) return ok(id, 'Steps may use a range of user ids.', `${name ?? uid} is in /etc/subuid and /etc/subgid`);
  const seen = tools ? `${name ?? uid} is not in both /etc/subuid and /etc/subgid` : 'newuidmap or newgidmap is missing';
  return warning(id, 'Steps see one user id only: packages that make users, and USER, fail.', seen, {
    fix: tools ? `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${name ?? uid}` : 'apt-get install uidmap',
  });
}

function cgroupsOf({ host: { sys } }: DoctorFacts): Finding {
  const id = 'host.cgroups';
  const mount = join(sys, 'fs/cgroup');
  const unified = existsSync(join(mount, 'cgroup.controllers'));
  const first = unified
    ? mount
    : ['pids', 'freezer', 'memory', 'systemd', 'unified']
        .map((name) => join(mount, name))
        .find((path) => existsSync(join(path, 'cgroup.procs')));
  const fix = 'delegate a group to the daemon (systemd: Delegate=yes), or mount /sys/fs/cgroup writable in its container';
  if (first === undefined)
    return warning(
      id,
      'There are no control groups: steps have no limits, and what they use is not known.',
      `${mount} holds none`,
      { fix },
    );
  const layout = unified ? 'version 2' : 'version 1';
  if (!can(first, constants.W_OK))
    return warning(
      id,
      'Control groups cannot be written: steps have no limits, and what they use is not known.',
      `${layout}, ${first} is read-only for this user`,
      { fix },
    );
  const controllers = unified ? (text(mount, 'cgroup.controllers')?.trim().split(' ') ?? []) : [];
  const lacking = unified ? ['cpu', 'memory', 'pids'].filter((name) => !controllers.includes(name)) : [];
  if (lacking.length > 0)
    return warning(id, 'Some controllers are missing: limits on them do not hold.', `version 2 without ${lacking.join(', ')}`, {
      fix,
    });
  return ok(id, 'Control groups can be used.', unified ? `${layout}: ${controllers.join(' ')}` : `${layout} at ${first}`);
}

/** Of the daemon when one runs, else of this shell, which is what a daemon started here would get. */
function limitsOf({ host: { proc }, daemonPid }: DoctorFacts): Finding[] {
  const whose = daemonPid === undefined ? 'this shell' : 'the daemon';
  const limits = text(proc, String(daemonPid ?? 'self'), 'limits');
  if (limits === undefined) return [];
  const limit = (name: string): number => {
    const soft = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(limits)?.[1];
    return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
  };
  const files = limit('Max open files');
  const processes = limit('Max processes');
  const fix = (name: string): string => `raise it for the service (systemd: ${name}=1048576), then restart the daemon`;
  const seen = `${whose} may have ${files === Number.POSITIVE_INFINITY ? 'any number of' : files} files open`;
  return [
    files < 1024
      ? error('host.open-files', 'The limit of open files is too low for builds at once.', seen, { fix: fix('LimitNOFILE') })
      : files < 8192
        ? warning('host.open-files', 'The limit of open files is low.', seen, { fix: fix('LimitNOFILE') })
        : ok('host.open-files', 'The limit of open files is high enough.', seen),
    processes < 1024
      ? warning('host.processes', 'The limit of processes is low.', `${whose} may have ${processes} processes`, {
          fix: fix('LimitNPROC'),
        })
      : ok(
          'host.processes',
          'The limit of processes is high enough.',
          `${processes === Number.POSITIVE_INFINITY ? 'no limit' : processes}`,
        ),
  ];
}

function memoryOf({ host: { proc } }: DoctorFacts): Finding {
  const id = 'host.memory';
  const meminfo = text(proc, 'meminfo') ?? '';
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1] ?? Number.NaN);
  const [total, available] = [kib('MemTotal') * 1024, kib('MemAvailable') * 1024];
  const stalled = Number(/^full avg10=\S+ avg60=([\d.]+)/m.exec(text(proc, 'pressure/memory') ?? '')?.[1] ?? 0);
  const seen = `${(available / MIB).toFixed(0)} of ${(total / MIB).toFixed(0)} MiB available; everything waited for memory ${stalled} % of the last minute`;
  const fix = 'fewer steps at once (worker.oci.max-parallelism), fewer jobs inside them (make -j), or more memory';
  const rest = { cause: 'memory-or-cpu', fix } as const;
  if (available / total < 0.03 || stalled > 25)
    return error(id, 'The machine is out of memory; steps are killed or crawl.', seen, rest);
  if (available / total < 0.1 || stalled > 5) return warning(id, 'Memory is short.', seen, rest);
  return ok(id, 'There is memory to spare.', seen, { cause: 'memory-or-cpu' });
}

function processorOf({ host: { proc } }: DoctorFacts): Finding {
  const id = 'host.processor';
  const cores = availableParallelism();
  const [, load = 0] = (text(proc, 'loadavg') ?? '').split(' ').map(Number); // of five minutes: a burst is no finding
  const seen = `load ${load} over five minutes on ${cores} cores`;
  if (load > cores * 4)
    return warning(id, 'The processor is overloaded: steps and progress crawl.', seen, {
      cause: 'memory-or-cpu',
      fix: 'fewer steps at once (worker.oci.max-parallelism), or more cores; see what else runs here',
    });
  return ok(id, 'The processor keeps up.', seen, { cause: 'memory-or-cpu' });
}

/** A real mount in a name space of its own, below the state folder; leaves nothing behind. */
export async function checkOverlay(facts: DoctorFacts): Promise<Finding[]> {
  return [await overlayOf(facts)];
}

async function overlayOf({ root, uid, settings }: DoctorFacts): Promise<Finding> {
  const id = 'host.overlay';
  if (settings?.snapshotter === 'native') return ok(id, 'Overlay mounts are not used.', 'worker.oci.snapshotter is native');
  let base = root;
  while (!can(base, constants.W_OK | constants.X_OK)) {
    if (base === dirname(base)) return info(id, 'Whether overlay mounts work was not tried.', `${root} cannot be written`);
    base = dirname(base);
  }
  const dir = mkdtempSync(join(base, '.doctor-'));
  try {
    // The kernel leaves a folder that only root of that name space may enter, so the name space removes it.
    const script = [
      'cd "$0" && mkdir lower upper work merged',
      'mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && touch merged/x && test -e upper/x',
      'status=$?',
      'umount merged 2>/dev/null',
      'cd / && rm -rf "$0"',
      'exit $status',
    ].join('\n');
    const { status, output } = await run('unshare', [
      ...(uid === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']),
      'sh',
      '-c',
      script,
      dir,
    ]);
    if (status === 0) return ok(id, 'Overlay mounts work in the state folder.', base);
    return warning(
      id,
      'Overlay mounts do not work here: every snapshot is a whole copy, slow and large.',
      `in ${base}: ${output.trim().split('\n').at(-1) ?? `exit ${status}`}`,
      {
        fix: 'load the module (modprobe overlay), and put the state folder on ext4, xfs, btrfs or tmpfs',
      },
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

export async function checkRuntime(facts: DoctorFacts): Promise<Finding[]> {
  return [await runtimeOf(facts)];
}

async function runtimeOf({ settings }: DoctorFacts): Promise<Finding> {
  const id = 'host.runtime';
  const choice = settings?.runtime ?? 'auto';
  const names = choice === 'auto' ? ['crun', 'runc'] : [choice];
  const seen: string[] = [];
  for (const name of names) {
    const path = name.startsWith('/') ? name : SEARCH.map((dir) => join(dir, name)).find((file) => can(file, constants.X_OK));
    if (path === undefined || !can(path, constants.X_OK)) {
      seen.push(`${name} is not installed`);
      continue;
    }
    const { status, output } = await run(path, ['--version']);
    if (status === 0) return ok(id, 'There is an OCI runtime for RUN steps.', `${path}: ${output.split('\n')[0]}`);
    seen.push(`${path} --version: exit ${status}`);
  }
  return error(id, 'There is no OCI runtime that works: RUN steps cannot run.', seen.join('; '), {
    fix:
      choice === 'auto' ? 'apt-get install runc' : `install ${choice}, or set worker.oci.binary to runc, crun or the path of one`,
  });
}

/** Runs a program for at most five seconds; a missing one is status 127. */
function run(program: string, args: readonly string[]): Promise<{ readonly status: number; readonly output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 5_000 });
    let output = '';
    const take = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-4096);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', (thrown) => resolve({ status: 127, output: thrown.message }));
    child.on('close', (status) => resolve({ status: status ?? 124, output }));
  });
}
