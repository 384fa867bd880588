/** Watch: one stream on which the broker tells of newer tokens, opened again whenever it ends. */

import { durationMs } from "@bufbuild/protobuf/wkt";

import type { Connection, WatchCall, WatchRequest } from "./connection.js";
import { DEFINITE, type Reason, reasonOf } from "./errors.js";
import type {
  GetTokenResponse,
  WatchTokensHeartbeat,
  WatchTokensResponse,
} from "./gen/tokenbroker/v1/token_broker_pb.js";
import { LONGEST_TIMER_MS } from "./patience.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 10_000;
/** Until the first heartbeat has said how often they come. */
const FIRST_SILENCE_MS = 30_000;
/** A stream on which nothing comes for so many of its heartbeats' intervals is dead. */
const SILENT_HEARTBEATS = 2;
const MUST_NOT_BE_USED: ReadonlySet<Reason> = new Set<Reason>([...DEFINITE, "PROVIDER_UNAVAILABLE"]);
/** After these the broker watches the install no more. */
const FOLLOWED_NO_MORE: ReadonlySet<Reason> = new Set<Reason>([
  "INSTALL_NOT_FOUND",
  "CALLER_NOT_ALLOWED",
  "INVALID_FIELD",
  "OVERLOADED",
]);

export interface WatchOptions {
  readonly connection: Connection;
  readonly pluginId: string;
  /** How many are followed at most. */
  readonly maxInstalls: number;
  /** 0 of an install that is not remembered. */
  readonly knownGeneration: (installId: string) => number;
  readonly onToken: (response: GetTokenResponse) => void;
  /** The token of that install must not be used. */
  readonly onGone: (installId: string) => void;
}

/** Watches what it is told to follow. */
export class Watch {
  readonly #options: WatchOptions;
  readonly #followed = new Set<string>();
  #stream: Stream | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #pause: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Subscribe to an install. */
  follow(installId: string): void {
    if (this.#followed.has(installId)) return;
    this.#followed.add(installId);
    this.#stream?.change(installId, true);
    if (this.#followed.size > this.#options.maxInstalls) this.#leaveForgotten();
    if (this.#stream === undefined && this.#pause === undefined) this.#open();
  }

  /** Unsubscribe from it. */
  leave(installId: string): void {
    if (this.#followed.delete(installId)) this.#stream?.change(installId, false);
  }

  /** End the stream. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#pause);
    this.#stream?.end();
  }

  /** Those that were dropped and never came back: they are watched on, but not so many that they'd fill the stream. */
  #leaveForgotten(): void {
    for (const installId of this.#followed) if (this.#options.knownGeneration(installId) === 0) this.leave(installId);
  }

  #open(): void {
    this.#pause = undefined;
    let call: WatchCall;
    try {
      call = this.#options.connection.watch();
    } catch {
      // Credentials that can't be used; whoever asks for a token is told, and the next stream may be luckier.
      this.#openLater();
      return;
    }
    this.#stream = new Stream(call, {
      request: (installId, subscribes) => this.#request(installId, subscribes),
      onEvent: (event) => this.#hear(event),
      onEnded: () => {
        this.#stream = undefined;
        this.#openLater();
      },
    });
    for (const installId of this.#followed) this.#stream.change(installId, true);
  }

  #openLater(): void {
    if (this.#isClosed) return;
    this.#pause = setTimeout(() => this.#open(), this.#pauseMs * Math.random()).unref();
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  #request(installId: string, subscribes: boolean): WatchRequest {
    const { pluginId, knownGeneration } = this.#options;
    if (!subscribes) return { change: { case: "unsubscribe", value: { pluginId, installId } } };
    const generation = BigInt(knownGeneration(installId));
    return { change: { case: "subscribe", value: { pluginId, installId, knownGeneration: generation } } };
  }

  #hear({ event }: WatchTokensResponse): void {
    this.#pauseMs = FIRST_PAUSE_MS;
    if (event.case === "token" && this.#followed.has(event.value.installId)) this.#options.onToken(event.value);
    if (event.case !== "unavailable") return;
    const reason = reasonOf(event.value.failure);
    if (FOLLOWED_NO_MORE.has(reason)) this.#followed.delete(event.value.installId);
    if (MUST_NOT_BE_USED.has(reason)) this.#options.onGone(event.value.installId);
  }
}

interface StreamOptions {
  readonly request: (installId: string, subscribes: boolean) => WatchRequest;
  readonly onEvent: (event: WatchTokensResponse) => void;
  readonly onEnded: () => void;
}

/** One stream, until it ends. What it is to be asked waits while the broker reads slowly, the latest of each install. */
class Stream {
  readonly #call: WatchCall;
  readonly #options: StreamOptions;
  /** What the broker has not been asked yet, by install: true subscribes. */
  readonly #changes = new Map<string, boolean>();
  #silenceMs = FIRST_SILENCE_MS;
  #silence: NodeJS.Timeout | undefined;
  #isFull = false;
  #hasEnded = false;

  constructor(call: WatchCall, options: StreamOptions) {
    this.#call = call;
    this.#options = options;
    call.on("data", (event: WatchTokensResponse) => this.#hear(event));
    call.on("drain", () => {
      this.#isFull = false;
      this.#send();
    });
    // A failure is told as the status, too; but an "error" that nobody listens to would end the process.
    call.on("error", () => this.#finish());
    call.on("status", () => this.#finish());
    this.#listen();
  }

  change(installId: string, subscribes: boolean): void {
    this.#changes.set(installId, subscribes);
    this.#send();
  }

  end(): void {
    this.#call.cancel();
    this.#finish();
  }

  #hear(event: WatchTokensResponse): void {
    if (this.#hasEnded) return;
    if (event.event.case === "heartbeat") this.#silenceMs = silenceMsAfter(event.event.value);
    this.#listen();
    this.#options.onEvent(event);
  }

  #listen(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.end(), this.#silenceMs).unref();
  }

  #send(): void {
    for (const [installId, subscribes] of this.#changes) {
      if (this.#isFull || this.#hasEnded) return;
      this.#changes.delete(installId);
      this.#isFull = !this.#call.write(this.#options.request(installId, subscribes));
    }
  }

  #finish(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#silence);
    this.#options.onEnded();
  }
}

/** How long nothing may come after a heartbeat. */
function silenceMsAfter({ nextWithin }: WatchTokensHeartbeat): number {
  const nextMs = nextWithin === undefined ? 0 : durationMs(nextWithin);
  return nextMs > 0 ? Math.min(nextMs * SILENT_HEARTBEATS, LONGEST_TIMER_MS) : FIRST_SILENCE_MS;
}
