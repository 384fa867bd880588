import { TokenBrokerError } from "./errors.js";

/** setTimeout takes no more: 24 days. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** How long a caller waits: it is released at once when it gives up, and what it waited for goes on. */
export interface Patience {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

/**
 * The result of something, for as long as the caller has patience.
 *
 * Rejects with the signal's reason, or with a TokenBrokerError of DEADLINE_EXCEEDED.
 */
export function released<T>(work: Promise<T>, { signal, timeoutMs }: Patience = {}): Promise<T> {
  if (signal === undefined && timeoutMs === undefined) return work;
  return new Promise((resolve, reject) => {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the caller's own reason, whatever it is
    const leave = () => reject(signal?.reason);
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => reject(outOfTime()), Math.min(timeoutMs, LONGEST_TIMER_MS));
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", leave);
    };
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave, { once: true });
    work.finally(done).then(resolve, reject);
  });
}

function outOfTime(): TokenBrokerError {
  return new TokenBrokerError({
    reason: "DEADLINE_EXCEEDED",
    code: "DEADLINE_EXCEEDED",
    message: "the caller's own time-out has passed",
  });
}
