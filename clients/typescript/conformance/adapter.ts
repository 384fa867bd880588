/** The TypeScript client as clients/conformance plays it. */

import { createInterface } from "node:readline";
import { format, inspect } from "node:util";

import {
  Client,
  type ClientOptions,
  type Credentials,
  insecure,
  tls,
  TokenBrokerError,
} from "@envoy-token-broker/client";
import { context, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

const MS_PER_SECOND = 1000;

/** A command. Which fields it has depends on `do`: ../../conformance/README.md. */
interface Command {
  readonly id: number;
  readonly do: keyof typeof ACTS;
  readonly client: string;
  readonly install: string;
  readonly of: number;
  readonly target: string;
  readonly plugin_id?: string;
  readonly timeout_seconds?: number;
  readonly max_age_seconds?: number;
  readonly max_installs?: number;
  readonly watch?: boolean;
  readonly insecure?: boolean;
  readonly ca_file?: string;
  readonly certificate_file?: string;
  readonly key_file?: string;
  readonly token_file?: string;
  readonly traceparent?: string;
  readonly method: string;
  readonly url: string;
  readonly origin: string;
  readonly body?: string;
  readonly replayable?: boolean;
}

type Answer = Readonly<Record<string, unknown>>;

const ACTS = { open, get, cancel, request, describe, close };
const clients = new Map<string, Client>();
const waiting = new Map<number, AbortController>();

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
for await (const line of createInterface(process.stdin)) void answer(JSON.parse(line) as Command);
process.exit();

async function answer(command: Command): Promise<void> {
  const act: (command: Command) => Answer | Promise<Answer> = ACTS[command.do];
  let said: Answer;
  try {
    said = await act(command);
  } catch (error) {
    said = failure(error);
  }
  process.stdout.write(`${JSON.stringify({ id: command.id, ...said })}\n`);
}

function failure(error: unknown): Answer {
  if (error instanceof TokenBrokerError) {
    const { reason, code, retryAfterMs } = error;
    return {
      error: { reason, code, ...(retryAfterMs !== undefined && { retry_after_seconds: seconds(retryAfterMs) }) },
    };
  }
  if (error instanceof Error && error.name === "AbortError") return { cancelled: true };
  process.stderr.write(`${inspect(error)}\n`);
  return { error: { reason: "CONFIGURATION" } };
}

function open(command: Command): Answer {
  const options: ClientOptions = {
    credentials: credentialsOf(command),
    pluginId: command.plugin_id,
    timeoutMs: ms(command.timeout_seconds),
    maxAgeMs: ms(command.max_age_seconds),
    maxInstalls: command.max_installs,
    watch: command.watch,
  };
  clients.set(command.client, new Client(command.target, options));
  return {};
}

function credentialsOf(command: Command): Credentials {
  const files = {
    caFile: command.ca_file,
    certificateFile: command.certificate_file,
    keyFile: command.key_file,
    tokenFile: command.token_file,
  };
  const areThere = Object.values(files).some(Boolean);
  // As whoever writes JavaScript might: TypeScript would not let it pass.
  if (command.insecure) return areThere ? (Reflect.apply(insecure, undefined, [files]) as Credentials) : insecure();
  return tls(files);
}

async function get(command: Command): Promise<Answer> {
  const controller = new AbortController();
  waiting.set(command.id, controller);
  try {
    const patience = { signal: controller.signal, timeoutMs: ms(command.timeout_seconds) };
    const token = await inTrace(command.traceparent, () => clientOf(command).token(command.install, patience));
    return { token: token.reveal(), generation: token.generation, company: token.companyId };
  } finally {
    waiting.delete(command.id);
  }
}

function cancel(command: Command): Answer {
  waiting.get(command.of)?.abort();
  return {};
}

async function request(command: Command): Promise<Answer> {
  const fetch = clientOf(command).fetch(command.install, { origin: command.origin });
  const { method, body, replayable = true } = command;
  const response = await fetch(command.url, {
    method,
    ...(body !== undefined && (replayable ? { body } : { body: new Blob([body]).stream(), duplex: "half" })),
  });
  return { status: response.status, body: await response.text() };
}

async function describe(command: Command): Promise<Answer> {
  const client = clientOf(command);
  const token = await client.token(command.install);
  const inspected = [token, client, [token], new Map([["token", token]])].map((value) =>
    inspect(value, { showHidden: true, depth: Infinity, getters: true }),
  );
  return {
    texts: [
      String(token),
      token.toString(),
      token.toLocaleString(),
      format("%s %o %O %j %i", token, token, token, token, token),
      format("%s %o %O %j", client, client, client, client),
      JSON.stringify({ token, client }),
      JSON.stringify(Object.entries(token)),
      inspect(structuredClone(token)),
      ...inspected,
    ],
  };
}

function close(command: Command): Answer {
  clientOf(command).close();
  clients.delete(command.client);
  return {};
}

function clientOf({ client }: Command): Client {
  const found = clients.get(client);
  if (found === undefined) throw new Error(`no client ${client}`);
  return found;
}

function inTrace<T>(traceparent: string | undefined, work: () => T): T {
  const [, traceId, spanId, flags] = traceparent?.split("-") ?? [];
  if (traceId === undefined || spanId === undefined) return work();
  const span = { traceId, spanId, traceFlags: Number.parseInt(flags ?? "", 16) };
  return context.with(trace.setSpanContext(ROOT_CONTEXT, span), work);
}

function ms(inSeconds: number | undefined): number | undefined {
  return inSeconds === undefined ? undefined : inSeconds * MS_PER_SECOND;
}

function seconds(inMs: number): number {
  return inMs / MS_PER_SECOND;
}
