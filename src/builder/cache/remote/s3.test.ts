import { startS3 } from '../../../../test/fixtures/cache-servers.ts';
import { missingTool } from '../../../../test/fixtures/registry.ts';
import { S3_BACKEND } from './s3.ts';
import { storeContract } from './store-contract.test-suite.ts';

const skip = missingTool('versitygw');

storeContract(S3_BACKEND, {
  skip,
  bigBytes: 65 * 1024 * 1024,
  async start() {
    const server = await startS3();
    const refused = { ...server.attributes, secret_access_key: 'not-the-right-secret' };
    return { ...server, refused, secrets: ['not-the-right-secret'] };
  },
});
