/** Why there is no token: one error type, by the broker's ErrorReason. */

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";

import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import { ErrorReason } from "./gen/tokenbroker/v1/error_reason_pb.js";
import type { TokenFailure } from "./gen/tokenbroker/v1/token_broker_pb.js";

const ERROR_DOMAIN = "tokenbroker.v1";
const DETAILS_KEY = "grpc-status-details-bin";

/**
 * The broker's ErrorReason without its prefix, and the three that are the client's own.
 *
 * BROKER_UNREACHABLE: no broker answered, nor said why. DEADLINE_EXCEEDED: the caller's, or the call's.
 * UNRECOGNIZED: the broker gave a reason that this client does not know, or none.
 */
export type Reason =
  Exclude<keyof typeof ErrorReason, "UNSPECIFIED"> | "BROKER_UNREACHABLE" | "DEADLINE_EXCEEDED" | "UNRECOGNIZED";

/** gRPC's name of a code: "NOT_FOUND". */
export type Code = keyof typeof status;

export interface TokenBrokerErrorFields {
  readonly reason: Reason;
  readonly code: Code;
  readonly message: string;
  readonly retryAfterMs?: number | undefined;
}

/** There is no token. Branch on `reason`; `docs/errors.md` says what to do. */
export class TokenBrokerError extends Error {
  override readonly name = "TokenBrokerError";
  readonly reason: Reason;
  readonly code: Code;
  /** When a retry may help, if the broker said so. */
  readonly retryAfterMs: number | undefined;

  constructor({ reason, code, message, retryAfterMs }: TokenBrokerErrorFields) {
    super(message ? `${reason}: ${message}` : reason);
    this.reason = reason;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What means that a token which is in memory must not be used. */
export const DEFINITE: ReadonlySet<Reason> = new Set<Reason>([
  "INSTALL_NOT_FOUND",
  "REAUTHORIZATION_REQUIRED",
  "CALLER_NOT_ALLOWED",
]);

/** The broker's. TypeScript's enum has its numbers as keys, too. */
const REASONS: ReadonlySet<string> = new Set(
  Object.values(ErrorReason).filter((name) => typeof name === "string" && name !== "UNSPECIFIED") as string[],
);

/** What a failed call means (google.rpc.Status in its trailing metadata). */
export function errorOf(failure: ServiceError): TokenBrokerError {
  const { reason, retryAfterMs } = told(failure.metadata);
  return new TokenBrokerError({
    reason: reason ?? reasonByCode(failure.code),
    code: status[failure.code] as Code,
    message: failure.details,
    retryAfterMs,
  });
}

/** The reason in a message. */
export function reasonOf(failure: TokenFailure | undefined): Reason {
  return known(ErrorReason[failure?.reason ?? ErrorReason.UNSPECIFIED]);
}

function reasonByCode(code: status): Reason {
  if (code === status.UNAVAILABLE) return "BROKER_UNREACHABLE";
  return code === status.DEADLINE_EXCEEDED ? "DEADLINE_EXCEEDED" : "UNRECOGNIZED";
}

interface Told {
  readonly reason?: Reason | undefined;
  readonly retryAfterMs?: number | undefined;
}

/** Nothing where what stands there is no Status, because something in between wrote it: the code still says something. */
function told(metadata: Metadata): Told {
  const [bytes] = metadata.get(DETAILS_KEY);
  if (typeof bytes !== "object") return {};
  try {
    const { details } = fromBinary(StatusSchema, bytes);
    const infos = details.map((detail) => anyUnpack(detail, ErrorInfoSchema));
    const ours = infos.find((info) => info?.domain === ERROR_DOMAIN);
    const retry = details.map((detail) => anyUnpack(detail, RetryInfoSchema)?.retryDelay).find(Boolean);
    return { reason: ours && known(ours.reason), retryAfterMs: retry && durationMs(retry) };
  } catch {
    return {};
  }
}

function known(name: string | undefined): Reason {
  return name !== undefined && REASONS.has(name) ? (name as Reason) : "UNRECOGNIZED";
}
