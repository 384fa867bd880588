"""What is wrong with settings that are right one by one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

PREFIX: Final = "TOKEN_BROKER_"
_NO_APP: Final = f"{PREFIX}ENVOY_CLIENT_ID and {PREFIX}ENVOY_CLIENT_SECRET, or {PREFIX}APPS, must be set"
_CERTIFICATES: Final = ("tls_certificate_file", "tls_key_file")
_TOKENS: Final = ("jwt_issuer", "jwt_audience", "jwt_keys")
# What callers that prove who they are make necessary: what they may do, and the record of it.
_WITH_CALLERS: Final = ("policy_file", "audit_log", "audit_key")

# By setting. One whose value is wrong by itself is not in it.
Values = Mapping[str, Any]


def contradictions(values: Values) -> list[str]:
    """One line each, by the variables' names."""
    return [problem for rule in _RULES for problem in rule(values)]


def _apps(values: Values) -> Iterator[str]:
    single = [values.get(name) for name in ("envoy_client_id", "envoy_client_secret")]
    apps = values.get("apps")
    if apps is not None and (any(single) or values.get("envoy_plugin_id")):
        yield f"{PREFIX}APPS and {PREFIX}ENVOY_* name apps in two ways; keep one"
    elif apps is None and "apps" in values and not all(single) and "envoy_client_secret" in values:
        yield _NO_APP
    if any(_is_unchanged(values, app) for app in apps or ()) or _is_unchanged(values, None):
        yield f"{PREFIX}ENVOY_PREVIOUS_CLIENT_SECRET must be another than the secret that is in use"
    if apps is not None and not apps:
        yield f"{PREFIX}APPS must name at least one app"
    if apps and len({app.plugin_id for app in apps}) < len(apps):
        yield f"{PREFIX}APPS names a plugin_id twice"


def _is_unchanged(values: Values, app: Any) -> bool:
    if app is not None:
        return app.previous_client_secret is not None and app.previous_client_secret == app.client_secret
    previous = values.get("envoy_previous_client_secret")
    return previous is not None and previous == values.get("envoy_client_secret")


def _times(values: Values) -> Iterator[str]:
    times: list[Any] = [
        values.get(name) for name in ("call_seconds", "claim_margin_seconds", "claim_seconds")
    ]
    if None in times:
        return
    call, margin, claim = (time.total_seconds() for time in times)
    if call + margin > claim:
        yield (
            f"{PREFIX}CLAIM_SECONDS must be at least call + margin: "
            f"{claim:g} < {call:g} + {margin:g}; or a second replica could call while the first still does"
        )


def _pool(values: Values) -> Iterator[str]:
    in_flight, pool = values.get("refreshes_in_flight"), values.get("database_connections")
    if in_flight is not None and pool is not None and pool < in_flight:
        yield (
            f"{PREFIX}DATABASE_CONNECTIONS must be at least {PREFIX}REFRESHES_IN_FLIGHT: {pool} < {in_flight}; "
            f"or {in_flight - pool} pairs that Envoy has just issued would wait for a connection to be stored"
        )


def _callers(values: Values) -> Iterator[str]:
    """Who calls is known, what they may do is said, and it goes on record; or anybody is served, to this machine only."""
    known = bool(values.get("tls_client_ca_file") or values.get("jwt_issuer"))
    anybody, address = values.get("insecure_serve_anybody"), values.get("grpc_address")
    if anybody and (known or values.get("policy_file")):
        yield f"{PREFIX}INSECURE_SERVE_ANYBODY contradicts certificates, bearer tokens or a policy of callers; keep one"
    elif anybody and address is not None and not address.is_loopback:
        yield (
            f"{PREFIX}GRPC_ADDRESS must be a loopback address where {PREFIX}INSECURE_SERVE_ANYBODY is set: "
            "whoever reaches it gets every token"
        )
    elif not anybody and not known and anybody is not None:
        yield (
            f"{PREFIX}TLS_CLIENT_CA_FILE or {PREFIX}JWT_ISSUER must be set, so that callers prove who they are; "
            f"or, for development on this machine, {PREFIX}INSECURE_SERVE_ANYBODY=true"
        )
    elif known and not anybody:
        yield from _all_set(values, _WITH_CALLERS, "where callers are known")


def _tls(values: Values) -> Iterator[str]:
    files = [name for name in (*_CERTIFICATES, "tls_client_ca_file") if values.get(name)]
    if files:
        yield from _all_set(values, _CERTIFICATES, "for TLS")
    if any(values.get(name) for name in _TOKENS):
        yield from _all_set(values, _TOKENS, "for bearer tokens")
        address = values.get("grpc_address")
        if not files and address is not None and not address.is_loopback:
            yield (
                f"{PREFIX}TLS_CERTIFICATE_FILE and {PREFIX}TLS_KEY_FILE must be set where "
                f"{PREFIX}GRPC_ADDRESS is no loopback address: bearer tokens would travel in the clear"
            )


def _record(values: Values) -> Iterator[str]:
    first, second = values.get("audit_log"), values.get("audit_second_log")
    if first is not None and values.get("insecure_serve_anybody"):
        yield from _all_set(values, ("audit_key",), "where a record is kept")
    if second is not None and first is None and "audit_log" in values:
        yield f"{PREFIX}AUDIT_LOG must be set where {PREFIX}AUDIT_SECOND_LOG is"
    elif second is not None and first == second:
        yield f"{PREFIX}AUDIT_SECOND_LOG must be another place than {PREFIX}AUDIT_LOG: each line would stand there twice"


def _operations(values: Values) -> Iterator[str]:
    if values.get("console") and values.get("operations_address", True) is None:
        yield f"{PREFIX}OPERATIONS_ADDRESS must be set where {PREFIX}CONSOLE is"


def _console(values: Values) -> Iterator[str]:
    """Who shows who they are does so unheard; and where nobody need, it is this machine alone that looks."""
    address = values.get("operations_address")
    if not values.get("console") or address is None or address.is_loopback:
        return
    if values.get("insecure_serve_anybody"):
        yield (
            f"{PREFIX}OPERATIONS_ADDRESS must be a loopback address where {PREFIX}CONSOLE and "
            f"{PREFIX}INSECURE_SERVE_ANYBODY are set: whoever reaches it sees every install"
        )
    elif "tls_certificate_file" in values and values["tls_certificate_file"] is None:
        yield (
            f"{PREFIX}TLS_CERTIFICATE_FILE and {PREFIX}TLS_KEY_FILE must be set where {PREFIX}CONSOLE is and "
            f"{PREFIX}OPERATIONS_ADDRESS is no loopback address: bearer tokens would travel in the clear"
        )


def _workers(values: Values) -> Iterator[str]:
    for name in ("audit_log", "audit_second_log"):
        if (values.get("workers") or 1) > 1 and values.get(name) == "-":
            yield (
                f"{PREFIX}{name.upper()} must be a file where {PREFIX}WORKERS is more than 1: "
                "in a pipe, lines of several processes tear each other"
            )


def _all_set(values: Values, names: tuple[str, ...], where: str) -> Iterator[str]:
    for name in names:
        if name in values and values[name] is None:
            yield f"{PREFIX}{name.upper()} must be set {where}"


_RULES: Final[tuple[Callable[[Values], Iterator[str]], ...]] = (
    _apps,
    _times,
    _pool,
    _callers,
    _tls,
    _record,
    _operations,
    _console,
    _workers,
)
