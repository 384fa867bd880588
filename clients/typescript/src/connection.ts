/** Connection: calls to the broker over a channel that is made anew when the credentials' files change. */

import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Client as Channel, type ClientDuplexStream, Metadata, type ServiceError } from "@grpc/grpc-js";
import { context, ROOT_CONTEXT } from "@opentelemetry/api";

import { type Credentials, CredentialsError } from "./credentials.js";
import { errorOf } from "./errors.js";
import {
  type GetTokenResponse,
  TokenBroker,
  type WatchTokensRequestSchema,
  type WatchTokensResponse,
} from "./gen/tokenbroker/v1/token_broker_pb.js";
import { type Method, rpcOf } from "./rpc.js";
import { addTrace } from "./trace.js";

const USER_AGENT = "token-broker-client-typescript/0.1.0";
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_ANSWER_MS = 10_000;
/** gRPC's service config: any replica will do. grpc-js does not ask replicas for their health (healthCheckConfig). */
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [TokenBroker.method.getToken, TokenBroker.method.reportRejectedToken].map((method) => ({
        service: method.parent.typeName,
        method: method.name,
      })),
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.05s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};
const OPTIONS = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  // Nobody's DNS is to say how calls are retried.
  "grpc.service_config_disable_resolution": 1,
  "grpc.primary_user_agent": USER_AGENT,
  "grpc.keepalive_time_ms": KEEPALIVE_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_ANSWER_MS,
  "grpc.keepalive_permit_without_calls": 0,
  // Channels that differ only in their certificates must not share connections.
  "grpc.use_local_subchannel_pool": 1,
};

export type WatchRequest = MessageInitShape<typeof WatchTokensRequestSchema>;
export type WatchCall = ClientDuplexStream<WatchRequest, WatchTokensResponse>;

/** To one target. Opens nothing before the first call. */
export class Connection {
  readonly #target: string;
  readonly #credentials: Credentials;
  readonly #timeoutMs: number;
  readonly #links = new Set<Link>();
  #stamp = "";
  #link: Link | undefined;
  #isClosed = false;

  constructor(target: string, credentials: Credentials, timeoutMs: number) {
    this.#target = target;
    this.#credentials = credentials;
    this.#timeoutMs = timeoutMs;
  }

  /** Rejects with TokenBrokerError. */
  getToken(pluginId: string, installId: string): Promise<GetTokenResponse> {
    return this.#call(TokenBroker.method.getToken, { pluginId, installId });
  }

  /** Rejects with TokenBrokerError. */
  async report(pluginId: string, installId: string, generation: number): Promise<void> {
    const request = { pluginId, installId, generation: BigInt(generation) };
    await this.#call(TokenBroker.method.reportRejectedToken, request);
  }

  /** A stream of WatchTokens. It has no deadline, and is in nobody's trace: it outlives whoever asked first. */
  watch(): WatchCall {
    const { path, serialize, deserialize } = rpcOf(TokenBroker.method.watchTokens);
    return context.with(ROOT_CONTEXT, () => {
      const metadata = this.#metadata();
      return this.#current().follow((channel) => channel.makeBidiStreamRequest(path, serialize, deserialize, metadata));
    });
  }

  /** End every call, and make no other. */
  close(): void {
    this.#isClosed = true;
    for (const link of this.#links) link.close();
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const { path, serialize, deserialize } = rpcOf(method);
    const metadata = this.#metadata();
    const link = this.#current();
    const deadline = Date.now() + this.#timeoutMs;
    return new Promise((resolve, reject) => {
      const answer = (failure: ServiceError | null, response?: MessageShape<O>) => {
        if (response !== undefined) resolve(response);
        else reject(this.#isClosed || failure === null ? closed() : errorOf(failure));
      };
      link.follow((channel) =>
        channel.makeUnaryRequest(path, serialize, deserialize, request, metadata, { deadline }, answer),
      );
    });
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    addTrace(metadata);
    const bearer = this.#credentials.bearer();
    if (bearer !== undefined) metadata.set("authorization", bearer);
    return metadata;
  }

  #current(): Link {
    if (this.#isClosed) throw closed();
    const stamp = this.#credentials.stamp();
    if (this.#link === undefined || stamp !== this.#stamp) this.#link = this.#renewed(stamp);
    return this.#link;
  }

  /** A channel with the files as they are now; with bad ones the old channel stays, until they change again. */
  #renewed(stamp: string): Link {
    const old = this.#link;
    try {
      const link = new Link(this.#target, this.#credentials, (closed) => this.#links.delete(closed));
      this.#links.add(link);
      old?.retire(this.#timeoutMs);
      this.#stamp = stamp;
      return link;
    } catch (error) {
      if (old === undefined || !(error instanceof CredentialsError)) throw error;
      process.emitWarning(`the client's credentials changed and can't be used, the old ones stay: ${error.message}`);
      this.#stamp = stamp;
      return old;
    }
  }
}

interface Call {
  cancel(): void;
  on(event: "status", listener: () => void): unknown;
}

/** A channel, and the calls that are under way on it: grpc-js ends none of them when a channel is closed. */
class Link {
  readonly #channel: Channel;
  readonly #calls = new Set<Call>();
  readonly #onClosed: (closed: Link) => void;
  #isRetired = false;
  #end: NodeJS.Timeout | undefined;

  constructor(target: string, credentials: Credentials, onClosed: (closed: Link) => void) {
    this.#channel = new Channel(target, credentials.channelCredentials(), OPTIONS);
    this.#onClosed = onClosed;
  }

  follow<C extends Call>(begin: (channel: Channel) => C): C {
    const call = begin(this.#channel);
    this.#calls.add(call);
    call.on("status", () => {
      this.#calls.delete(call);
      if (this.#isRetired && this.#calls.size === 0) this.close();
    });
    return call;
  }

  /** Calls under way may end by themselves, for so long. */
  retire(forMs: number): void {
    this.#isRetired = true;
    this.#end = setTimeout(() => this.close(), forMs).unref();
    if (this.#calls.size === 0) this.close();
  }

  close(): void {
    clearTimeout(this.#end);
    for (const call of this.#calls) call.cancel();
    this.#channel.close();
    this.#onClosed(this);
  }
}

function closed(): Error {
  return new Error("this client is closed");
}
