/** Image metadata, asked for once per reference and platform however many stages name it. */
import { BuildError } from '../../../core/errors.ts';
import type { Bridge, ImageConfigRequest, ImageConfigResponse } from '../ports.ts';

export class ImageResolver {
  readonly #bridge: Bridge;
  readonly #known = new Map<string, Promise<ImageConfigResponse>>();

  constructor(bridge: Bridge) {
    this.#bridge = bridge;
  }

  resolve(request: ImageConfigRequest): Promise<ImageConfigResponse> {
    const { ref, platform, resolveMode, logName, resolver } = request;
    const parts = [ref, platform?.OS, platform?.Architecture, platform?.Variant, platform?.OSVersion, resolveMode, logName];
    const key = JSON.stringify([...parts, resolver ?? null]);
    const known = this.#known.get(key) ?? this.#ask(request);
    this.#known.set(key, known);
    return known;
  }

  /** The step that asks shows the plain reason; the build's error says what it was wanted for, as clients know it. */
  async #ask(request: ImageConfigRequest): Promise<ImageConfigResponse> {
    try {
      return await this.#bridge.resolveImageConfig(request);
    } catch (error) {
      throw BuildError.from(error).wrap(`failed to resolve source metadata for ${request.ref}`);
    }
  }
}
