/** The fault matrix of remote caches (test/fixtures/cache-faults.ts) against a real registry. */
import { faultMatrix } from '../fixtures/cache-fault-matrix.ts';

faultMatrix('registry');
