import { inspect } from "node:util";

const SHOWN_CHARACTERS = 4;
/** A shorter one is shown not at all: four characters of it would be too much. */
const SHORTEST_SHOWN = 16;
const MASK = "********";

export interface TokenFields {
  readonly value: string;
  readonly tokenType: string;
  readonly generation: number;
  readonly pluginId: string;
  readonly installId: string;
  readonly companyId: string;
  readonly usableUntil: number;
}

/** An access token for Envoy. Immutable, and the same object for all who ask while it is fresh. */
export class Token {
  readonly #value: string;
  /** As Envoy named it: "Bearer". */
  readonly tokenType: string;
  /** Counts the token sets of the install; a higher one is newer. Fit for logs. */
  readonly generation: number;
  readonly pluginId: string;
  readonly installId: string;
  /** "" for a company that Envoy has not named. */
  readonly companyId: string;
  /** Milliseconds of `performance.now()`, which is monotonic. */
  readonly usableUntil: number;

  constructor(fields: TokenFields) {
    this.#value = fields.value;
    this.tokenType = fields.tokenType;
    this.generation = fields.generation;
    this.pluginId = fields.pluginId;
    this.installId = fields.installId;
    this.companyId = fields.companyId;
    this.usableUntil = fields.usableUntil;
    Object.freeze(this);
  }

  /** The token itself. Never log it. */
  reveal(): string {
    return this.#value;
  }

  /** The value of an Authorization header (RFC 6750, section 2.1). Never log it. */
  authorization(): string {
    return `${this.tokenType} ${this.#value}`;
  }

  /** How long it may still be used; never negative. */
  get expiresInMs(): number {
    return Math.max(0, this.usableUntil - performance.now());
  }

  /** Masked. */
  toString(): string {
    return this.#value.length < SHORTEST_SHOWN ? MASK : MASK + this.#value.slice(-SHOWN_CHARACTERS);
  }

  /** Masked. */
  toJSON(): string {
    return this.toString();
  }

  /** Masked: what console.log shows. */
  [inspect.custom](): string {
    return `Token(${this.toString()}, installId=${inspect(this.installId)}, generation=${this.generation})`;
  }
}
