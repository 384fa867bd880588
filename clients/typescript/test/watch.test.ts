/** Watch: what is told by the broker, and what is asked of it. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@envoy-token-broker/client";
import { status } from "@grpc/grpc-js";

import { ErrorReason } from "#dist/gen/tokenbroker/v1/error_reason_pb.js";

import { details, INSTALL, LIFE_MS, ScriptedBroker, type Stream } from "./scripted-broker.js";

function tellUnavailable(stream: Stream, installId: string, reason: ErrorReason): void {
  stream.write({ event: { case: "unavailable", value: { installId, failure: { reason } } } });
}

function tellHeartbeat(stream: Stream, nextMs: number): void {
  stream.write({ event: { case: "heartbeat", value: { nextWithin: durationFromMs(nextMs) } } });
}

/** Whenever the event loop has done what it had. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(setImmediate);
}

/** Asks, one call after the other, until there is no token. */
async function untilRefused(client: Client, installId: string): Promise<void> {
  const isRefused = await client.token(installId).then(
    () => false,
    () => true,
  );
  await new Promise(setImmediate); // a read of memory lets nothing else come
  if (!isRefused) await untilRefused(client, installId);
}

test("a call that was under way when a token was taken back does not bring it back", async (test) => {
  // The broker answered it before it knew; the token may open what is closed now.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test, { watch: true, timeoutMs: 10_000 });
  const opened = broker.stream();
  await client.token(INSTALL);
  const now = performance.now() + LIFE_MS;
  test.mock.method(performance, "now", () => now);
  const release = broker.hold();
  const [late] = [client.token(INSTALL), await once(broker, "call")];
  broker.refusal = { code: status.FAILED_PRECONDITION, trailing: details("REAUTHORIZATION_REQUIRED") };
  broker.going = Promise.resolve();

  tellUnavailable(await opened, INSTALL, ErrorReason.REAUTHORIZATION_REQUIRED);
  // Who asks now waits for the same call, until the client has heard.
  let isRefused = false;
  await until(() => {
    client.token(INSTALL).catch(() => (isRefused = true));
    return isRefused;
  });
  release();

  assert.equal((await late).generation, 1);
  await assert.rejects(client.token(INSTALL), { reason: "REAUTHORIZATION_REQUIRED" });
});

test("what the broker has taken back does not fill the stream", async (test) => {
  // The broker takes 10,000 subscriptions; installs come and go for years.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test, { watch: true, maxInstalls: 2 });
  const opened = broker.stream();
  await client.token("a");
  const stream = await opened;
  await client.token("b");
  tellUnavailable(stream, "a", ErrorReason.REAUTHORIZATION_REQUIRED);
  broker.refusal = { code: status.FAILED_PRECONDITION };
  await untilRefused(client, "a");
  broker.refusal = undefined;

  await client.token("c");

  await until(() => broker.changes.length === 4);
  const asked = broker.changes.map(({ change }) => `${change.case} ${change.value?.installId}`);
  assert.deepEqual(asked, ["subscribe a", "subscribe b", "subscribe c", "unsubscribe a"]);
});

test("a stream on which nothing comes is opened again, with what is known", async (test) => {
  // A connection that died without a word looks like one on which nothing happens.
  const broker = await ScriptedBroker.serving(test);
  const client = broker.client(test, { watch: true });
  const first = broker.stream();
  await client.token(INSTALL);
  const second = broker.stream();

  tellHeartbeat(await first, 10);

  await second;
  while (broker.changes.length < 2) await once(broker, "change");
  const [, again] = broker.changes.map(({ change }) => change.value);
  assert.deepEqual(
    { ...again, $typeName: undefined },
    { pluginId: "", installId: INSTALL, knownGeneration: 1n, $typeName: undefined },
  );
});
