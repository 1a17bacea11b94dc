/** The process that key-index.test.ts kills: stores a chain of keys for ever and prints how far it is committed. */
import { cacheDigestOf } from '../../core/digest.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { openKeyIndex } from './key-index.ts';

const metadata = await openMetadata(process.argv[2] ?? '');
const index = await openKeyIndex(metadata);
for (let n = Number(process.argv[3] ?? 0) + 1; ; n += 1) {
  index.addLink(`key ${n - 1}`, { digest: cacheDigestOf(`op ${n}`), input: 0, output: 0 }, `key ${n}`);
  index.addResult(`key ${n}`, { id: `result ${n}`, createdAtNs: BigInt(n) });
  if (n % 5 !== 0) continue;
  await metadata.flush();
  process.stdout.write(`${n}\n`);
}
