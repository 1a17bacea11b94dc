/** What fires and, below it, the runbook to follow. */
import { useEffect } from 'preact/hooks';
import type { Alert, Runbook } from '../../api/model.ts';
import { type Feed, useGet } from '../api.ts';
import { Await, Heading, Panel } from '../ui.tsx';
import { AlertList } from './alert-list.tsx';

export function Alerts({ feed, runbook }: { readonly feed: Feed; readonly runbook: string | undefined }) {
  const alerts = (feed.values.get('alerts') as readonly Alert[] | undefined) ?? [];
  const shown = runbook ?? alerts.find((alert) => alert.runbook)?.name;
  return (
    <>
      <Heading>Alerts</Heading>
      <Panel title="Firing now" id="firing" aside={<span>judged by the daemon itself; rules over history are Prometheus's</span>}>
        {alerts.length === 0 ? <p class="none">Nothing fires.</p> : <AlertList alerts={alerts} />}
      </Panel>
      {shown !== undefined && <RunbookPanel key={shown} name={shown} asked={runbook !== undefined} />}
    </>
  );
}

function RunbookPanel({ name, asked }: { readonly name: string; readonly asked: boolean }) {
  const loaded = useGet<Runbook>(`/runbooks/${encodeURIComponent(name)}`);
  const isReady = loaded.state === 'ready';
  useEffect(() => {
    if (isReady && asked) document.getElementById('runbook')?.scrollIntoView({ block: 'start' });
  }, [isReady, asked]);
  return (
    <Panel title={`Runbook: ${name}`} id="runbook">
      <Await of={loaded}>
        {({ facts, html }) => (
          <>
            <dl class="facts">
              {Object.entries(facts)
                .filter(([key, value]) => key !== 'alert' && value !== '' && value !== '-')
                .map(([key, value]) => (
                  <div key={key}>
                    <dt>{key.replaceAll('_', ' ')}</dt>
                    <dd>{value}</dd>
                  </div>
                ))}
            </dl>
            <article class="runbook" dangerouslySetInnerHTML={{ __html: html.replace(/^<h1>[^<]*<\/h1>\s*/, '') }} />
          </>
        )}
      </Await>
    </Panel>
  );
}
