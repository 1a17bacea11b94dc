/** Calls to the ops API of the port this page came from, and feeds that follow it. */
import { useEffect, useRef, useState } from 'preact/hooks';

const BASE = '/api/v1';
const TOKEN = 'cooper-token';

export class ApiError extends Error {
  readonly status: number;
  readonly hint: string | undefined;
  constructor(status: number, message: string, hint?: string) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

async function answerOf<T>(response: Response): Promise<T> {
  if (response.ok) return (await response.json()) as T;
  const document = (await response.json().catch(() => undefined)) as
    | { readonly error?: { readonly message?: string; readonly hint?: string } }
    | undefined;
  throw new ApiError(
    response.status,
    document?.error?.message ?? `the daemon answered ${response.status}`,
    document?.error?.hint,
  );
}

export const get = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  answerOf<T>(await fetch(BASE + path, signal === undefined ? {} : { signal }));

/** For this tab only; gone when it closes. */
export const token = {
  get: (): string => sessionStorage.getItem(TOKEN) ?? '',
  set: (value: string): void => (value === '' ? sessionStorage.removeItem(TOKEN) : sessionStorage.setItem(TOKEN, value)),
};

export const post = async <T>(path: string, body: object): Promise<T> =>
  answerOf<T>(
    await fetch(BASE + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token.get()}` },
      body: JSON.stringify(body),
    }),
  );

export type Loaded<T> =
  | { readonly state: 'loading' }
  | { readonly state: 'ready'; readonly value: T }
  | { readonly state: 'failed'; readonly error: ApiError };

/** The document at a path; again when the path changes or `again` does. While it reloads the old one stays. */
export function useGet<T>(path: string | undefined, again: unknown = undefined): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>({ state: 'loading' });
  useEffect(() => {
    if (path === undefined) return;
    const gone = new AbortController();
    get<T>(path, gone.signal).then(
      (value) => setLoaded({ state: 'ready', value }),
      (error: unknown) => {
        if (gone.signal.aborted) return;
        setLoaded({ state: 'failed', error: error instanceof ApiError ? error : new ApiError(0, 'the daemon does not answer') });
      },
    );
    return () => gone.abort();
  }, [path, again]);
  return loaded;
}

export interface Feed {
  readonly values: ReadonlyMap<string, unknown>;
  readonly state: 'connecting' | 'live' | 'lost' | 'ended';
}
interface Change {
  readonly set: Readonly<Record<string, unknown>>;
  readonly gone: readonly string[];
}

/** Follows a document of the API. The browser connects again by itself; until then the last state stays, marked as lost. */
export function useFeed(path: string): Feed {
  const [feed, setFeed] = useState<Feed>({ values: new Map(), state: 'connecting' });
  useEffect(() => {
    setFeed({ values: new Map(), state: 'connecting' });
    const source = new EventSource(BASE + path);
    const changeOf = (event: Event): Change => JSON.parse((event as MessageEvent<string>).data) as Change;
    source.addEventListener('all', (event) => setFeed({ values: new Map(Object.entries(changeOf(event).set)), state: 'live' }));
    source.addEventListener('change', (event) => {
      const { set, gone } = changeOf(event);
      setFeed(({ values }) => {
        const next = new Map([...values, ...Object.entries(set)]);
        for (const key of gone) next.delete(key);
        return { values: next, state: 'live' };
      });
    });
    source.addEventListener('end', () => {
      source.close();
      setFeed(({ values }) => ({ values, state: 'ended' }));
    });
    source.onerror = () => setFeed(({ values, state }) => (state === 'ended' ? { values, state } : { values, state: 'lost' }));
    return () => source.close();
  }, [path]);
  return feed;
}

export interface LogFeed<T> {
  readonly lines: readonly T[];
  readonly dropped: number;
  readonly ended: boolean;
}

/** Follows lines, the last `max` of them. Lines that come together are one update. */
export function useLines<T>(path: string, max: number): LogFeed<T> {
  const [feed, setFeed] = useState<LogFeed<T>>({ lines: [], dropped: 0, ended: false });
  const path0 = useRef(path);
  useEffect(() => {
    path0.current = path;
    setFeed({ lines: [], dropped: 0, ended: false });
    const source = new EventSource(BASE + path);
    source.addEventListener('lines', (event) => {
      const more = JSON.parse((event as MessageEvent<string>).data) as T[];
      setFeed(({ lines, dropped, ended }) => {
        const all = [...lines, ...more];
        const over = Math.max(0, all.length - max);
        return { lines: over > 0 ? all.slice(over) : all, dropped: dropped + over, ended };
      });
    });
    const end = (): void => {
      source.close(); // a new connection would send everything again
      setFeed((feed) => ({ ...feed, ended: true }));
    };
    source.addEventListener('end', end);
    source.onerror = end;
    return () => source.close();
  }, [path, max]);
  return feed;
}
