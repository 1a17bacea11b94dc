/** Views that are fetched when they are first shown. preact/compat has the same; this is all of it that is needed here. */
import { type FunctionComponent, h } from 'preact';
import { useEffect, useState } from 'preact/hooks';

export function lazy<P extends object>(load: () => Promise<FunctionComponent<P>>): FunctionComponent<P> {
  let loaded: FunctionComponent<P> | undefined;
  return function Lazy(props: P) {
    const [state, setState] = useState<'loading' | 'ready' | 'failed'>(loaded === undefined ? 'loading' : 'ready');
    useEffect(() => {
      if (loaded !== undefined) return;
      load().then(
        (component) => {
          loaded = component;
          setState('ready');
        },
        () => setState('failed'),
      );
    }, []);
    if (state === 'failed')
      return <p class="problem">This view could not be fetched: the daemon may have been replaced. Reload the page.</p>;
    return loaded === undefined ? <p class="none">Loading…</p> : h(loaded, props);
  };
}
