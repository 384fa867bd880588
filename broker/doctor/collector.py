"""collector: whether the OTLP collector that the OTEL_* variables name can be reached. Nothing is sent."""

from collections.abc import Iterator, Mapping
from typing import Final

from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn
from broker.doctor.network import NotReached, Place, reached
from broker.telemetry.exporters import ENDPOINT, PROTOCOLS

SIGNALS: Final = ("TRACES", "METRICS")
# A gRPC endpoint may be written without a scheme.
_BARE: Final = "http://"


def look(environment: Environment) -> Iterator[Finding]:
    """A line for each place that spans or metrics go to."""
    variables = environment.variables
    sent = [signal for signal in SIGNALS if _is_sent(signal, variables)]
    if not sent:
        yield ok(f"{ENDPOINT} is not set, or switched off: no spans or metrics are sent")
        return
    yield from _wrong_protocols(variables)
    for name in dict.fromkeys(_endpoint(signal, variables) for signal in sent):
        yield _collector(name, variables[name])


def _collector(name: str, endpoint: str) -> Finding:
    try:
        place = Place.of(endpoint if "://" in endpoint else _BARE + endpoint)
    except ValueError:
        return warn(f"{name} leads nowhere: it has no host and port", "such as http://collector:4317")
    try:
        reached(place)
    except NotReached as error:
        return warn(f"{name}: {error.reason}; the broker serves without it", error.remedy)
    return ok(f"{name}: reached by TCP")


def _wrong_protocols(variables: Mapping[str, str]) -> Iterator[Finding]:
    names = ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL" for signal in SIGNALS))
    for name in names:
        if _value(variables, name) not in {"", *PROTOCOLS}:
            yield fail(
                f"{name} must be one of {', '.join(PROTOCOLS)}", "a broker does not start with another"
            )


def _endpoint(signal: str, variables: Mapping[str, str]) -> str:
    """The variable's name."""
    own = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    return own if variables.get(own) else ENDPOINT


def _is_sent(signal: str, variables: Mapping[str, str]) -> bool:
    """As broker/telemetry/exporters.py decides it."""
    is_off = (
        _value(variables, "OTEL_SDK_DISABLED") == "true"
        or _value(variables, f"OTEL_{signal}_EXPORTER") == "none"
    )
    return not is_off and bool(variables.get(_endpoint(signal, variables)))


def _value(variables: Mapping[str, str], name: str) -> str:
    return variables.get(name, "").strip().lower()
