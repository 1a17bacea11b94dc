/** What one conversion works on; a multi-platform build makes one per platform. */
import type { Platform } from '../../llb/platform.ts';
import type { SourceMap } from '../../llb/state.ts';
import type { BuildContext } from './build-context.ts';
import type { LintWarning } from './lint.ts';
import type { ContextEnvironment } from './named-context.ts';

export interface ConvertRequest extends ContextEnvironment {
  readonly sourceMap: SourceMap;
  readonly context: BuildContext;
  /** Undefined when the request names no platform. */
  readonly targetPlatform: Platform | undefined;
  readonly warn: (warning: LintWarning) => void;
  /** Carries out every stage, not only those the target needs: for checking. */
  readonly allStages?: boolean;
}
