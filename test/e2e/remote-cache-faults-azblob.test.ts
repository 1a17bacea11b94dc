/** The fault matrix of remote caches (test/fixtures/cache-faults.ts) against an Azure server made by others. */
import { faultMatrix } from '../fixtures/cache-fault-matrix.ts';

faultMatrix('azblob');
