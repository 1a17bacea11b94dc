/** Bounds that hold everywhere. A limit that an operator may move lives in the settings table (cmd/settings.ts) and is handed in. */

/** gRPC message size in both directions; what the upstream daemon and its clients allow. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Largest secret value accepted from a session. */
export const MAX_SECRET_BYTES = 500 * 1024;
/** Largest Dockerfile the frontend reads. */
export const MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024;
/** Largest image manifest, index or config read from a registry. */
export const MAX_MANIFEST_BYTES = 8 * 1024 * 1024;
/** Vertices in one definition. */
export const MAX_VERTICES = 100_000;
