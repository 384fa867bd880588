/** fetch: where a token goes, and when a request is sent once more. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";

import { status } from "@grpc/grpc-js";

import { INSTALL, ScriptedBroker, SECRET } from "./scripted-broker.js";

interface Api {
  readonly origin: string;
  /** "METHOD PATH", and whether there was a token. */
  readonly seen: { readonly request: string; readonly hasToken: boolean }[];
}

async function api(
  test: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Api> {
  const seen: Api["seen"] = [];
  const server = createServer((request, response) => {
    const hasToken = request.headers.authorization === `Bearer ${SECRET}`;
    seen.push({ request: `${request.method} ${request.url}`, hasToken });
    answer(request.resume(), response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  test.after(() => server.close().closeAllConnections());
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

/** An API that refuses everything, and a broker that has a newer token whenever one is reported. */
async function refusing(test: TestContext): Promise<{ broker: ScriptedBroker; envoy: Api }> {
  const broker = await ScriptedBroker.serving(test);
  broker.on("report", () => (broker.generation += 1));
  const envoy = await api(test, (request, response) => {
    if (request.url === "/moved") response.writeHead(303, { location: "/here" }).end();
    else response.writeHead(401).end();
  });
  return { broker, envoy };
}

test("a token goes where the URL pointed when it was given", async (test) => {
  // A URL may be changed by whoever holds it, while the token is waited for.
  const broker = await ScriptedBroker.serving(test);
  const [envoy, elsewhere] = [
    await api(test, (_, response) => response.end()),
    await api(test, (_, response) => response.end()),
  ];
  const url = new URL(envoy.origin);
  const sent = broker.client(test).fetch(INSTALL, { origin: envoy.origin })(url);

  url.port = new URL(elsewhere.origin).port;

  assert.equal((await sent).status, 200);
  assert.deepEqual([envoy.seen, elsewhere.seen], [[{ request: "GET /", hasToken: true }], []]);
});

test("a 401 of another origin says nothing of the token", async (test) => {
  // Or anybody to whom an answer points could have good tokens reported.
  const broker = await ScriptedBroker.serving(test);
  const elsewhere = await api(test, (_, response) => response.writeHead(401).end());
  const envoy = await api(test, (_, response) => response.writeHead(307, { location: elsewhere.origin }).end());

  const response = await broker.client(test).fetch(INSTALL, { origin: envoy.origin })(envoy.origin);

  assert.equal(response.status, 401);
  assert.deepEqual(elsewhere.seen, [{ request: "GET /", hasToken: false }]);
  assert.deepEqual(broker.reports, []);
});

test("a request that changed something before it was redirected is not sent again", async (test) => {
  // It was done; the 401 is that of a look at the result.
  const { broker, envoy } = await refusing(test);
  const fetch = broker.client(test).fetch(INSTALL, { origin: envoy.origin });

  const response = await fetch(`${envoy.origin}/moved`, { method: "POST", body: "an order" });

  assert.equal(response.status, 401);
  assert.deepEqual(
    envoy.seen.map(({ request }) => request),
    ["POST /moved", "GET /here"],
  );
  assert.deepEqual(broker.reports, [1n]);
});

test("a Request is sent again if it has no body", async (test) => {
  // The body of a Request has been read when the answer is there.
  const { broker, envoy } = await refusing(test);
  const fetch = broker.client(test).fetch(INSTALL, { origin: envoy.origin });

  await fetch(new Request(envoy.origin, { headers: { "x-kept": "yes" } }));
  assert.equal(envoy.seen.length, 2);
  await fetch(new Request(envoy.origin, { method: "POST", body: "once" }));
  assert.equal(envoy.seen.length, 3);
});

test("an answer of a fetch that tells no URL is taken for the request's own", async (test) => {
  // Mocks answer so, and who tests with one tests this, too.
  const broker = await ScriptedBroker.serving(test);
  const fetch = broker
    .client(test)
    .fetch(INSTALL, { fetch: () => Promise.resolve(new Response(null, { status: 401 })) });
  assert.equal((await fetch("https://api.envoy.com/api/v3")).status, 401);
  assert.deepEqual(broker.reports, [1n]);
});

test("whoever gives up while a 401 is healed is released", async (test) => {
  // Its time is over, whatever the broker is doing.
  const { broker, envoy } = await refusing(test);
  const client = broker.client(test);
  await client.token(INSTALL);
  const release = broker.hold();
  const controller = new AbortController();
  broker.once("call", () => controller.abort(new Error("the user has left")));

  await assert.rejects(
    client.fetch(INSTALL, { origin: envoy.origin })(envoy.origin, { signal: controller.signal }),
    /left/,
  );
  release();
});

test("without a token nothing is sent", async (test) => {
  // It would only be refused, and the caller would look in the wrong place.
  const { broker, envoy } = await refusing(test);
  broker.refusal = { code: status.INTERNAL };
  await assert.rejects(broker.client(test).fetch(INSTALL, { origin: envoy.origin })(envoy.origin));
  assert.deepEqual(envoy.seen, []);
});

test("an origin that is none is refused", async (test) => {
  // "null" is the origin of every URL that has none.
  const client = (await ScriptedBroker.serving(test)).client(test);
  for (const origin of ["api.envoy.com", "file:///etc", "data:,"]) {
    assert.throws(() => client.fetch(INSTALL, { origin }), TypeError);
  }
});
