/** Memory: the tokens that this client has, and when each is to be asked for again. No I/O, and `now` as an argument. */

import type { Token } from "./token.js";

/** However short a token's life, and after a refresh that failed: no call sooner than that. */
export const SHORTEST_FRESH_MS = 1000;
const FRESH_SHARE = 0.5;
/** When memory is full, so much of it is emptied at once, so that a full memory is not searched at every new install. */
const EVICTED_SHARE = 1 / 16;

/** A token in memory. All times are milliseconds of the monotonic clock. */
export class Entry {
  readonly token: Token;
  /** What is handed out while it is fresh: made once, so that a read makes nothing. */
  readonly ready: Promise<Token>;
  /** From here on a refresh belongs behind it. */
  readonly staleAt: number;
  /** No refresh begins behind it before. */
  nextTry: number;
  /** When it was asked for last. */
  askedAt: number;

  constructor(token: Token, receivedAt: number, maxAgeMs: number) {
    this.token = token;
    this.ready = Promise.resolve(token);
    const freshMs = Math.max(SHORTEST_FRESH_MS, Math.min(maxAgeMs, (token.usableUntil - receivedAt) * FRESH_SHARE));
    this.staleAt = Math.min(receivedAt + freshMs, token.usableUntil);
    this.nextTry = this.staleAt;
    this.askedAt = receivedAt;
  }

  /** Whether a refresh should begin behind it; then none does for a while, whoever asks. */
  isDue(now: number): boolean {
    if (now < this.nextTry) return false;
    this.nextTry = now + SHORTEST_FRESH_MS;
    return true;
  }
}

export interface MemoryOptions {
  readonly maxInstalls: number;
  readonly maxAgeMs: number;
  readonly onEvicted: (installId: string) => void;
}

/** At most `maxInstalls` entries; the least lately asked for leave, and `onEvicted` is told. */
export class Memory {
  readonly entries = new Map<string, Entry>();
  readonly #options: MemoryOptions;

  constructor(options: MemoryOptions) {
    this.#options = options;
  }

  /** The entry, if its token may be used. */
  usable(installId: string, now: number): Entry | undefined {
    const entry = this.entries.get(installId);
    if (entry === undefined || now >= entry.token.usableUntil) return undefined;
    entry.askedAt = now;
    return entry;
  }

  /** Remember a token; the one that is remembered now: a newer one, if there was one. */
  put(installId: string, token: Token, now: number): Token {
    const known = this.entries.get(installId);
    if (known !== undefined && known.token.generation > token.generation && now < known.token.usableUntil) {
      return known.token;
    }
    const entry = new Entry(token, now, this.#options.maxAgeMs);
    if (known !== undefined) entry.askedAt = known.askedAt;
    this.entries.set(installId, entry);
    if (this.entries.size > this.#options.maxInstalls) this.#evict(installId);
    return token;
  }

  /** Drop what is remembered; with `generation`, only if it is not newer. */
  forget(installId: string, generation = Infinity): void {
    const entry = this.entries.get(installId);
    if (entry !== undefined && entry.token.generation <= generation) this.entries.delete(installId);
  }

  /** No refresh begins behind it before. */
  putOff(installId: string, until: number): void {
    const entry = this.entries.get(installId);
    if (entry !== undefined) entry.nextTry = Math.max(entry.nextTry, until);
  }

  #evict(newest: string): void {
    const others = [...this.entries].filter(([installId]) => installId !== newest);
    others.sort(([, one], [, other]) => one.askedAt - other.askedAt);
    const leaving = others.slice(0, Math.max(1, Math.floor(this.#options.maxInstalls * EVICTED_SHARE)));
    for (const [installId] of leaving) {
      this.entries.delete(installId);
      this.#options.onEvicted(installId);
    }
  }
}
