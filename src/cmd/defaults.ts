/** Where things live when nothing says otherwise: the system's places for root, the user's own for everyone else (XDG base directories). */
import { homedir } from 'node:os';
import { join } from 'node:path';

export interface Defaults {
  readonly root: string;
  /** `unix://` address of the build API. */
  readonly address: string;
  readonly opsAddress: string;
}

export function defaultsFor(uid: number, env: NodeJS.ProcessEnv): Defaults {
  if (uid === 0)
    return {
      root: env.COOPER_ROOT || '/var/lib/cooper',
      address: 'unix:///run/cooper/cooperd.sock',
      opsAddress: '127.0.0.1:8470',
    };
  const data = env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share');
  const runtime = join(env.XDG_RUNTIME_DIR ?? data, 'cooper');
  return {
    root: env.COOPER_ROOT || join(data, 'cooper'),
    address: `unix://${join(runtime, 'cooperd.sock')}`,
    opsAddress: '127.0.0.1:8470',
  };
}
