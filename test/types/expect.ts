/** For type tests: what does not hold does not compile. */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** `expectType<A>().of(b)`: b is of type A, not merely assignable to it. */
export function expectType<A>(): {
  of<B>(value: B, ...mismatch: Equal<A, B> extends true ? [] : [{ expected: A; actual: B }]): void;
} {
  return { of: () => undefined };
}

/** `expectAssignable<A>(b)`: b can be used as an A. */
export function expectAssignable<A>(value: A): void {
  void value;
}
