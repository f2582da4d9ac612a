// Without promises, for programs that have nothing else to do meanwhile.
import { TeeContext, value } from 'node-optee';

const TA = '346e01a1-3d71-4feb-894b-ae252d064bde';
const VALUES = 1;

const tee = TeeContext.open();
try {
  const session = tee.openSessionSync(TA);
  const [, sum] = session.invokeSync(VALUES, [value.in(40, 1), value.out()]);
  console.log(sum.a, sum.b);
} finally {
  await tee.close();
}
