/** All builds that are kept, filtered by words and state, a page at a time. */
import { useEffect, useState } from 'preact/hooks';
import type { BuildSummary } from '../../api/model.ts';
import { useGet } from '../api.ts';
import { href, type Place, replace } from '../route.ts';
import { Await, Heading } from '../ui.tsx';
import { BuildTable } from './build-table.tsx';

const PAGE = 50;
const STATES = ['queued', 'running', 'success', 'failure', 'error', 'timeout', 'cancellation'];
const REFRESH_MS = 5_000;

export function Builds({ place }: { readonly place: Place }) {
  const [text, state, after] = ['text', 'state', 'after'].map((key) => place.query.get(key) ?? '');
  const [tick, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTick((now) => now + 1), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  const query = new URLSearchParams(
    Object.entries({ text, state, after }).filter((entry): entry is [string, string] => !!entry[1]),
  );
  query.set('limit', String(PAGE));
  const loaded = useGet<{ readonly builds: readonly BuildSummary[] }>(`/builds?${query}`, tick);
  const choose = (change: { readonly text?: string; readonly state?: string }): void =>
    replace(href(['builds'], { text, state, ...change }));
  return (
    <>
      <Heading>Builds</Heading>
      {/* biome-ignore lint/a11y/useSemanticElements: <search> is not in every browser this page should work in */}
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <label>
          Search
          <input
            type="search"
            value={text}
            placeholder="name, ref, repository, error"
            onInput={(event) => choose({ text: event.currentTarget.value })}
          />
        </label>
        <label>
          State
          <select value={state} onChange={(event) => choose({ state: event.currentTarget.value })}>
            <option value="">any</option>
            {STATES.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </form>
      <Await of={loaded}>
        {({ builds }) => (
          <>
            <section class="panel" aria-label="Builds">
              <BuildTable builds={builds} caption="Builds, newest first" none="No build matches." />
            </section>
            <p class="pages">
              {after !== '' && <a href={href(['builds'], { text, state })}>Newest</a>}
              {builds.length === PAGE && <a href={href(['builds'], { text, state, after: builds.at(-1)?.ref })}>Older</a>}
            </p>
          </>
        )}
      </Await>
    </>
  );
}
