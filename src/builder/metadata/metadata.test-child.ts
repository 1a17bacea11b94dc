/** The process that metadata.test.ts kills: writes rows for ever and prints the number of each row that is committed. */
import { openMetadata } from './metadata.ts';

const store = await openMetadata(process.argv[2] ?? '');
await store.define(['create table if not exists numbers (n integer primary key, text text not null)']);
for (let n = 1; ; n += 1) {
  store.write('insert into numbers (n, text) values (?, ?)', [n, `number ${n}`]);
  if (n % 7 !== 0) continue;
  await store.flush();
  process.stdout.write(`${n}\n`);
}
