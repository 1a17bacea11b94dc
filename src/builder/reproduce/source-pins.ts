/** What the sources of one build were found to be: commits, manifest digests, digests of files; with names for people. */
import type { VertexDigest } from '../../core/digest.ts';
import type { BuildEvent, EventSink } from '../events.ts';

export class SourcePins implements EventSink {
  readonly #names = new Map<VertexDigest, string>();
  readonly pins = new Map<VertexDigest, string>();

  emit(event: BuildEvent): void {
    if (event.type === 'steps-announced')
      for (const { step, vertex, name, op } of event.steps) if (op === 'source') this.#names.set(vertex ?? step, name);
    if (event.type === 'step-finished' && event.pin !== undefined) this.pins.set(event.step, event.pin);
  }

  get vertices(): Iterable<VertexDigest> {
    return this.#names.keys();
  }

  nameOf(step: VertexDigest): string {
    return this.#names.get(step) ?? step;
  }
}
