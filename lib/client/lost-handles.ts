/**
 * What happens to a handle whose owner the garbage collector took without a close: it is closed then, and
 * reported, once. FinalizationRegistry calls back from the event loop, not from inside the collector; ends of
 * process and of worker threads are the addon's own business.
 *
 * @internal
 */
interface Handle {
  readonly what: () => string;
  readonly close: () => boolean;
}

const registry = new FinalizationRegistry<Handle>(({ what, close }) => {
  if (!close()) return; // it went with its context
  process.emitWarning(`${what()} was closed by the garbage collector; close it when it is no longer needed`, {
    type: 'ResourceWarning',
    code: 'TEE_HANDLE_NOT_CLOSED',
  });
});

const owners = new WeakMap<ArrayBuffer, object>();

/** Keeps an owner as long as somebody uses the memory that closing it would take away. */
export function keepWhile(buffer: ArrayBuffer, owner: object): void {
  owners.set(buffer, owner);
}

/**
 * @param owner the object that wraps the handle
 * @param what it is, for the warning: "A Session with TA 8aaaf200-…"
 * @param close closes the handle and says if it was still open, which it is not if its owner closed it. Neither
 *   function may hold the owner, or it would live for ever
 */
export function watch(owner: object, what: () => string, close: () => boolean): void {
  registry.register(owner, { what, close });
}
