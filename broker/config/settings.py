"""The settings of `token-broker serve`: names, kinds, defaults, and what each is for."""

import math
from datetime import timedelta
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from broker.domain.apps import EnvoyApp
from broker.domain.errors import InvalidField
from broker.domain.identifiers import checked_id
from broker.domain.secret import Secret
from broker.domain.token_url import check_token_url, is_loopback

UNNAMED_PLUGIN_ID: Final = "default"


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
        raise ValueError(f"must be more than 0: at {calls:g} calls a second no token would ever be refreshed")
    return calls


SecretText = Annotated[Secret, BeforeValidator(_secret)]
ListenAddress = Annotated[Address, BeforeValidator(_address)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]
SecondsOrNone = Annotated[timedelta, BeforeValidator(_seconds), Field(ge=timedelta(0))]
CallsPerSecond = Annotated[float, BeforeValidator(_calls_per_second)]
PositiveInt = Annotated[int, Field(gt=0)]
PluginId = Annotated[str, AfterValidator(_plugin_id)]


class AppSettings(BaseModel):
    """One entry of TOKEN_BROKER_APPS."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    plugin_id: PluginId
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretText


class Settings(BaseModel):
    """What `token-broker serve` runs on. docs/settings.md is generated from here."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    database_url: SecretText = Field(
        description="Postgres, as a libpq URL: postgresql://user:password@host/database.", repr=False
    )
    database_direct_url: SecretText | None = Field(
        None,
        description="The same database without a pooler in between, where database_url leads to one that pools by "
        "transaction (PgBouncer). Only hints between replicas listen there; without it they may be lost, and "
        "replicas then learn of changes within the cache's staleness.",
        repr=False,
    )
    keyset: SecretText = Field(
        description="The keys that seal stored tokens: a Tink JSON keyset, from `token-broker keys generate`.",
        repr=False,
    )
    envoy_plugin_id: PluginId | None = Field(
        None,
        description="The app's plugin id, as Envoy's webhooks name it. Left out, installs are filed under "
        f"`{UNNAMED_PLUGIN_ID}` and the webhooks' own plugin id is not checked. Decide before the first install.",
    )
    envoy_client_id: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The app's client id. For several apps use TOKEN_BROKER_APPS."
    )
    envoy_client_secret: SecretText | None = Field(
        None, description="The app's client secret. It also signs Envoy's webhooks.", repr=False
    )
    apps: list[AppSettings] | None = Field(
        None,
        description='Several apps, as JSON: `[{"plugin_id": "…", "client_id": "…", "client_secret_file": "…"}]` '
        "(or `client_secret`).",
        repr=False,
    )
    envoy_token_url: Annotated[str, AfterValidator(_token_url)] = Field(
        "https://api.envoy.com/oauth2/token", description="Envoy's token endpoint."
    )
    envoy_request_form: Literal["multipart", "urlencoded", "json"] = Field(
        "multipart", description="How requests to the token endpoint are written."
    )
    envoy_client_authentication: Literal["body", "basic"] = Field(
        "body", description="Where the client id and secret stand: in the body, or as HTTP Basic."
    )
    grpc_address: ListenAddress = Field(
        Address("127.0.0.1", 50051),
        description="Where gRPC is served. Callers are not authenticated in this release, so only a loopback "
        "address is allowed.",
    )
    http_address: ListenAddress = Field(
        Address("127.0.0.1", 8080),
        description="Where webhooks, /healthz and /readyz are served. Webhooks are authenticated by signature.",
    )
    envoy_calls_per_second: CallsPerSecond = Field(
        20,
        description="The budget of calls to the token endpoint, for each app and shared by all replicas. Callers "
        "who wait go before the scheduler.",
    )
    call_seconds: Seconds = Field(
        timedelta(seconds=30), description="How long Envoy may take to answer one request."
    )
    claim_seconds: Seconds = Field(
        timedelta(seconds=45), description="How long a claim on an install stands. At least call + margin."
    )
    claim_margin_seconds: Seconds = Field(
        timedelta(seconds=5), description="How long before its claim's end a call must be over."
    )
    refreshes_in_flight: PositiveInt = Field(
        32,
        description="How many installs one process fetches pairs for at once. Not more than database_connections: "
        "each pair must be stored the moment it comes.",
    )
    refreshes_waiting: PositiveInt = Field(
        4096,
        description="How many installs may have callers in one process that wait for a pair; more are shed.",
    )
    sweep_seconds: Seconds = Field(
        timedelta(seconds=1), description="How often the scheduler looks for what is due when nothing is."
    )
    rejection_cool_down_seconds: Seconds = Field(
        timedelta(seconds=30),
        description="How long after a token was reported as rejected no other of the same install is taken out of use.",
    )
    calls_in_flight: PositiveInt = Field(
        20000, description="How many gRPC calls one process works on at once; more are shed."
    )
    cache_entries: PositiveInt = Field(100000, description="How many tokens one process remembers.")
    cache_staleness_seconds: Seconds = Field(
        timedelta(seconds=10),
        description="How long a remembered token is believed without a look at the database. Bounds how long "
        "another replica's deletion goes unnoticed, while the database can be asked.",
    )
    database_connections: PositiveInt = Field(32, description="How many connections one process opens.")
    database_seconds: Seconds = Field(
        timedelta(seconds=5),
        description="How long the database may take for one piece of work, the wait for a connection included.",
    )
    trust_vouched_webhooks: bool = Field(
        default=False,
        description="Whether AcceptRouteWebhook takes a parsed webhook on the caller's word. Any caller may then "
        "plant a token.",
    )
    reflection: bool = Field(default=True, description="Whether gRPC reflection is served.")
    lame_duck_seconds: SecondsOrNone = Field(
        timedelta(seconds=1),
        description="How long calls are still taken after SIGTERM, while clients and balancers learn from the health "
        "checks to send no more. The drain begins afterwards.",
    )
    drain_seconds: Seconds = Field(
        timedelta(seconds=40),
        description="How long calls and refreshes under way may take to end when no more are taken.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: readable at a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level to log."
    )

    def envoy_apps(self) -> list[EnvoyApp]:
        """The apps, from whichever of the two ways they were given. `load_settings` sees to it that there is one."""
        if self.apps is not None:
            return [EnvoyApp(app.plugin_id, app.client_id, app.client_secret) for app in self.apps]
        if self.envoy_client_id is None or self.envoy_client_secret is None:
            return []
        return [
            EnvoyApp(
                self.envoy_plugin_id or UNNAMED_PLUGIN_ID,
                self.envoy_client_id,
                self.envoy_client_secret,
                verify_plugin_id=self.envoy_plugin_id is not None,
            )
        ]
