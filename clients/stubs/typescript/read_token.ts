// Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { TokenBroker } from "./gen/tokenbroker/v1/token_broker_pb.js";

const DEADLINE_MS = 30_000;

/** The broker's ErrorReason, or gRPC's code where the broker has not said why. */
function reasonOf(error: unknown): string {
  const failure = ConnectError.from(error);
  return failure.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[failure.code];
}

const [target, installId] = process.argv.slice(2);
const broker = createClient(TokenBroker, createGrpcTransport({ baseUrl: `http://${target}` }));
try {
  const token = await broker.getToken({ installId }, { timeoutMs: DEADLINE_MS });
  console.log(`${token.tokenType} ${token.generation} ${token.expiresIn?.seconds}`);
} catch (error) {
  console.error(reasonOf(error));
  process.exitCode = 1;
}
