/** Client: tokens of one broker. */

import { durationMs } from "@bufbuild/protobuf/wkt";

import { Connection } from "./connection.js";
import type { Credentials } from "./credentials.js";
import { DEFINITE, TokenBrokerError } from "./errors.js";
import { type Fetch, type FetchOptions, fetchWithToken } from "./fetch.js";
import { Flights } from "./flights.js";
import type { GetTokenResponse } from "./gen/tokenbroker/v1/token_broker_pb.js";
import { type Entry, Memory, SHORTEST_FRESH_MS } from "./memory.js";
import { LONGEST_TIMER_MS, type Patience, released } from "./patience.js";
import { Token } from "./token.js";
import { Watch } from "./watch.js";

const TIMEOUT_MS = 30_000;
const MAX_AGE_MS = 300_000;
const MAX_INSTALLS = 10_000;

export interface ClientOptions {
  /** `tls(…)` or `insecure()`. */
  readonly credentials: Credentials;
  /** The app; may be left out where the broker serves a single one. */
  readonly pluginId?: string | undefined;
  /** Of one call to the broker, retries included. 30 s unless told otherwise. */
  readonly timeoutMs?: number | undefined;
  /** How long a token is FRESH at most. 5 minutes unless told otherwise. */
  readonly maxAgeMs?: number | undefined;
  /** How many are remembered. 10,000 unless told otherwise. */
  readonly maxInstalls?: number | undefined;
  /** Whether the broker is asked to tell of newer tokens (WatchTokens). Its stream keeps a process alive until `close`. */
  readonly watch?: boolean | undefined;
}

/**
 * Tokens of one broker.
 *
 * FRESH ones come from memory. STALE ones, too, while one refresh goes on behind. Others are waited for, all who wait
 * for an install by one call. clients/README.md has all of it.
 */
export class Client {
  readonly #pluginId: string;
  readonly #connection: Connection;
  readonly #memory: Memory;
  readonly #flights = new Flights<Token>();
  readonly #reports = new Flights<void>();
  readonly #watch: Watch | undefined;

  /**
   * `target` is a gRPC name: "dns:///tokens:50051", or "ipv4:10.0.0.1:50051,10.0.0.2:50051". Opens nothing yet.
   *
   * Throws RangeError: a number is none that can be meant.
   */
  constructor(target: string, options: ClientOptions) {
    const { credentials, pluginId = "", watch = false } = options;
    const { timeoutMs = TIMEOUT_MS, maxAgeMs = MAX_AGE_MS, maxInstalls = MAX_INSTALLS } = options;
    requireSensible({ timeoutMs, maxAgeMs, maxInstalls });
    this.#pluginId = pluginId;
    this.#connection = new Connection(target, credentials, timeoutMs);
    this.#memory = new Memory({ maxInstalls, maxAgeMs, onEvicted: (installId) => this.#watch?.leave(installId) });
    if (watch) this.#watch = this.#newWatch(maxInstalls);
  }

  /**
   * A token of this install that is valid now.
   *
   * Rejects with TokenBrokerError: there is none, see its reason. With the signal's reason: the caller has given up.
   */
  token(installId: string, patience?: Patience): Promise<Token> {
    const entry = this.#memory.entries.get(installId);
    if (entry !== undefined) {
      const now = performance.now();
      if (now < entry.staleAt) {
        entry.askedAt = now;
        return entry.ready;
      }
    }
    return this.#usable(installId)?.ready ?? released(this.#flight(installId), patience);
  }

  /**
   * Tell the broker that Envoy answered 401 to this token, and forget it. `fetch` does it by itself.
   *
   * Rejects with TokenBrokerError: the report failed; the token is forgotten all the same.
   */
  reject({ installId, generation }: Token, patience?: Patience): Promise<void> {
    const report = this.#reports.join(`${generation} ${installId}`, () => this.#report(installId, generation));
    return released(report, patience);
  }

  /**
   * A `fetch` that puts this install's token on requests to Envoy, and heals a 401 once.
   *
   * Rejects as `token` does: nothing is sent then. Throws TypeError: `origin` is none.
   */
  fetch(installId: string, options?: FetchOptions): Fetch {
    const lender = {
      token: (patience: Patience) => this.token(installId, patience),
      newer: (refused: Token, isWanted: boolean, patience: Patience) => this.#newer(refused, isWanted, patience),
    };
    return fetchWithToken(lender, options);
  }

  /** End what is under way, and forget everything. Who waits, and who asks from now on, gets an Error. */
  close(): void {
    this.#watch?.close();
    this.#connection.close();
    this.#flights.leaveAllBehind();
    this.#memory.entries.clear();
  }

  /** For `using client = …`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What is in memory and may be used; if it is STALE, a refresh begins behind it. */
  #usable(installId: string): Entry | undefined {
    const now = performance.now();
    const entry = this.#memory.usable(installId, now);
    if (entry?.isDue(now)) void this.#flight(installId);
    return entry;
  }

  /** A token newer than one that Envoy has refused: the one in memory, or, once that is reported, the broker's. */
  async #newer(refused: Token, isWanted: boolean, patience: Patience): Promise<Token | undefined> {
    let newest = this.#usable(refused.installId)?.token;
    if (newest === undefined || newest.generation <= refused.generation) {
      await this.reject(refused, patience);
      if (!isWanted) return undefined;
      newest = await this.token(refused.installId, patience);
    }
    return isWanted && newest.generation > refused.generation ? newest : undefined;
  }

  async #report(installId: string, generation: number): Promise<void> {
    this.#outdate(installId, generation);
    try {
      await this.#connection.report(this.#pluginId, installId, generation);
    } finally {
      // Whoever asked in the meantime may have got the same once more.
      this.#outdate(installId, generation);
    }
  }

  /** Forget a token, and remember nothing that was asked for before. */
  #outdate(installId: string, generation?: number): void {
    this.#memory.forget(installId, generation);
    this.#flights.leaveBehind(installId);
  }

  #flight(installId: string): Promise<Token> {
    return this.#flights.join(installId, (isCurrent) => this.#ask(installId, isCurrent));
  }

  async #ask(installId: string, isCurrent: () => boolean): Promise<Token> {
    let response: GetTokenResponse;
    try {
      response = await this.#connection.getToken(this.#pluginId, installId);
    } catch (error) {
      if (error instanceof TokenBrokerError) this.#learn(installId, error);
      throw error;
    }
    const now = performance.now();
    const token = tokenIn(response, installId, now);
    if (!isCurrent()) return token;
    const kept = this.#memory.put(installId, token, now);
    this.#watch?.follow(installId);
    return kept;
  }

  #learn(installId: string, failure: TokenBrokerError): void {
    if (DEFINITE.has(failure.reason)) {
      this.#memory.forget(installId);
      this.#watch?.leave(installId);
      return;
    }
    const pauseMs = Math.max(failure.retryAfterMs ?? 0, SHORTEST_FRESH_MS);
    this.#memory.putOff(installId, performance.now() + pauseMs);
  }

  #newWatch(maxInstalls: number): Watch {
    return new Watch({
      connection: this.#connection,
      pluginId: this.#pluginId,
      maxInstalls,
      knownGeneration: (installId) => this.#memory.entries.get(installId)?.token.generation ?? 0,
      onToken: (response) => {
        const now = performance.now();
        this.#memory.put(response.installId, tokenIn(response, response.installId, now), now);
      },
      onGone: (installId) => this.#outdate(installId),
    });
  }
}

function tokenIn(response: GetTokenResponse, installId: string, now: number): Token {
  return new Token({
    value: response.accessToken,
    tokenType: response.tokenType,
    generation: Number(response.generation),
    pluginId: response.pluginId,
    installId,
    companyId: response.companyId,
    usableUntil: now + (response.expiresIn === undefined ? 0 : durationMs(response.expiresIn)),
  });
}

function requireSensible(options: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(options)) {
    if (!(value > 0 && value <= LONGEST_TIMER_MS)) {
      throw new RangeError(`${name} must be more than 0, and at most ${LONGEST_TIMER_MS}`);
    }
  }
}
