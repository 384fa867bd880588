"""Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL."""

import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

DEADLINE_SECONDS = 30


def reason_of(error: grpc.RpcError) -> str:
    """The broker's ErrorReason, or gRPC's code where the broker has not said why."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    told = status is not None and any(detail.Unpack(info) for detail in status.details)
    return info.reason if told else error.code().name


target, install = sys.argv[1:]
with grpc.insecure_channel(target) as channel:
    broker = token_broker_pb2_grpc.TokenBrokerStub(channel)
    request = token_broker_pb2.GetTokenRequest(install_id=install)
    try:
        token = broker.GetToken(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        sys.exit(reason_of(error))
    print(token.token_type, token.generation, token.expires_in.seconds)
