export { Client, type ClientOptions } from "./client.js";
export { type Credentials, CredentialsError, insecure, tls, type TlsFiles } from "./credentials.js";
export { type Code, type Reason, TokenBrokerError, type TokenBrokerErrorFields } from "./errors.js";
export type { Fetch, FetchOptions } from "./fetch.js";
export type { Patience } from "./patience.js";
export { Token, type TokenFields } from "./token.js";
