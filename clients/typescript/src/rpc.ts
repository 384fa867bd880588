/** A method of the generated descriptor as grpc-js wants it. */

import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";

/** A method of a generated service. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** What a caller needs of it. */
export interface Rpc<I extends DescMessage, O extends DescMessage> {
  readonly path: string;
  readonly serialize: (request: MessageInitShape<I>) => Buffer;
  readonly deserialize: (bytes: Buffer) => MessageShape<O>;
}

export function rpcOf<I extends DescMessage, O extends DescMessage>({
  parent,
  name,
  input,
  output,
}: Method<I, O>): Rpc<I, O> {
  return {
    path: `/${parent.typeName}/${name}`,
    serialize: (request) => Buffer.from(toBinary(input, create(input, request))),
    deserialize: (bytes) => fromBinary(output, bytes),
  };
}
