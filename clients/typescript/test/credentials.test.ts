/** Credentials: files, and what is said of those that are none. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { CredentialsError, insecure, tls } from "@envoy-token-broker/client";

function written(test: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "credentials-"));
  test.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "file");
  writeFileSync(path, text);
  return path;
}

/** It names the file, and shows nothing of it. */
function isRefused(path: string, make: () => unknown): void {
  assert.throws(make, (error) => {
    assert.ok(error instanceof CredentialsError);
    assert.ok(error.message.includes(path) && !error.message.includes("secret"), error.message);
    assert.equal(error.cause, undefined);
    return true;
  });
}

test("a bearer token is read again when its file changes", (test) => {
  // Projected tokens live an hour; services for weeks.
  const path = written(test, "first\n");
  const credentials = tls({ tokenFile: path });
  assert.equal(credentials.bearer(), "Bearer first");
  writeFileSync(path, "second-and-longer");
  assert.equal(credentials.bearer(), "Bearer second-and-longer");
});

test("a broken file is not taken, and the last good token stays", (test) => {
  // A file that is half written must not end a service.
  const path = written(test, "first");
  const credentials = tls({ tokenFile: path });
  for (const broken of ["", "two secret words", "line\nbreak", "x".repeat(33 * 1024)]) {
    writeFileSync(path, broken);
    assert.equal(credentials.bearer(), "Bearer first");
  }
  rmSync(path);
  assert.equal(credentials.bearer(), "Bearer first");
});

test("files that can't be used are refused at once, by name", (test) => {
  // At the start, and not at the first call; and a complaint is no place for a key.
  const junk = written(test, "a secret that is no PEM");
  isRefused("/nowhere", () => tls({ caFile: "/nowhere" }));
  isRefused(junk, () => tls({ caFile: junk }));
  isRefused(junk, () => tls({ certificateFile: junk, keyFile: junk }));
  isRefused(junk, () => tls({ tokenFile: junk }));
  assert.throws(() => tls({ certificateFile: junk }), CredentialsError);
});

test("a bearer token is never sent in the clear", () => {
  // Whoever listens would have it.
  assert.throws(() => Reflect.apply(insecure, undefined, [{ tokenFile: "/somewhere" }]), CredentialsError);
});
