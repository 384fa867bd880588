/** A small service: `GET /company/100000?install=1000000` answers with that company, as Envoy knows it. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { Client, insecure, TokenBrokerError } from "@envoy-token-broker/client";

const target = process.env["TOKEN_BROKER_TARGET"] ?? "127.0.0.1:50051";
const envoy = process.env["ENVOY_ORIGIN"] ?? "http://127.0.0.1:8081";
const port = Number(process.env["PORT"] ?? "8000");

// One client for the whole process: it remembers tokens, and asks the broker only when one is not fresh any more.
// In the clear, to a broker on this machine; any other is shown a certificate, or the file of a token.
const tokens = new Client(target, { credentials: insecure() });

/** Answers as Envoy does, with the token's generation in a header. The token itself goes nowhere but to Envoy. */
async function company(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  const id = /^\/company\/(\d+)$/.exec(pathname)?.[1];
  const install = searchParams.get("install") ?? "";
  if (id === undefined) return send(response, 404, { error: "ask for /company/COMPANY?install=INSTALL" });

  // A fetch that puts the install's token on requests to Envoy. If Envoy answers 401, it reports that to the broker, and
  // sends the request once more with a newer token.
  const fetchAsInstall = tokens.fetch(install, { origin: envoy });
  const answer = await fetchAsInstall(`${envoy}/api/v3/companies/${id}`);
  const { generation } = await tokens.token(install); // From memory: it costs nothing.
  response.setHeader("Token-Generation", String(generation));
  send(response, answer.status, await answer.json());
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

createServer((request, response) => {
  company(request, response).catch((error: unknown) => {
    const reason = error instanceof TokenBrokerError ? error.reason : "INTERNAL"; // Such as INSTALL_NOT_FOUND.
    send(response, 502, { error: reason });
  });
}).listen(port, "127.0.0.1");
