"""The settings of `token-broker serve`: names, defaults, and what each is for."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.config.kinds import (
    Address,
    Algorithms,
    CallsPerSecond,
    ListenAddress,
    PluginId,
    PositiveInt,
    Seconds,
    SecondsOrNone,
    SecretText,
    TokenUrl,
)
from broker.domain.apps import EnvoyApp

UNNAMED_PLUGIN_ID: Final = "default"
# Each is a whole broker, with a database's connections and a cache of its own. More is a slip of the hand.
MAX_WORKERS: Final = 64
NonEmpty = Annotated[str, Field(min_length=1)]
WorkerCount = Annotated[int, Field(ge=1, le=MAX_WORKERS)]


class AppSettings(BaseModel):
    """One entry of TOKEN_BROKER_APPS."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    plugin_id: PluginId
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretText
    previous_client_secret: SecretText | None = None


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
    keyset_kms_uri: NonEmpty | None = Field(
        None,
        description="The key of a KMS that wraps the keyset: aws-kms://…, gcp-kms://… or hcvault://… (keys.md).",
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
    envoy_previous_client_secret: SecretText | None = Field(
        None,
        description="The secret before this one, while it is being changed: webhooks that it signed are taken still.",
        repr=False,
    )
    apps: list[AppSettings] | None = Field(
        None,
        description='Several apps, as JSON: `[{"plugin_id": "…", "client_id": "…", "client_secret_file": "…"}]` '
        "(or `client_secret`; and `previous_client_secret`, or `previous_client_secret_file`).",
        repr=False,
    )
    envoy_token_url: TokenUrl = Field(
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
        description="Where gRPC is served. An address that others can reach needs TLS, and callers that "
        "prove who they are.",
    )
    tls_certificate_file: NonEmpty | None = Field(
        None,
        description="The certificate of gRPC's server, with its chain, as PEM. Read again when it changes, as is "
        "every file of these settings that is no `…_FILE` of a secret.",
    )
    tls_key_file: NonEmpty | None = Field(None, description="The certificate's private key, as PEM.")
    tls_client_ca_file: NonEmpty | None = Field(
        None,
        description="Whose certificates callers must show, as PEM: mutual TLS. A caller is named by its "
        "certificate's SPIFFE id, else by its first DNS name.",
    )
    jwt_issuer: NonEmpty | None = Field(
        None,
        description="The issuer of the bearer tokens that callers must show; they are named by the subject. Where "
        "client certificates are asked for too, both must be shown.",
    )
    jwt_audience: NonEmpty | None = Field(
        None, description="The audience that those tokens must be for: this broker's own."
    )
    jwt_algorithms: Algorithms = Field(
        ("RS256", "ES256"), description="How those tokens may be signed, separated by commas."
    )
    jwt_keys: NonEmpty | None = Field(
        None,
        description="The issuer's keys (a JWKS): a file, or an https URL (plain http only to this machine).",
    )
    jwt_keys_ca_file: NonEmpty | None = Field(
        None, description="Whose certificate the keys' server must show, as PEM; without it, the system's."
    )
    jwt_keys_token_file: NonEmpty | None = Field(
        None, description="A bearer token for the keys' server, as Kubernetes' API server wants one."
    )
    policy_file: NonEmpty | None = Field(
        None, description="Which caller may do what: a Cedar policy (policy.md). Nothing else is allowed."
    )
    policy_groups_file: NonEmpty | None = Field(
        None, description='Groups of callers for the policy, as JSON: `{"GROUP": ["CALLER", …]}`.'
    )
    audit_log: NonEmpty | None = Field(
        None,
        description="Where it goes on record what callers got: a file, or `-` for stdout (audit.md). What can't be "
        "recorded is not handed out.",
    )
    audit_second_log: NonEmpty | None = Field(
        None, description="A second place for the same record; both must have it."
    )
    audit_durability: Literal["flush", "fsync"] = Field(
        "flush",
        description="Whether a record counts when the system has it (it outlives the process), or when the disk has "
        "it (it outlives the machine).",
    )
    audit_key: SecretText | None = Field(
        None,
        description="Signs the record's checkpoints and keys its fingerprints of tokens; from `token-broker keys "
        "generate-audit`.",
        repr=False,
    )
    insecure_serve_anybody: bool = Field(
        default=False,
        description="Whether callers need not prove who they are, may do everything, and nothing need go on record. "
        "For development: only on a loopback address.",
    )
    http_address: ListenAddress = Field(
        Address("127.0.0.1", 8080),
        description="Where webhooks, /healthz and /readyz are served. Webhooks are authenticated by signature.",
    )
    operations_address: ListenAddress | None = Field(
        None,
        description="Where /metrics (for Prometheus), /healthz, /readyz and the console are served. Unset: nowhere. "
        "Whoever reaches it reads the metrics, which name apps and no installs. Of several workers each has its own: "
        "the ports that follow.",
    )
    console: bool = Field(
        default=False,
        description="Whether the operations port shows the console: read-only pages, to callers whom the policy gives "
        "`ListInstalls` and `GetInstall`.",
    )
    propagate_trace_to_envoy: bool = Field(
        default=False,
        description="Whether calls to Envoy carry a `traceparent`. Envoy does not document that it takes one.",
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
    workers: WorkerCount = Field(
        1,
        description="How many processes serve, each a broker of its own: what is said here of one process holds for "
        "each. More than one needs Linux. `serve --workers` wins.",
    )
    calls_in_flight: PositiveInt = Field(
        20000, description="How many gRPC calls one process works on at once; more are shed."
    )
    watch_streams: PositiveInt = Field(
        10000, description="How many streams of WatchTokens one process serves at once; more are refused."
    )
    caller_calls_per_second: CallsPerSecond = Field(
        1000,
        description="How often one caller may call one process; what is more is shed. Callers that need not prove "
        "who they are, are not counted.",
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
    reflection: bool = Field(
        default=False,
        description="Whether gRPC reflection is served. It tells anybody of the API, and nothing else.",
    )
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
            return [
                EnvoyApp(app.plugin_id, app.client_id, app.client_secret, app.previous_client_secret)
                for app in self.apps
            ]
        if self.envoy_client_id is None or self.envoy_client_secret is None:
            return []
        return [
            EnvoyApp(
                self.envoy_plugin_id or UNNAMED_PLUGIN_ID,
                self.envoy_client_id,
                self.envoy_client_secret,
                self.envoy_previous_client_secret,
                verify_plugin_id=self.envoy_plugin_id is not None,
            )
        ]
