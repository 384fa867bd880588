"""The channels to the broker: their options, and one that is made anew when the certificate changes."""

import json
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tokenbroker.client.credentials import Material, Proofs
from tokenbroker.client.token import Seconds

SERVICE: Final = "tokenbroker.v1.TokenBroker"
RETRIED: Final = ("GetToken", "ReportRejectedToken")
USER_AGENT: Final = "token-broker-client-python/0.1.0"
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_ANSWER_MS: Final = 10_000
# A broker that comes back is found within the longer of them.
SHORTEST_RECONNECT_MS: Final = 100
LONGEST_RECONNECT_MS: Final = 10_000
ADDRESSES: Final = ("ipv4:", "ipv6:")

SERVICE_CONFIG: Final = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
    "methodConfig": [
        {
            "name": [{"service": SERVICE, "method": method} for method in RETRIED],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

L = TypeVar("L")


def options(target: str) -> list[tuple[str, str | int]]:
    """What a channel to the broker is made with."""
    chosen: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.primary_user_agent", USER_AGENT),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.initial_reconnect_backoff_ms", SHORTEST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
    ]
    if target.startswith(ADDRESSES) and "," in target:
        # gRPC would take the whole list for the broker's name, which no certificate has.
        chosen.append(("grpc.default_authority", target.split(":", 1)[1].split(",", 1)[0]))
    return chosen


class Channels(Generic[L]):
    """The channel to use now. One that was replaced is closed once the calls on it must have ended, at the next look.

    `L`: a channel with what is called on it.
    """

    def __init__(
        self,
        proofs: Proofs,
        linger: Seconds,
        open_one: Callable[[Material | None], L],
        close: Callable[[L], object],
    ) -> None:
        """`linger`: how long a call may take."""
        self._proofs = proofs
        self._linger = linger
        self._open = open_one
        self._close = close
        self._current: L | None = None
        self._made_with: Material | None = None
        self._replaced: list[tuple[Seconds, L]] = []

    @property
    def is_open(self) -> bool:
        """Whether a channel was made."""
        return self._current is not None

    def current(self, now: Seconds) -> L:
        """The channel by the newest certificate."""
        while self._replaced and self._replaced[0][0] <= now:
            self._close(self._replaced.pop(0)[1])
        material = self._proofs.material()
        if self._current is not None and material != self._made_with:
            self._replaced.append((now + self._linger, self._current))
            self._current = None
        if self._current is None:
            self._current = self._open(material)
            self._made_with = material
        return self._current

    def close(self) -> None:
        """Close all."""
        for _, channel in self._replaced:
            self._close(channel)
        if self._current is not None:
            self._close(self._current)
        self.abandon()

    def abandon(self) -> None:
        """They are another process's."""
        self._replaced.clear()
        self._current = None
