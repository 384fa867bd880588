/** How a client proves who it is: files, read again when they change. */

import { X509Certificate } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";

import { type ChannelCredentials, credentials as grpcCredentials } from "@grpc/grpc-js";

/** A projected token, with room; a file that is larger is none. */
const MAX_TOKEN_BYTES = 32 * 1024;
/** RFC 6750, section 2.1: b64token. gRPC would show anything else in its refusal. */
const BEARER = /^[A-Za-z0-9\-._~+/]+=*$/;

/** The credentials can't be used as they are given. Says which file, and never what is in it. */
export class CredentialsError extends Error {
  override readonly name = "CredentialsError";
}

/** What `Client` takes: `tls(…)` or `insecure()`. */
export interface Credentials {
  /** Changes when a file of the channel's does. */
  stamp(): string;
  /** Of a new channel, from the files as they are now. Throws CredentialsError. */
  channelCredentials(): ChannelCredentials;
  /** What stands in `authorization`, from the file as it is now; the last good one if it can't be read. */
  bearer(): string | undefined;
}

/** PEM files; a key without a password. */
export interface TlsFiles {
  /** Whom to trust; without it the authorities that come with Node. */
  readonly caFile?: string | undefined;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Holds a bearer token. */
  readonly tokenFile?: string | undefined;
}

/**
 * In the clear, without a proof: for a broker on this machine that serves anybody. Takes nothing; whoever passes files
 * all the same would have them sent in the clear, so that is a CredentialsError.
 */
export function insecure(...none: never[]): Credentials {
  if (none.length > 0)
    throw new CredentialsError("insecure() takes no files: a bearer token is never sent in the clear");
  return {
    stamp: () => "",
    channelCredentials: () => grpcCredentials.createInsecure(),
    bearer: () => undefined,
  };
}

/**
 * TLS; with a client certificate, a bearer token, or both.
 *
 * Throws CredentialsError: a file can't be read, or is not what it should be.
 */
export function tls(files: TlsFiles = {}): Credentials {
  return new Tls(files);
}

class Tls implements Credentials {
  readonly #files: TlsFiles;
  #token: { readonly stamp: string; readonly authorization: string } | undefined;

  constructor(files: TlsFiles) {
    if ((files.certificateFile === undefined) !== (files.keyFile === undefined)) {
      throw new CredentialsError("certificateFile and keyFile belong together");
    }
    this.#files = { ...files };
    this.channelCredentials();
    this.bearer();
  }

  stamp(): string {
    const { caFile, certificateFile, keyFile } = this.#files;
    return stampOf(caFile, certificateFile, keyFile);
  }

  channelCredentials(): ChannelCredentials {
    const { caFile, certificateFile, keyFile } = this.#files;
    const ca = read(caFile);
    // OpenSSL passes over authorities that it can't read, and then trusts nobody.
    if (ca !== null) attempt(() => new X509Certificate(ca), `${caFile} holds no certificate`);
    const [key, certificate] = [read(keyFile), read(certificateFile)];
    return attempt(
      () => grpcCredentials.createSsl(ca, key, certificate),
      `${certificateFile} and ${keyFile} are no certificate and its key`,
    );
  }

  bearer(): string | undefined {
    const { tokenFile } = this.#files;
    if (tokenFile === undefined) return undefined;
    const stamp = stampOf(tokenFile);
    if (this.#token?.stamp !== stamp) {
      const authorization = bearerIn(tokenFile);
      if (authorization !== undefined) this.#token = { stamp, authorization };
    }
    if (this.#token === undefined) throw new CredentialsError(`${tokenFile} holds no bearer token`);
    return this.#token.authorization;
  }
}

/** The cause is left out on purpose: a parser's message may quote what it could not parse. */
function attempt<T>(action: () => T, complaint: string): T {
  try {
    return action();
  } catch {
    throw new CredentialsError(complaint);
  }
}

function read(path: string | undefined): Buffer | null {
  return path === undefined ? null : attempt(() => readFileSync(path), `${path} can't be read`);
}

function bearerIn(path: string): string | undefined {
  const bytes = Buffer.alloc(MAX_TOKEN_BYTES + 1);
  let length: number;
  try {
    const file = openSync(path, "r");
    try {
      length = readSync(file, bytes);
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined;
  }
  const token = bytes.toString("latin1", 0, length).trim();
  return length <= MAX_TOKEN_BYTES && BEARER.test(token) ? `Bearer ${token}` : undefined;
}

function stampOf(...paths: (string | undefined)[]): string {
  return paths.map(fileStamp).join();
}

function fileStamp(path: string | undefined): string {
  const status = path === undefined ? undefined : statOf(path);
  return status === undefined ? "" : `${status.mtimeNs}:${status.ino}:${status.size}`;
}

function statOf(path: string) {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
