"""The kinds of values that settings have: how each is read from text."""

import math
from datetime import timedelta
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from broker.domain.errors import InvalidField
from broker.domain.identifiers import checked_id
from broker.domain.secret import Secret
from broker.domain.token_url import check_token_url, is_loopback

# Asymmetric ones: who only checks a token must not be able to make one.
JWT_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address in HOST:PORT or [HOST]:PORT; raises ValueError if it is neither."""
        try:
            parts = urlsplit(f"//{text}")
            if parts.hostname and parts.port is not None and not (parts.path or parts.query):
                return cls(parts.hostname, parts.port)
        except ValueError:
            pass
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:50051")

    def at(self, port: int) -> "Address":
        """The same host at the port that the system chose."""
        return self._replace(port=port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def _address(value: object) -> Address:
    return value if isinstance(value, Address) else Address.parse(str(value))


def _secret(value: object) -> Secret:
    if not isinstance(value, str) or not value:
        raise ValueError("must not be empty")
    return Secret(value)


def _token_url(value: str) -> str:
    check_token_url(value)
    return value


def _plugin_id(value: str) -> str:
    try:
        return checked_id(value, "plugin_id")
    except InvalidField as error:
        raise ValueError(error.problem) from None


def _seconds(value: object) -> timedelta:
    try:
        return timedelta(seconds=float(str(value)))
    except (ValueError, OverflowError):
        raise ValueError("must be a number of seconds") from None


def _calls_per_second(value: object) -> float:
    try:
        calls = float(str(value))
    except ValueError:
        calls = math.nan
    if math.isnan(calls):
        raise ValueError("must be a number of calls a second")
    if not 0 < calls < math.inf:
        raise ValueError(f"must be more than 0: at {calls:g} calls a second nothing would ever be done")
    return calls


def _algorithms(value: object) -> tuple[str, ...]:
    names = tuple(name.strip() for name in str(value).split(",") if name.strip())
    if not names or not JWT_ALGORITHMS.issuperset(names):
        raise ValueError(f"must be names out of {', '.join(sorted(JWT_ALGORITHMS))}, separated by commas")
    return names


SecretText = Annotated[Secret, BeforeValidator(_secret)]
ListenAddress = Annotated[Address, BeforeValidator(_address)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]
SecondsOrNone = Annotated[timedelta, BeforeValidator(_seconds), Field(ge=timedelta(0))]
CallsPerSecond = Annotated[float, BeforeValidator(_calls_per_second)]
PositiveInt = Annotated[int, Field(gt=0)]
Algorithms = Annotated[tuple[str, ...], BeforeValidator(_algorithms)]
TokenUrl = Annotated[str, AfterValidator(_token_url)]
PluginId = Annotated[str, AfterValidator(_plugin_id)]
