/** A broker of grpc-js' own server in this process, which answers as a test says. */

import { EventEmitter, once } from "node:events";
import type { TestContext } from "node:test";

import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Client, type ClientOptions, insecure } from "@envoy-token-broker/client";
import { Metadata, type MethodDefinition, Server, ServerCredentials, status } from "@grpc/grpc-js";
import type { sendUnaryData, ServerDuplexStream, ServerUnaryCall } from "@grpc/grpc-js";

import { ErrorInfoSchema, RetryInfoSchema } from "#dist/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#dist/gen/google/rpc/status_pb.js";
import {
  type GetTokenRequest,
  type GetTokenResponseSchema,
  type ReportRejectedTokenRequest,
  type ReportRejectedTokenResponseSchema,
  TokenBroker,
  type WatchTokensRequest,
  type WatchTokensResponseSchema,
} from "#dist/gen/tokenbroker/v1/token_broker_pb.js";

export const INSTALL = "1000000";
export const SECRET = "simulated-access-token-of-forty-letters";
export const LIFE_MS = 3_600_000;

type Got = MessageInitShape<typeof GetTokenResponseSchema>;
type Reported = MessageInitShape<typeof ReportRejectedTokenResponseSchema>;
type Told = MessageInitShape<typeof WatchTokensResponseSchema>;
export type Stream = ServerDuplexStream<WatchTokensRequest, Told>;

/** Emits "call" (GetToken), "report", "stream", and "change" (of a stream's subscriptions) when they have come. */
export class ScriptedBroker extends EventEmitter {
  target = "";
  /** What it hands out. */
  generation = 1;
  lifeMs = LIFE_MS;
  /** What it answers instead. */
  refusal: { readonly code: status; readonly trailing?: Metadata } | undefined;
  /** Calls wait for it. */
  going: Promise<unknown> = Promise.resolve();
  /** Installs, one a call. */
  readonly calls: string[] = [];
  /** Generations. */
  readonly reports: bigint[] = [];
  readonly changes: WatchTokensRequest[] = [];
  /** Of the last call, of whichever method. */
  metadata = new Metadata();

  /** One that serves as long as the test runs. */
  static async serving(test: TestContext): Promise<ScriptedBroker> {
    const [broker, server] = [new ScriptedBroker(), new Server()];
    server.addService(SERVICE, {
      getToken: (call: ServerUnaryCall<GetTokenRequest, Got>, answer: sendUnaryData<Got>) =>
        void broker.#get(call, answer),
      reportRejectedToken: (
        call: ServerUnaryCall<ReportRejectedTokenRequest, Reported>,
        answer: sendUnaryData<Reported>,
      ) => broker.#report(call, answer),
      watchTokens: (stream: Stream) => broker.#watch(stream),
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    test.after(() => server.forceShutdown());
    broker.target = `ipv4:127.0.0.1:${port}`;
    return broker;
  }

  /** A client of it, closed with the test. */
  client(test: TestContext, options: Partial<ClientOptions> = {}): Client {
    const client = new Client(this.target, { credentials: insecure(), ...options });
    test.after(() => client.close());
    return client;
  }

  /** Calls wait until the result is called. Their answers are those of the moment when they came. */
  hold(): () => void {
    const { promise, resolve } = gate();
    this.going = promise;
    return resolve;
  }

  token(installId: string, generation = this.generation): Got {
    return {
      accessToken: SECRET,
      tokenType: "Bearer",
      expiresIn: durationFromMs(this.lifeMs),
      generation: BigInt(generation),
      installId,
      companyId: "100000",
    };
  }

  async #get(call: ServerUnaryCall<GetTokenRequest, Got>, answer: sendUnaryData<Got>): Promise<void> {
    const { installId } = call.request;
    const [token, refusal] = [this.token(installId), this.refusal];
    this.metadata = call.metadata;
    this.calls.push(installId);
    this.emit("call");
    await this.going;
    if (refusal === undefined) return answer(null, token);
    const { code, trailing = new Metadata() } = refusal;
    answer({ code, details: "in the broker's words", metadata: trailing });
  }

  #report(call: ServerUnaryCall<ReportRejectedTokenRequest, Reported>, answer: sendUnaryData<Reported>): void {
    this.reports.push(call.request.generation);
    this.emit("report");
    answer(null, {});
  }

  #watch(stream: Stream): void {
    this.metadata = stream.metadata;
    stream.on("data", (change: WatchTokensRequest) => {
      this.changes.push(change);
      this.emit("change");
    });
    stream.on("error", () => undefined);
    stream.on("end", () => stream.end());
    this.emit("stream", stream);
  }

  /** The next stream that is opened. */
  async stream(): Promise<Stream> {
    const [stream] = (await once(this, "stream")) as [Stream];
    return stream;
  }
}

/** A promise, and what keeps it. */
export function gate(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((keep) => (resolve = keep));
  return { promise, resolve };
}

/** Trailing metadata as the broker writes it. */
export function details(
  reason: string,
  { domain = "tokenbroker.v1", retryMs }: { domain?: string; retryMs?: number } = {},
): Metadata {
  const packed = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain }))];
  if (retryMs !== undefined) {
    packed.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryMs) })));
  }
  return trailing(toBinary(StatusSchema, create(StatusSchema, { details: packed })));
}

/** Trailing metadata with these bytes where a Status should be. */
export function trailing(bytes: Uint8Array): Metadata {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  return metadata;
}

type Fields = Record<string, unknown>;

function definitionOf(method: DescMethod): MethodDefinition<Fields, Fields> {
  const { input, output } = method;
  const isStream = method.methodKind === "bidi_streaming";
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: isStream,
    responseStream: isStream,
    requestSerialize: (request) => Buffer.from(toBinary(input, create(input, request))),
    requestDeserialize: (bytes) => fromBinary(input, bytes),
    responseSerialize: (response) => Buffer.from(toBinary(output, create(output, response))),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  };
}

const { getToken, reportRejectedToken, watchTokens } = TokenBroker.method;
const SERVICE = {
  getToken: definitionOf(getToken),
  reportRejectedToken: definitionOf(reportRejectedToken),
  watchTokens: definitionOf(watchTokens),
};
