/** How fast a token comes from memory, beside a Map's read: `reads.js --target HOST:PORT --install ID --seconds N`. */

import { parseArgs } from "node:util";

import { Client, insecure, type Token } from "@envoy-token-broker/client";

/** A ratio to the yardstick that is no cause for thought. */
const AIM = 3;
const CALLERS = 16;
const BATCH = 20_000;
const ROUNDS = 25;
const NS_PER_MS = 1_000_000;
const MS_PER_SECOND = 1000;

/** Longer than any token lives. */
const LEAP_MS = 1_000_000_000;

type Read = () => Promise<unknown>;

const { values } = parseArgs({
  options: { target: { type: "string" }, install: { type: "string" }, seconds: { type: "string", default: "2" } },
});
const { target = "", install = "" } = values;
const budgetMs = Number(values.seconds) * MS_PER_SECOND;

const client = new Client(target, { credentials: insecure() });
const yardstick = new Map([[install, await client.token(install)]]);
const readFresh: Read = () => client.token(install);

const [freshNs, awaitedMapNs, bareMapNs] = await interleaved([
  () => nsPerRead(awaited(readFresh)),
  () => nsPerRead(awaitedMap),
  () => nsPerRead(bareMap),
]);
const [contendedNs, contendedMapNs] = await interleaved([
  () => nsPerRead(contended(awaited(readFresh))),
  () => nsPerRead(contended(awaitedMap)),
]);
const bytes = await bytesPerRead();
const callsPerSecond = await coldCallsPerSecond();
client.close();

console.log(
  JSON.stringify({
    language: "typescript",
    runtime: `node${process.version}`,
    fresh_read_ns: rounded(freshNs),
    yardstick: "Map read, awaited",
    yardstick_ns: rounded(awaitedMapNs),
    yardstick_bare_ns: rounded(bareMapNs),
    ratio: rounded(freshNs / awaitedMapNs),
    aim: AIM,
    allocations_per_read: null, // V8 does not count them.
    bytes_per_read: bytes,
    contended_16_ns: rounded(contendedNs),
    contended_yardstick_ns: rounded(contendedMapNs),
    tokens_per_second: Math.round((NS_PER_MS * MS_PER_SECOND) / freshNs),
    calls_per_second: Math.round(callsPerSecond),
  }),
);

/** So many reads, one after the other. */
function awaited(read: Read): (reads: number) => Promise<void> {
  return async (reads) => {
    for (let done = 0; done < reads; done++) await read();
  };
}

/** The yardstick, awaited in the same way. */
async function awaitedMap(reads: number): Promise<void> {
  // eslint-disable-next-line @typescript-eslint/await-thenable -- what it costs is what is asked here
  for (let done = 0; done < reads; done++) await yardstick.get(install);
}

function bareMap(reads: number): Promise<void> {
  let seen: Token | undefined;
  for (let done = 0; done < reads; done++) seen = yardstick.get(install);
  return seen === undefined ? Promise.reject(new Error("the yardstick is empty")) : Promise.resolve();
}

/** So many reads by all callers together. */
function contended(run: (reads: number) => Promise<void>): (reads: number) => Promise<void> {
  return async (reads) => {
    await Promise.all(Array.from({ length: CALLERS }, () => run(reads / CALLERS)));
  };
}

async function nsPerRead(run: (reads: number) => Promise<void>): Promise<number> {
  const began = performance.now();
  await run(BATCH);
  return ((performance.now() - began) * NS_PER_MS) / BATCH;
}

/** The median of each, in turn, so that what slows one down slows all. The first rounds are the compiler's. */
async function interleaved<const M extends readonly (() => Promise<number>)[]>(
  measures: M,
): Promise<{ [K in keyof M]: number }> {
  const seen = measures.map((): number[] => []);
  const until = performance.now() + budgetMs / 3;
  for (let round = 0; round < ROUNDS || performance.now() < until; round++) {
    for (const [which, measure] of measures.entries()) seen[which]?.push(await measure());
  }
  return seen.map((all) => median(all.slice(Math.floor(all.length / 5)))) as { [K in keyof M]: number };
}

function median(numbers: number[]): number {
  return numbers.sort((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? NaN;
}

/** What the heap grows by, if the collector can be called and does not come by itself (node --expose-gc); else unknown. */
async function bytesPerRead(): Promise<number | null> {
  const { gc } = globalThis;
  if (gc === undefined) return null;
  const grown: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    gc();
    const before = process.memoryUsage().heapUsed;
    await awaited(readFresh)(BATCH / CALLERS);
    grown.push(((process.memoryUsage().heapUsed - before) * CALLERS) / BATCH);
  }
  return Math.round(median(grown));
}

/** Actual calls, one after the other: the clock leaps over each token's life. */
async function coldCallsPerSecond(): Promise<number> {
  const now = performance.now.bind(performance);
  let leaptMs = 0;
  performance.now = () => now() + leaptMs;
  const began = now();
  let calls = 0;
  for (; now() - began < budgetMs / 3; calls++) {
    leaptMs += LEAP_MS;
    await client.token(install);
  }
  performance.now = now;
  return (calls * MS_PER_SECOND) / (now() - began);
}

function rounded(number: number): number {
  return Number(number.toPrecision(3));
}
