/** Client: what the conformance table does not reach. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { inspect } from "node:util";

import { Client, insecure } from "@envoy-token-broker/client";
import { context, createTraceState, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

import { INSTALL, LIFE_MS, ScriptedBroker, SECRET } from "./scripted-broker.js";

/** A clock that stands still until it is moved. */
function clock(test: TestContext): { moveMs: (by: number) => void } {
  let now = performance.now();
  test.mock.method(performance, "now", () => now);
  return { moveMs: (by) => (now += by) };
}

test("a token that was asked for before a rejection is not remembered after it", async (test) => {
  // It is the rejected one once more, and everybody would be given it for minutes.
  const [broker, time] = [await ScriptedBroker.serving(test), clock(test)];
  const client = broker.client(test);
  const token = await client.token(INSTALL);
  const release = broker.hold();
  time.moveMs(LIFE_MS);
  const [late] = [client.token(INSTALL), await once(broker, "call")];

  await client.reject(token);
  release();

  assert.equal((await late).generation, 1);
  broker.generation = 2;
  assert.equal((await client.token(INSTALL)).generation, 2);
  assert.equal(broker.calls.length, 3);
});

test("a crowd that was refused reports once", async (test) => {
  // A revoked token is refused to all who hold it, at once.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test);
  const token = await client.token(INSTALL);

  await Promise.all(Array.from({ length: 16 }, () => client.reject(token)));

  assert.deepEqual(broker.reports, [1n]);
});

test("a caller gets its own reason for giving up", async (test) => {
  // It tells its time-outs from its users' by it.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test);
  const release = broker.hold();
  const controller = new AbortController();
  const [waiting] = [client.token(INSTALL, { signal: controller.signal }), await once(broker, "call")];
  const reason = new Error("the user has left");

  controller.abort(reason);

  await assert.rejects(waiting, reason);
  await assert.rejects(client.token(INSTALL, { signal: controller.signal }), reason);
  release();
  assert.equal((await client.token(INSTALL)).generation, 1);
  assert.equal(broker.calls.length, 1);
});

test("a closed client lets nobody wait, and remembers nothing", async (test) => {
  // Whoever shuts a service down must not be kept by it.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test);
  await client.token("another");
  const release = broker.hold();
  const [waiting] = [client.token(INSTALL), await once(broker, "call")];

  client.close();

  await assert.rejects(waiting, /closed/);
  await assert.rejects(client.token("another"), /closed/);
  release();
});

test("numbers that can't be meant are refused", () => {
  // setTimeout takes what is too long for none at all.
  for (const options of [{ timeoutMs: 0 }, { maxAgeMs: -1 }, { maxInstalls: NaN }, { timeoutMs: 2 ** 31 }]) {
    assert.throws(() => new Client("ipv4:127.0.0.1:1", { credentials: insecure(), ...options }), RangeError);
  }
});

test("a client shows no token that it remembers", async (test) => {
  // It is written to a log with whatever holds it.
  const client = (await ScriptedBroker.serving(test)).client(test);
  await client.token(INSTALL);
  assert.ok(!inspect(client, { showHidden: true, depth: Infinity }).includes(SECRET.slice(0, -4)));
  assert.equal(JSON.stringify(client), "{}");
});

test("the caller's trace goes along with its state, and the stream of WatchTokens is in none", async (test) => {
  // The stream outlives whoever asked first by hours: its trace would never end.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  test.after(() => context.disable());
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test, { watch: true });
  const span = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1 };
  const traced = trace.setSpanContext(ROOT_CONTEXT, { ...span, traceState: createTraceState("a=b") });
  const stream = broker.stream();

  await context.with(traced, () => client.token(INSTALL));

  assert.deepEqual(broker.metadata.get("traceparent"), [`00-${span.traceId}-${span.spanId}-01`]);
  assert.deepEqual(broker.metadata.get("tracestate"), ["a=b"]);
  assert.deepEqual((await stream).metadata.get("traceparent"), []);
});
