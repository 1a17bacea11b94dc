/** What clients started from this shell would do: which builder they choose, and whether they could reach this daemon. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addressText } from './daemon.ts';
import type { DoctorFacts } from './facts.ts';
import { error, type Finding, info, ok, warning } from './finding.ts';

const cause = 'builder-variable';

export function checkClient(facts: DoctorFacts): Finding[] {
  return [dockerBuildkit(facts), ...hosts(facts), ...sockets(facts), ...buildx(facts)];
}

/** `docker build` reads it as a boolean: 0 goes back to the old builder, a word stops it. */
function dockerBuildkit({ env }: DoctorFacts): Finding {
  const id = 'client.docker-buildkit';
  const value = env.DOCKER_BUILDKIT;
  const fix = 'unset DOCKER_BUILDKIT here and where the pipeline sets it; the default is BuildKit';
  if (value === undefined || value === '')
    return ok(id, 'DOCKER_BUILDKIT is not set: docker uses BuildKit.', 'not in the environment', { cause });
  if (/^(1|t|true)$/i.test(value)) return ok(id, 'DOCKER_BUILDKIT asks for BuildKit.', `DOCKER_BUILDKIT=${value}`, { cause });
  if (/^(0|f|false)$/i.test(value))
    return error(
      id,
      'DOCKER_BUILDKIT switches BuildKit off: docker build uses the old builder and never reaches this daemon.',
      `DOCKER_BUILDKIT=${value}`,
      { cause, fix },
    );
  return error(
    id,
    'DOCKER_BUILDKIT is neither true nor false; docker build refuses it.',
    `DOCKER_BUILDKIT=${value.slice(0, 40)}`,
    { cause, fix },
  );
}

function hosts({ env, settings }: DoctorFacts): Finding[] {
  const id = 'client.host';
  const named = (['COOPER_HOST', 'BUILDKIT_HOST'] as const).flatMap((name) => (env[name] ? [{ name, value: env[name] }] : []));
  if (named.length === 0)
    return [ok(id, 'Clients use the default address.', 'neither COOPER_HOST nor BUILDKIT_HOST is set', { cause })];
  const bad = named.find(
    ({ value }) =>
      !/^(unix:\/\/\/|tcp:\/\/.+:\d+$|ssh:\/\/|docker-container:\/\/|kube-pod:\/\/|podman-container:\/\/|nerdctl-container:\/\/)/.test(
        value,
      ),
  );
  if (bad !== undefined)
    return [
      error(id, `${bad.name} is not an address.`, `${bad.name}=${bad.value}`, { cause, fix: 'unix:///path or tcp://host:port' }),
    ];
  if (new Set(named.map(({ value }) => value)).size > 1)
    return [
      warning(
        id,
        'cooper and buildctl talk to different daemons.',
        named.map(({ name, value }) => `${name}=${value}`).join(', '),
        { cause, fix: 'give both the same value, or unset one' },
      ),
    ];
  const ours = (settings?.addresses ?? []).map(addressText);
  const [{ name, value } = { name: '', value: '' }] = named;
  if (ours.length > 0 && value.startsWith('unix://') && !ours.includes(value))
    return [
      warning(
        id,
        'Clients of this shell talk to another daemon than the one examined.',
        `${name}=${value}; this one listens on ${ours.join(', ')}`,
        {
          cause,
          fix: `export ${name}=${ours[0]}`,
        },
      ),
    ];
  return [ok(id, 'Clients of this shell find the daemon.', `${name}=${value}`, { cause })];
}

function sockets({ settings, daemonPid, uid }: DoctorFacts): Finding[] {
  if (daemonPid === undefined) return [];
  return (settings?.addresses ?? []).flatMap((address): Finding[] => {
    if (address.type !== 'unix') return [];
    const id = 'client.socket';
    if (!existsSync(address.path))
      return [
        error(id, 'The socket is gone although the daemon runs.', address.path, {
          cause: 'daemon-trouble',
          fix: 'something removed it: restart the daemon',
        }),
      ];
    try {
      accessSync(address.path, constants.R_OK | constants.W_OK);
      return [ok(id, 'This user may connect to the socket.', address.path)];
    } catch {
      return [
        error(id, 'This user may not connect to the socket.', `${address.path}, user ${uid}`, {
          fix: 'set grpc.gid to a group of the users, restart the daemon',
        }),
      ];
    }
  });
}

function buildx({ env, home }: DoctorFacts): Finding[] {
  const id = 'client.buildx';
  const named = env.BUILDX_BUILDER;
  const dir = env.BUILDX_CONFIG ?? join(env.DOCKER_CONFIG ?? join(home, '.docker'), 'buildx');
  const file = join(dir, 'instances', named ?? '');
  if (named !== undefined && named !== '' && named !== 'default' && !existsSync(file))
    return [
      error(id, 'BUILDX_BUILDER names a builder that does not exist.', `BUILDX_BUILDER=${named}; no ${file}`, {
        cause,
        fix: `docker buildx create --name ${named} --driver remote ADDRESS, or unset BUILDX_BUILDER`,
      }),
    ];
  const current = named ?? currentBuilder(join(dir, 'current'));
  if (current === undefined) return [];
  return [info(id, 'docker buildx has a builder of its own choice.', `${current} (docker buildx ls)`, { cause })];
}

function currentBuilder(file: string): string | undefined {
  try {
    const { Name: name } = JSON.parse(readFileSync(file, 'utf8')) as { Name?: string };
    return name === '' ? undefined : name;
  } catch {
    return undefined; // not written until somebody chooses
  }
}
