/** The fault matrix of remote caches (test/fixtures/cache-faults.ts) against a double of the service of GitHub Actions. */
import { faultMatrix } from '../fixtures/cache-fault-matrix.ts';

faultMatrix('gha');
