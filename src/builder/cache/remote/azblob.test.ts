import { startAzure } from '../../../../test/fixtures/cache-servers.ts';
import { missingTool } from '../../../../test/fixtures/registry.ts';
import { AZBLOB_BACKEND } from './azblob.ts';
import { storeContract } from './store-contract.test-suite.ts';

const skip = missingTool('azurite-blob');

storeContract(AZBLOB_BACKEND, {
  skip,
  bigBytes: 33 * 1024 * 1024,
  async start() {
    const server = await startAzure();
    const secret = Buffer.from('not-the-right-key').toString('base64');
    return { ...server, refused: { ...server.attributes, secret_access_key: secret }, secrets: [secret] };
  },
});
