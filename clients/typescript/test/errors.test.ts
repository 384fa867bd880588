/** TokenBrokerError: what the broker's trailing metadata means. */

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { TokenBrokerError } from "@envoy-token-broker/client";
import { Metadata, status } from "@grpc/grpc-js";

import { details, INSTALL, ScriptedBroker, trailing } from "./scripted-broker.js";

async function refusedWith(test: TestContext, code: status, metadata?: Metadata): Promise<TokenBrokerError> {
  const broker = await ScriptedBroker.serving(test);
  broker.refusal = { code, ...(metadata && { trailing: metadata }) };
  const failure: unknown = await broker
    .client(test)
    .token(INSTALL)
    .catch((error: unknown) => error);
  assert.ok(failure instanceof TokenBrokerError);
  return failure;
}

test("an error has the broker's reason, code, words and delay", async (test) => {
  // Each is for somebody: the program, the operator, the reader of the log, the retry.
  const failure = await refusedWith(test, status.RESOURCE_EXHAUSTED, details("OVERLOADED", { retryMs: 500 }));
  const { reason, code, message, retryAfterMs } = failure;
  assert.deepEqual(
    { reason, code, message, retryAfterMs },
    {
      reason: "OVERLOADED",
      code: "RESOURCE_EXHAUSTED",
      message: "OVERLOADED: in the broker's words",
      retryAfterMs: 500,
    },
  );
});

for (const { name, code, metadata, reason } of [
  {
    name: "of another domain",
    code: status.NOT_FOUND,
    metadata: details("OVERLOADED", { domain: "proxy.example" }),
    reason: "UNRECOGNIZED",
  },
  { name: "that is not known", code: status.ABORTED, metadata: details("A_NEWER_ONE"), reason: "UNRECOGNIZED" },
  { name: "that is a number of the enum", code: status.ABORTED, metadata: details("1"), reason: "UNRECOGNIZED" },
  { name: "that is never sent", code: status.ABORTED, metadata: details("UNSPECIFIED"), reason: "UNRECOGNIZED" },
  {
    name: "that can't be read",
    code: status.DEADLINE_EXCEEDED,
    metadata: trailing(Uint8Array.of(255, 255, 255)),
    reason: "DEADLINE_EXCEEDED",
  },
]) {
  test(`a reason ${name} is not taken for one of ours`, async (test) => {
    // A proxy in between may speak the same words and mean its own; a newer broker may have more of them.
    assert.equal((await refusedWith(test, code, metadata)).reason, reason);
  });
}
