/** The page at /: the frame around the views, and which view the address names. */
import { render } from 'preact';
import { type Feed, useFeed } from './api.ts';
import { plural } from './format.ts';
import { lazy } from './lazy.tsx';
import { href, type Place, usePlace } from './route.ts';
import './style.css';
import type { Alert, Status } from '../api/model.ts';
import { applyTheme, ThemeChoice } from './theme.tsx';
import { Mark, State } from './ui.tsx';
import { Overview } from './views/overview.tsx';

const Builds = lazy(() => import('./views/builds.tsx').then(({ Builds }) => Builds));
const Build = lazy(() => import('./views/build.tsx').then(({ Build }) => Build));
const Compare = lazy(() => import('./views/compare.tsx').then(({ Compare }) => Compare));
const Steps = lazy(() => import('./views/steps.tsx').then(({ Steps }) => Steps));
const Cache = lazy(() => import('./views/cache.tsx').then(({ Cache }) => Cache));
const Objective = lazy(() => import('./views/objective.tsx').then(({ Objective }) => Objective));
const Alerts = lazy(() => import('./views/alerts.tsx').then(({ Alerts }) => Alerts));

const VIEWS = [
  ['Overview', []],
  ['Builds', ['builds']],
  ['Steps', ['steps']],
  ['Cache', ['cache']],
  ['Alerts', ['alerts']],
] as const;

function View({ place, feed }: { readonly place: Place; readonly feed: Feed }) {
  const [view, name, other] = place.parts;
  const status = feed.values.get('status') as Status | undefined;
  switch (view) {
    case undefined:
      return <Overview feed={feed} />;
    case 'builds':
      return name === undefined ? (
        <Builds place={place} />
      ) : (
        <Build key={name} reference={name} place={place} writable={status?.writable === true} />
      );
    case 'compare':
      return <Compare a={name} b={other} />;
    case 'steps':
      return <Steps place={place} />;
    case 'cache':
      return <Cache writable={status?.writable === true} />;
    case 'slo':
      return <Objective name={name ?? ''} feed={feed} />;
    case 'alerts':
    case 'runbooks':
      return <Alerts feed={feed} runbook={view === 'runbooks' ? name : undefined} />;
    default:
      return (
        <p class="none">
          There is no view of that name. <a href="#/">Overview</a>
        </p>
      );
  }
}

function Frame() {
  const place = usePlace();
  const feed = useFeed('/live');
  const status = feed.values.get('status') as Status | undefined;
  const alerts = (feed.values.get('alerts') as readonly Alert[] | undefined) ?? [];
  const here = place.parts[0] ?? '';
  const sections: Readonly<Record<string, string>> = { compare: 'builds', slo: '', runbooks: 'alerts' };
  const section = sections[here] ?? here;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.querySelector<HTMLElement>('main h1')?.focus()}>
        Skip to content
      </button>
      <header>
        <a class="brand" href="#/">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <path class="staves" d="M9 3h14q5 13 0 26H9Q4 16 9 3Z" />
            <path class="hoops" d="M7.600 9.500h16.800M6.600 16h18.800M7.600 22.500h16.800" />
          </svg>
          Cooper
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([title, parts]) => (
            <a key={title} href={href(parts)} aria-current={(parts[0] ?? '') === section ? 'page' : undefined}>
              {title}
              {title === 'Alerts' && alerts.length > 0 && (
                <span class="count">
                  {alerts.length}
                  <span class="unseen"> firing</span>
                </span>
              )}
            </a>
          ))}
        </nav>
        <div class="side">
          <Connection feed={feed} status={status} />
          <ThemeChoice />
        </div>
      </header>
      <main>
        <View place={place} feed={feed} />
      </main>
      <p class="unseen" role="status">
        {alerts.length > 0 ? `${plural(alerts.length, 'alert')} firing: ${alerts.map(({ name }) => name).join(', ')}` : ''}
      </p>
      <footer>
        <span>Cooper {status?.version ?? ''}</span>
        {status?.addresses.map((address) => (
          <code key={address}>{address}</code>
        ))}
        <a href="/metrics">metrics</a>
        <a href="/slo">objectives as JSON</a>
        <a href="/api/v1/openapi.json">API</a>
      </footer>
    </>
  );
}

function Connection({ feed, status }: { readonly feed: Feed; readonly status: Status | undefined }) {
  if (feed.state === 'lost' || feed.state === 'ended')
    return (
      <span class="state bad" role="status">
        <Mark tone="bad" />
        No answer; trying again
      </span>
    );
  if (status === undefined) return <span class="state quiet">Connecting…</span>;
  const failing = status.checks.filter(({ ok }) => !ok);
  return failing.length === 0 ? (
    <State state="ok" label="Ready" />
  ) : (
    <State state="error" label={`Not ready: ${failing.map(({ name, detail }) => detail ?? `not ${name}`).join(', ')}`} />
  );
}

applyTheme();
const root = document.getElementById('app');
if (root !== null) render(<Frame />, root);
