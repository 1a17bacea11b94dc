/** Progress lines of exporters. */
import type { StepProgress } from '../solver/ports.ts';

/** A line that is there while `work` runs. A failure leaves it open: the step's error closes it. */
export async function oneOff<T>(progress: StepProgress, id: string, work: () => Promise<T>): Promise<T> {
  const line = progress.status(id);
  const value = await work();
  line.done();
  return value;
}

/** A line that counts bytes while `work` runs. */
export async function counted<T>(
  progress: StepProgress,
  id: string,
  work: (onProgress: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  const line = progress.status(id, { name: 'transferring' });
  let current = 0;
  const value = await work((bytes) => {
    current += bytes;
    line.update(current);
  });
  line.done();
  return value;
}
