/** Token: masked in every text form. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { format, inspect } from "node:util";

import { Token } from "@envoy-token-broker/client";

const VALUE = "simulated-access-token-of-forty-letters";

function token(value: string, usableUntil = performance.now() + 1000): Token {
  return new Token({
    value,
    tokenType: "Bearer",
    generation: 7,
    pluginId: "",
    installId: "1000000",
    companyId: "100000",
    usableUntil,
  });
}

test("no text shows more of a token than its last four characters", () => {
  // Tokens end in logs by the ways that nobody thought of.
  const masked = token(VALUE);
  const texts = [
    String(masked),
    format("%s %o %O %j", masked, masked, masked, masked),
    inspect({ deeply: [masked] }, { showHidden: true, depth: Infinity, getters: true }),
    JSON.stringify({ masked, all: Object.entries(masked) }),
    inspect(structuredClone(masked)),
  ];
  for (const text of texts) assert.ok(!text.includes(VALUE.slice(0, -4)), text);
  assert.equal(String(masked), "********ters");
  assert.equal(inspect(masked), "Token(********ters, installId='1000000', generation=7)");
});

test("a short token is not shown at all", () => {
  // Four characters of eight would be half of it.
  assert.equal(String(token("eightlet")), "********");
});

test("one named method reveals it, and one writes the header", () => {
  // What can't be read can't be used.
  assert.equal(token(VALUE).reveal(), VALUE);
  assert.equal(token(VALUE).authorization(), `Bearer ${VALUE}`);
});

test("a token that has expired has no time left, and no debt", () => {
  // A negative time-out means something else to whoever is given it.
  assert.equal(token(VALUE, performance.now() - 1000).expiresInMs, 0);
});
