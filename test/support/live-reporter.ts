/** Tells of each test when it has ended: Jest's own reporter waits for the end of the file. */
export default class LiveReporter {
  onTestCaseResult(_: unknown, { status, fullName }: { status: string; fullName: string }): void {
    process.stderr.write(`${status}: ${fullName}\n`);
  }
}
