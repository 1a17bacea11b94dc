/** What builds over HTTP may use; settings `cooper.submit.*`. */
export interface SubmitLimits {
  /** Submitted builds at once, uploads included. */
  readonly maxBuilds: number;
  /** New builds a minute, per token. */
  readonly perMinute: number;
  /** Of an upload as it is sent, and again of its files unpacked. */
  readonly maxContextBytes: number;
}
