/** fetch with an install's token: on requests to one origin (RFC 6454), and on no other. */

import type { Patience } from "./patience.js";
import type { Token } from "./token.js";

const ENVOY = "https://api.envoy.com";
/** Methods that change nothing (RFC 9110, section 9.2.1). */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
const PROTOCOLS: readonly string[] = ["https:", "http:"];
const AUTHORIZATION = "Authorization";
const UNAUTHORIZED = 401;

export type Fetch = typeof globalThis.fetch;

export interface FetchOptions {
  /** Where the token is sent. Other requests, redirects among them, go without. Envoy's API unless told otherwise. */
  readonly origin?: string;
  /** What sends the requests: the global one unless told otherwise. It must follow redirects as the standard says. */
  readonly fetch?: Fetch;
}

type Input = Parameters<Fetch>[0];
type Init = NonNullable<Parameters<Fetch>[1]>;

/** What `fetch` needs of a client, for one install. */
export interface Lender {
  readonly token: (patience: Patience) => Promise<Token>;
  /** One that is newer than the refused one, which is reported unless that has been seen to. Rejects as `reject`, `token`. */
  readonly newer: (refused: Token, isWanted: boolean, patience: Patience) => Promise<Token | undefined>;
}

export function fetchWithToken(lender: Lender, options: FetchOptions = {}): Fetch {
  const origin = originOf(options.origin ?? ENVOY);
  const send = options.fetch ?? globalThis.fetch;

  return async (input, init = {}) => {
    // As it is now: a URL may be changed by whoever holds it, while the token is waited for.
    const target = input instanceof Request ? input : new URL(input).href;
    if (originIn(target) !== origin) return send(target, init);
    const signal = init.signal ?? (input instanceof Request ? input.signal : undefined);
    const token = await lender.token({ signal });
    const response = await send(target, withToken(token, target, init));
    if (!isRejected(response, origin)) return response;
    const newer = await lender.newer(token, canBeSentAgain(target, init, response), { signal }).catch(() => undefined);
    signal?.throwIfAborted();
    if (newer === undefined) return response; // Envoy has answered, and so its answer is the caller's.
    await response.body?.cancel();
    return send(target, withToken(newer, target, init));
  };
}

/** After a redirect to another origin the answer speaks of a request that had no token. */
function isRejected({ status, redirected, url }: Response, origin: string): boolean {
  return status === UNAUTHORIZED && (!redirected || new URL(url).origin === origin);
}

function withToken(token: Token, input: Input, init: Init): Init {
  const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
  headers.set(AUTHORIZATION, token.authorization());
  return { ...init, headers };
}

/**
 * What is in memory can; what is read from elsewhere has been read, and so has the body of a Request. What was redirected
 * may have done its work before.
 */
function canBeSentAgain(input: Input, init: Init, { redirected }: Response): boolean {
  const [method, body] = input instanceof Request ? [input.method, input.body] : ["GET", null];
  if (redirected && !SAFE.has((init.method ?? method).toUpperCase())) return false;
  const sent = init.body ?? body;
  return (
    sent === null ||
    typeof sent === "string" ||
    sent instanceof ArrayBuffer ||
    ArrayBuffer.isView(sent) ||
    sent instanceof URLSearchParams ||
    sent instanceof FormData ||
    sent instanceof Blob
  );
}

function originIn(input: Input): string {
  return new URL(input instanceof Request ? input.url : input).origin;
}

function originOf(text: string): string {
  const url = new URL(text);
  if (!PROTOCOLS.includes(url.protocol)) throw new TypeError("an origin is http(s)://HOST");
  return url.origin;
}
