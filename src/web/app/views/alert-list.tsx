import type { Alert } from '../../api/model.ts';
import { href } from '../route.ts';
import { State, Time } from '../ui.tsx';

/** What fires, worst first, each with its runbook. */
export function AlertList({ alerts }: { readonly alerts: readonly Alert[] }) {
  return (
    <ul class="alerts">
      {alerts.map((alert) => (
        <li key={`${alert.name} ${alert.slo ?? ''} ${alert.summary}`}>
          <State state={alert.severity} />
          <div>
            <p>
              <b>{alert.summary}</b>
            </p>
            <p class="note">
              {alert.detail} Firing since <Time at={alert.since} />.
            </p>
          </div>
          {alert.runbook ? <a href={href(['runbooks', alert.name])}>{alert.name}</a> : <span>{alert.name}</span>}
        </li>
      ))}
    </ul>
  );
}
