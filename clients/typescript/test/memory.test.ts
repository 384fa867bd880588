/** Memory: when a token is FRESH, STALE and EXPIRED, and who leaves when there is no room. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Token } from "@envoy-token-broker/client";

import { Entry, Memory, SHORTEST_FRESH_MS } from "#dist/memory.js";

const NOW = 1_000_000;
const MAX_AGE_MS = 300_000;

function token(lifeMs = 3_600_000, { installId = "1", generation = 1 } = {}): Token {
  const usableUntil = NOW + lifeMs;
  return new Token({ value: "", tokenType: "Bearer", generation, pluginId: "", installId, companyId: "", usableUntil });
}

function memory({ maxInstalls = 10_000, evicted = [] as string[] } = {}): Memory {
  return new Memory({ maxInstalls, maxAgeMs: MAX_AGE_MS, onEvicted: (installId) => evicted.push(installId) });
}

for (const { of, lifeMs, freshMs } of [
  { of: "max_age of a long life", lifeMs: 3_600_000, freshMs: MAX_AGE_MS },
  { of: "half of a short life", lifeMs: 100_000, freshMs: 50_000 },
  { of: "a second at least", lifeMs: 1500, freshMs: SHORTEST_FRESH_MS },
  { of: "never longer than it lives", lifeMs: 500, freshMs: 500 },
]) {
  test(`a token is fresh for ${of}, and not a moment longer`, () => {
    // At the boundary itself it is STALE: a comparison the wrong way round would serve a token past its end.
    const entry = new Entry(token(lifeMs), NOW, MAX_AGE_MS);
    assert.equal(entry.staleAt, NOW + freshMs);
    assert.equal(entry.isDue(NOW + freshMs - 1), false);
    assert.equal(entry.isDue(NOW + freshMs), true);
  });
}

test("a token is usable until it expires", () => {
  // The very moment of its end is too late: Envoy may count from somewhat earlier.
  const kept = memory();
  kept.put("1", token(10_000), NOW);
  assert.ok(kept.usable("1", NOW + 9_999));
  assert.equal(kept.usable("1", NOW + 10_000), undefined);
});

test("one asks, and the others do not", () => {
  // A STALE token that many read must not begin a call for each of them.
  const entry = new Entry(token(), NOW, MAX_AGE_MS);
  const later = NOW + MAX_AGE_MS;
  assert.deepEqual(
    [later, later, later + 999].map((now) => entry.isDue(now)),
    [true, false, false],
  );
  assert.equal(entry.isDue(later + SHORTEST_FRESH_MS), true);
});

test("a refresh that was put off is not brought forward", () => {
  // A broker that says "in a minute" is not asked again in a second because another call failed at once.
  const kept = memory();
  kept.put("1", token(), NOW);
  kept.putOff("1", NOW + 400_000);
  kept.putOff("1", NOW + 301_000);
  assert.equal(kept.entries.get("1")?.isDue(NOW + 399_000), false);
});

test("an older generation changes nothing, unless the newer one has expired", () => {
  // An answer that was overtaken on its way must not bring the old token back; but any token is better than a dead one.
  const kept = memory();
  const newer = token(10_000, { generation: 2 });
  kept.put("1", newer, NOW);
  assert.equal(kept.put("1", token(), NOW), newer);
  assert.equal(kept.put("1", token(), NOW + 10_000).generation, 1);
});

test("forgetting a generation leaves a newer one", () => {
  // A report that comes late speaks of a token that was replaced already.
  const kept = memory();
  kept.put("1", token(10_000, { generation: 2 }), NOW);
  kept.forget("1", 1);
  assert.ok(kept.usable("1", NOW));
  kept.forget("1", 2);
  assert.equal(kept.usable("1", NOW), undefined);
});

test("the least lately asked for leave, and are told", () => {
  // A service that meets every company must not grow without end, nor forget those it meets every day.
  const evicted: string[] = [];
  const kept = memory({ maxInstalls: 2, evicted });
  kept.put("a", token(), NOW);
  kept.put("b", token(), NOW + 1);
  kept.usable("a", NOW + 2);
  kept.put("c", token(), NOW + 3);
  assert.deepEqual([...kept.entries.keys()], ["a", "c"]);
  assert.deepEqual(evicted, ["b"]);
});
