"""The servicer of tokenbroker.v1.TokenBroker."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from broker.api.callers import until_not_found_may_be_told
from broker.api.errors import failure_message
from broker.api.messages import install_message, timedelta_of, token_bytes
from broker.api.watching import replies
from broker.domain.apps import Apps
from broker.domain.callers import Operation
from broker.domain.errors import BrokerError, InstallNotFound, InvalidField
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.lifetimes import DEFAULT_LIFETIME, LONGEST_LIFETIME
from broker.domain.tokens import readable_token
from broker.domain.webhooks import RouteWebhook
from broker.ports import Clock
from broker.service.accept_route_webhook import Accepted, AcceptRouteWebhook, WebhookKind
from broker.service.batch_get_tokens import BatchGetTokens, Wanted
from broker.service.calls import Call
from broker.service.get_token import NO_TIME, GetToken
from broker.service.report_rejected_token import ReportRejectedToken
from broker.service.token_cache import Entry
from broker.service.watch_tokens import WatchTokens
from tokenbroker.v1 import token_broker_pb2 as pb

_KINDS: Final[dict[WebhookKind, pb.WebhookKind.ValueType]] = {
    WebhookKind.ROUTE: pb.WEBHOOK_KIND_ROUTE,
    WebhookKind.UNINSTALLED: pb.WEBHOOK_KIND_UNINSTALLED,
    WebhookKind.OTHER: pb.WEBHOOK_KIND_OTHER,
}


class TokenBrokerServicer:
    """Each method takes a request and returns a reply, or its bytes; errors are the domain's."""

    def __init__(
        self,
        *,
        accept_route_webhook: AcceptRouteWebhook,
        get_token: GetToken,
        batch_get_tokens: BatchGetTokens,
        report_rejected_token: ReportRejectedToken,
        watch_tokens: WatchTokens,
        apps: Apps,
        clock: Clock,
    ) -> None:
        self._accept_route_webhook = accept_route_webhook
        self._get_token = get_token
        self._batch_get_tokens = batch_get_tokens
        self._report_rejected_token = report_rejected_token
        self._watch_tokens = watch_tokens
        self._apps = apps
        self._clock = clock

    async def AcceptRouteWebhook(
        self, request: pb.AcceptRouteWebhookRequest, call: Call
    ) -> pb.AcceptRouteWebhookResponse:
        """See the proto."""
        plugin_id = self._apps.resolve(request.plugin_id).plugin_id
        match request.WhichOneof("webhook"):
            case "signed":
                call.require_app(plugin_id)
                await call.begun()
                accepted = await self._accept_route_webhook.signed(
                    request.plugin_id, request.signed.body, request.signed.signature
                )
            case "vouched":
                call.require_app(plugin_id, Operation.VOUCH_FOR_WEBHOOK)
                await call.begun()
                accepted = await self._accept_route_webhook.vouched(self._vouched(request))
            case _:
                raise InvalidField("webhook", "must be given, signed or vouched")
        return self._accepted_message(accepted)

    async def GetToken(self, request: pb.GetTokenRequest, call: Call) -> bytes:
        """See the proto."""
        entry = await self._get_token(call, *_wanted(request))
        return token_bytes(entry, self._clock.now())

    async def BatchGetTokens(
        self, request: pb.BatchGetTokensRequest, call: Call
    ) -> pb.BatchGetTokensResponse:
        """See the proto."""
        began = asyncio.get_running_loop().time()
        results = await self._batch_get_tokens(call, [_wanted(one) for one in request.requests])
        if any(isinstance(result, InstallNotFound) for result in results):
            await until_not_found_may_be_told(began)
        return pb.BatchGetTokensResponse(results=[self._result_message(result) for result in results])

    async def ReportRejectedToken(
        self, request: pb.ReportRejectedTokenRequest, call: Call
    ) -> pb.ReportRejectedTokenResponse:
        """See the proto."""
        report = await self._report_rejected_token(
            call, request.plugin_id, request.install_id, request.generation
        )
        return pb.ReportRejectedTokenResponse(invalidated=report.invalidated, generation=report.generation)

    async def WatchTokens(
        self, requests: AsyncIterator[pb.WatchTokensRequest], call: Call
    ) -> AsyncIterator[pb.WatchTokensResponse]:
        """See the proto."""
        async with self._watch_tokens.open(call) as watch:
            async for reply in replies(watch, requests, self._clock):
                yield reply

    def _vouched(self, request: pb.AcceptRouteWebhookRequest) -> RouteWebhook:
        vouched = request.vouched
        token = readable_token(vouched.access_token)
        if token is None:
            raise InvalidField("vouched.access_token", "must be a token: printable ASCII, not empty")
        expires_in = DEFAULT_LIFETIME
        if vouched.HasField("expires_in"):
            expires_in = timedelta_of(vouched.expires_in)
            if not NO_TIME < expires_in <= LONGEST_LIFETIME:
                raise InvalidField(
                    "vouched.expires_in", f"must be more than 0 and at most {LONGEST_LIFETIME}"
                )
        return RouteWebhook(
            key=InstallKey(
                self._apps.resolve(request.plugin_id).plugin_id,
                checked_id(vouched.install_id, "vouched.install_id"),
            ),
            company_id=checked_id(vouched.company_id, "vouched.company_id") if vouched.company_id else "",
            access_token=token,
            token_type="Bearer",  # noqa: S106 (a type, RFC 6750)
            expires_in=expires_in,
            digest=hashlib.sha256(vouched.SerializeToString(deterministic=True)).digest(),
        )

    def _accepted_message(self, accepted: Accepted) -> pb.AcceptRouteWebhookResponse:
        response = pb.AcceptRouteWebhookResponse(kind=_KINDS[accepted.kind])
        if accepted.install is not None:
            response.install.CopyFrom(install_message(accepted.install, self._clock.now()))
        return response

    def _result_message(self, result: Entry | BrokerError) -> pb.BatchGetTokensResult:
        if isinstance(result, BrokerError):
            return pb.BatchGetTokensResult(failure=failure_message(result))
        token = pb.GetTokenResponse.FromString(token_bytes(result, self._clock.now()))
        return pb.BatchGetTokensResult(token=token)


def _wanted(request: pb.GetTokenRequest) -> Wanted:
    min_ttl = timedelta_of(request.min_ttl) if request.HasField("min_ttl") else NO_TIME
    return Wanted(request.plugin_id, request.install_id, min_ttl)
