/** Waits before another attempt, told in the log of the step that waits. */
import type { BuildError } from '../../core/errors.ts';
import type { StepProgress } from '../solver/ports.ts';

export const retryLog =
  (progress: StepProgress) =>
  (error: BuildError, delayMs: number): void =>
    progress.log(2, new TextEncoder().encode(`error: ${error.message}\nretrying in ${(delayMs / 1000).toFixed(1)}s\n`));
