/** A game as a conversation: nothing is broken, nothing is judged, and nothing of it counts as passed. */
import { sayMs } from '../durations.ts';
import type { Expectation, Game } from './game.ts';
import { sayCondition } from './judges.ts';

export function tabletop(game: Game): string {
  return [
    `${game.name}: ${game.title}`,
    game.hypothesis,
    '',
    `1. It is a normal day: ${game.steadyState.builds} builds or more, ${game.steadyState.success * 100} % of them good. What do you look at to know that?`,
    `2. ${game.inject.fault === 'none' ? 'The load changes' : `"${game.inject.fault}" happens to: ${game.inject.target}`} for up to ${sayMs(game.inject.forMs)}. Who notices first, and from what?`,
    ...game.expect.map((expectation, i) => `${i + 3}. ${sentence(expectation)} What do you do, and what if it is not so?`),
    `${game.expect.length + 3}. It is over. How do you know, what is written down, and what would have made it shorter?`,
    '',
    'Not evaluated: a conversation proves nothing about the system.',
  ].join('\n');
}

function sentence(expectation: Expectation): string {
  switch (expectation.kind) {
    case 'alert':
      return `${expectation.alert} fires within ${sayMs(expectation.withinMs)}${expectation.routedTo === undefined ? '' : ` and reaches ${expectation.routedTo}`}.`;
    case 'no-alert':
      return `${expectation.alert} stays silent.`;
    case 'builds-failed':
      return `Builds fail: ${expectation.atLeast === undefined ? '' : `at least ${expectation.atLeast}`}${expectation.atMost === undefined ? '' : `at most ${expectation.atMost}`}.`;
    case 'fallback':
      return `${expectation.builds} builds succeed in spite of it within ${sayMs(expectation.withinMs)}.`;
    case 'crosses':
    case 'recovers':
      return `${expectation.title}: ${sayCondition(expectation.condition)} within ${sayMs(expectation.withinMs)}.`;
    case 'builds-again':
      return `Builds succeed again within ${sayMs(expectation.withinMs)}.`;
    case 'heartbeat':
      return `The heartbeat to ${expectation.receiver} stops, and somebody outside notices.`;
    case 'runbook-verify':
      return `The runbook of ${expectation.alert} says that it is over.`;
    case 'value-absent':
      return `The value is in none of ${expectation.places.join(', ')}.`;
    case 'mttr':
      return `It is over within ${sayMs(expectation.withinMs)}.`;
    default:
      return expectation satisfies never;
  }
}
