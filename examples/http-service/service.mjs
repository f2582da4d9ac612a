// The service: POST /?rounds=1000 answers the stretched hash of what was posted.
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { TeeContext } from 'node-optee';
import { HttpService } from './http_service.ta.mjs';

const GRACE = 1000; // milliseconds that calls get to end, when the service is to stop

const tee = TeeContext.open();
// OP-TEE takes a cancel only on a free thread. On a board with two threads (CFG_NUM_THREADS), max would be 1.
const pool = HttpService.pool(tee, { max: 2, replaceAfterCancel: true });
const stopping = new AbortController();

async function answer(request, response) {
  const closed = new AbortController();
  response.once('close', () => closed.abort());
  const signal = AbortSignal.any([closed.signal, stopping.signal]);
  const { searchParams } = new URL(request.url, 'http://localhost');
  const data = await buffer(request); // (A service for everybody would not read without a limit.)
  const call = pool.stretch({ rounds: Number(searchParams.get('rounds')), data }, { signal });
  console.log('begins:', request.url);
  const { hash } = await call;
  return Buffer.from(hash).toString('hex');
}

function statusOf(error) {
  if (error.name === 'AbortError') return 503;
  // What the description does not allow is refused before anything is sent.
  return /^(ERR_INVALID_ARG|ERR_OUT_OF_RANGE|TEE_ERROR_BAD_PARAMETERS)/.test(error.code) ? 400 : 500;
}

const server = createServer((request, response) => {
  answer(request, response)
    .then(
      (hash) => [200, hash],
      (error) => {
        console.log('failed:', error.code, 'of the TA:', error.teeError?.code);
        return [statusOf(error), ''];
      },
    )
    .then(([status, body]) => {
      // Who keeps a connection would keep the service.
      if (!server.listening) response.setHeader('connection', 'close');
      response.writeHead(status).end(body); // to nobody, where the connection was closed
    });
});

server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));

process.once('SIGTERM', async () => {
  const timer = setTimeout(() => stopping.abort(), GRACE);
  await new Promise((resolve) => server.close(resolve)); // when the last answer is sent
  clearTimeout(timer);
  await pool.close();
  await tee.close();
  console.log('stopped'); // nothing is left that keeps the process
});
