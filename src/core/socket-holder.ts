/** Which process listens on a socket, for messages that say who is in the way. Best effort: reads /proc, answers undefined elsewhere. */
import { readdir, readFile, readlink } from 'node:fs/promises';

/** `process 4711 (cooperd --config ...)`, for a unix socket path. */
export async function holderOfUnixSocket(path: string): Promise<string | undefined> {
  // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 marks a socket that listens
  for (const line of await linesOf('/proc/net/unix')) {
    const [, , , flags, , , inode, ...name] = line.trim().split(/\s+/);
    if (flags === '00010000' && inode !== undefined && name.join(' ') === path) return await ownerOf(inode);
  }
  return undefined;
}

/** The same for a TCP port, on any local address. */
export async function holderOfTcpPort(port: number): Promise<string | undefined> {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of await linesOf(table)) {
      // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode; state 0A is LISTEN
      const [, address, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === '0A' && address?.endsWith(local) === true && inode !== undefined) return await ownerOf(inode);
    }
  }
  return undefined;
}

async function ownerOf(inode: string): Promise<string | undefined> {
  const wanted = `socket:[${inode}]`;
  for (const pid of await entriesOf('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of await entriesOf(`/proc/${pid}/fd`)) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== wanted) continue;
      const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0').filter(Boolean).join(' ');
      return command === '' ? `process ${pid}` : `process ${pid} (${command.slice(0, 200)})`;
    }
  }
  return undefined;
}

async function linesOf(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8').catch(() => '')).split('\n').slice(1);
}
async function entriesOf(dir: string): Promise<string[]> {
  return await readdir(dir).catch(() => []);
}
