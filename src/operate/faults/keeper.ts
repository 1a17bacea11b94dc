/**
 * The process that holds one fault: `node keeper.ts '{"fault":…,"parameters":…,"ttlMs":…}'`. Every line on stdin renews the lease; the line
 * `heal`, the end of stdin, a signal, or a lease that ran out heals it. So a fault never outlives its runner by more than the lease,
 * however the runner ends. What happens is told on stdout, one JSON object a line.
 */
import { createInterface } from 'node:readline';
import { type InjectedFault, inject } from './inject.ts';

const order = JSON.parse(process.argv[2] ?? '{}') as {
  fault: string;
  parameters: Record<string, string | number>;
  ttlMs: number;
};
const say = (fact: object): void => {
  process.stdout.write(`${JSON.stringify(fact)}\n`);
};
process.stdout.on('error', () => undefined); // the runner is gone; the fault must still be healed

let fault: InjectedFault | undefined;
let lease: NodeJS.Timeout | undefined;
let ending = false;

async function heal(because: string): Promise<void> {
  if (ending || fault === undefined) return;
  ending = true;
  clearTimeout(lease);
  for (let attempt = 1; ; attempt++) {
    try {
      await fault.heal();
      say({ state: 'healed', because });
      process.exit(0);
    } catch (error) {
      if (attempt === 5) {
        say({ state: 'not-healed', message: (error as Error).message });
        process.exit(1);
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

function renew(): void {
  if (ending) return;
  clearTimeout(lease);
  lease = setTimeout(() => void heal('the lease ran out'), order.ttlMs);
  void fault?.renew(order.ttlMs * 2); // the proxy's own lease is the last resort
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void heal(`signal ${signal}`));
try {
  fault = await inject(order);
  say({ state: 'injected', atMs: Date.now() });
  renew();
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => (line === 'heal' ? void heal('asked to') : renew()));
  lines.on('close', () => void heal('the runner is gone'));
} catch (error) {
  say({ state: 'failed', message: (error as Error).message });
  process.exit(1);
}
