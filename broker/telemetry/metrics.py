"""Every metric: its name, its kind, its labels, and what it tells. the table in docs/observe.md is made from it.

No label is without a bound: apps are few, and everything else that labels is one of a fixed set of words. An install
never is a label; `token-broker installs list --failing` and traces say which.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry import metrics

from broker.telemetry.kinds import Kind, Metric
from broker.telemetry.spans import SERVICE_NAME

# Of a call that is answered from memory, up to one that waits as long as a claim lives.
CALL_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PRESENTATIONS: Final = (1.0, 2.0, 3.0)

Labels = Mapping[str, str]
Observation = tuple[float, Labels]

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
PLUGIN_ID: Final = "plugin_id"
CONNECTION_STATE: Final = "db.client.connection.state"

CALL: Final = Metric(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "Calls by method and status code, and how long they took, from the first look at them to the answer.",
    (RPC_SYSTEM, RPC_METHOD, RPC_STATUS),
    "s",
    CALL_SECONDS,
)
CALLS_IN_FLIGHT: Final = Metric(
    "tokenbroker.calls.in_flight",
    Kind.GAUGE,
    "Calls under way; at TOKEN_BROKER_CALLS_IN_FLIGHT more are refused.",
)
HANDED_OUT: Final = Metric(
    "tokenbroker.token.handed_out",
    Kind.COUNTER,
    "Tokens handed out, by where they came from: memory (a hit of the cache), store, or a refresh that was waited for;"
    " or pushed to a watcher (watch).",
    ("source",),
)
WATCHES: Final = Metric(
    "tokenbroker.watch.streams",
    Kind.GAUGE,
    "Streams of WatchTokens that are open; at TOKEN_BROKER_WATCH_STREAMS more are refused.",
)
WATCHED: Final = Metric(
    "tokenbroker.watch.subscriptions",
    Kind.GAUGE,
    "Installs that are watched, each counted for every stream.",
)
INSTALLS: Final = Metric(
    "tokenbroker.installs",
    Kind.GAUGE,
    "Installs by state, and whether their last attempt failed. Counted for all replicas together, once a minute or so:"
    " take the max over replicas, not the sum.",
    (PLUGIN_ID, "state", "failing"),
)
EXPIRING: Final = Metric(
    "tokenbroker.installs.expiring",
    Kind.GAUGE,
    "Installs in service, by the time to the end of their access token; each in one class. For all replicas together.",
    (PLUGIN_ID, "within"),
)
ATTEMPTS: Final = Metric(
    "tokenbroker.attempts",
    Kind.COUNTER,
    "Attempts to fetch a pair, by what for and how they ended: `refreshed`, `minted`, mints as recovery"
    " (`minted_after_refusal`, `minted_in_doubt`), `superseded`, or the kind of a fault.",
    (PLUGIN_ID, "purpose", "ending"),
)
IN_DOUBT: Final = Metric(
    "tokenbroker.attempts.in_doubt",
    Kind.COUNTER,
    "Attempts whose outcome nobody knows: Envoy may have acted. The next one mints.",
    (PLUGIN_ID,),
)
PRESENTATIONS_OF_GENERATION: Final = Metric(
    "tokenbroker.generation.presentations",
    Kind.HISTOGRAM,
    "How often the refresh token of its generation has been presented, told at each presentation. Must be 1 (P1);"
    " one that Envoy did not spend (a limit, no connection) is not counted.",
    (),
    "",
    PRESENTATIONS,
)
PROVIDER_CALL: Final = Metric(
    "tokenbroker.provider.call.duration",
    Kind.HISTOGRAM,
    "Calls to Envoy's token endpoint, by grant and outcome (`issued`, or the kind of the fault).",
    (PLUGIN_ID, "grant", "outcome"),
    "s",
    CALL_SECONDS,
)
TURN_WAIT: Final = Metric(
    "tokenbroker.provider.turn.wait.duration",
    Kind.HISTOGRAM,
    "How long attempts waited for their turn: a slot of this process, and a call out of the budget of all replicas.",
    (),
    "s",
    CALL_SECONDS,
)
BUDGET: Final = Metric(
    "tokenbroker.provider.budget.calls",
    Kind.GAUGE,
    "Calls to Envoy left in the budget of all replicas when it was last looked at.",
    (PLUGIN_ID,),
)
CIRCUIT: Final = Metric(
    "tokenbroker.provider.circuit.open",
    Kind.GAUGE,
    "1 while Envoy is not being called for the app, by the kind of the fault. Absent while it is.",
    (PLUGIN_ID, "kind"),
)
CLAIM_WAIT: Final = Metric(
    "tokenbroker.claim.wait.duration",
    Kind.HISTOGRAM,
    "How long this replica waited for another's claim to end.",
    (),
    "s",
    CALL_SECONDS,
)
COLLISIONS: Final = Metric(
    "tokenbroker.claim.collisions", Kind.COUNTER, "Installs that a sweep found taken by another replica."
)
COALESCED: Final = Metric(
    "tokenbroker.waiters.coalesced",
    Kind.COUNTER,
    "Callers who joined a refresh that this process had begun already.",
)
UNDER_WAY: Final = Metric(
    "tokenbroker.refreshes.under_way", Kind.GAUGE, "Installs whose next pair is sought here."
)
UNSTORED: Final = Metric(
    "tokenbroker.pairs.unstored",
    Kind.GAUGE,
    "Pairs that Envoy issued and the database has not taken yet. They are served from memory, and lost with it.",
)
SWEEP_LAG: Final = Metric(
    "tokenbroker.scheduler.lag",
    Kind.GAUGE,
    "How long the most overdue install had been due at the last sweep.",
    (),
    "s",
)
POOL: Final = Metric(
    "db.client.connection.count",
    Kind.GAUGE,
    "Connections to the database, used and idle.",
    (CONNECTION_STATE,),
)
POOL_MAX: Final = Metric(
    "db.client.connection.max",
    Kind.GAUGE,
    "As many connections as there may be: TOKEN_BROKER_DATABASE_CONNECTIONS.",
)
POOL_PENDING: Final = Metric(
    "db.client.connection.pending_requests", Kind.GAUGE, "What waits for a connection to the database."
)
LOOP_LAG: Final = Metric(
    "tokenbroker.event_loop.lag",
    Kind.HISTOGRAM,
    "How much later than asked for the event loop got to a timer: what every call waits at least.",
    (),
    "s",
    LAG_SECONDS,
)
AUDIT_WRITE: Final = Metric(
    "tokenbroker.audit.write.duration",
    Kind.HISTOGRAM,
    "How long it took until a batch of records was on record. No token leaves before that.",
    (),
    "s",
    CALL_SECONDS,
)
AUDIT_PENDING: Final = Metric("tokenbroker.audit.pending", Kind.GAUGE, "Records that wait to be written.")
CACHED: Final = Metric(
    "tokenbroker.cache.entries",
    Kind.GAUGE,
    "Installs in this process's memory; at most TOKEN_BROKER_CACHE_ENTRIES.",
)
READY: Final = Metric("tokenbroker.ready", Kind.GAUGE, "1 if this replica should be sent calls, else 0.")
WEBHOOKS: Final = Metric(
    "tokenbroker.webhooks",
    Kind.COUNTER,
    "Webhooks, by what became of them: `accepted`, or the name of an error such as `SignatureRefused`.",
    ("outcome",),
)

CATALOGUE: Final = {
    metric.name: metric
    for metric in (
        CALL,
        CALLS_IN_FLIGHT,
        HANDED_OUT,
        CACHED,
        WATCHES,
        WATCHED,
        INSTALLS,
        EXPIRING,
        ATTEMPTS,
        IN_DOUBT,
        PRESENTATIONS_OF_GENERATION,
        UNDER_WAY,
        COALESCED,
        CLAIM_WAIT,
        COLLISIONS,
        UNSTORED,
        SWEEP_LAG,
        PROVIDER_CALL,
        TURN_WAIT,
        BUDGET,
        CIRCUIT,
        WEBHOOKS,
        POOL,
        POOL_MAX,
        POOL_PENDING,
        LOOP_LAG,
        AUDIT_WRITE,
        AUDIT_PENDING,
        READY,
    )
}
PROMETHEUS_NAMES: Final = frozenset(name for metric in CATALOGUE.values() for name in metric.series)

_meter: Final = metrics.get_meter(SERVICE_NAME)


def _counter(metric: Metric) -> metrics.Counter:
    return _meter.create_counter(metric.name, metric.unit, metric.tells)


def _histogram(metric: Metric) -> metrics.Histogram:
    return _meter.create_histogram(
        metric.name, metric.unit, metric.tells, explicit_bucket_boundaries_advisory=metric.buckets
    )


calls: Final = _histogram(CALL)
attempts: Final = _counter(ATTEMPTS)
attempts_in_doubt: Final = _counter(IN_DOUBT)
presentations: Final = _histogram(PRESENTATIONS_OF_GENERATION)
provider_calls: Final = _histogram(PROVIDER_CALL)
turn_waits: Final = _histogram(TURN_WAIT)
claim_waits: Final = _histogram(CLAIM_WAIT)
claim_collisions: Final = _counter(COLLISIONS)
waiters_coalesced: Final = _counter(COALESCED)
loop_lags: Final = _histogram(LOOP_LAG)
audit_writes: Final = _histogram(AUDIT_WRITE)
webhooks: Final = _counter(WEBHOOKS)


def observe(metric: Metric, look: Callable[[], Iterable[Observation]]) -> None:
    """Let `look` be asked whenever somebody reads the metric: what is counted anyway costs nothing more."""

    def callback(_options: metrics.CallbackOptions) -> list[metrics.Observation]:
        return [metrics.Observation(value, dict(labels)) for value, labels in look()]

    create = (
        _meter.create_observable_counter if metric.kind is Kind.COUNTER else _meter.create_observable_gauge
    )
    create(metric.name, [callback], metric.unit, metric.tells)
