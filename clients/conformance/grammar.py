"""What a scenario may say: each verb with its fields, as ../README.md describes them.

A field that no verb reads would assert nothing, and nobody would see it. So the table is refused that has one.
"""

from collections.abc import Mapping
from typing import Any, Final

RPCS: Final = frozenset({"GetToken", "ReportRejectedToken", "WatchTokens"})
# What stands in Envoy's place answers, and can be held as the RPCs can.
API: Final = "API"
EXPECTED: Final = frozenset({"generation", "error", "code", "retry_after_seconds", "cancelled", "status"})
OPTIONS: Final = frozenset(
    {"plugin_id", "timeout_seconds", "max_age_seconds", "max_installs", "watch", "insecure"}
    | {"ca_file", "certificate_file", "key_file", "token_file"}
)

# The fields of a verb beside its own; one that ends in ? may be left out.
_FIELDS: Final = {
    # steps/asking.py
    "get": "times? timeout_seconds? traceparent? dead? expect?",
    "start": "as times? timeout_seconds? traceparent?",
    "waits": "",
    "finish": "of? dead? expect?",
    "cancel": "",
    "eventually": "dead? expect?",
    "masked": "",
    # steps/calls.py
    "hold": "",
    "hold_answers": "",
    "held": "",
    "release": "",
    "refuse": "code reason? domain? retry_after_seconds? pushback_ms? times?",
    "allow": "",
    "lifetime_seconds": "",
    "wait_seconds": "",
    "calls": "",
    "every_gate": "",
    "outage": "",
    "stop_gate": "",
    # steps/watching.py
    "cut_streams": "",
    "next_within_seconds": "",
    "unavailable": "code reason",
    "watched": "at_least?",
    "known": "",
    "unsubscribed": "",
    # steps/envoy.py
    "install": "",
    "refresh": "",
    "uninstall": "",
    "envoy": "of",
    "api": "",
    "request": "as? to? origin? path? method? body? replayable? expect?",
    "api_saw": "at? different_tokens?",
    # steps/wire.py
    "write": "of? text?",
    "metadata": "has",
    "peer": "",
    "until": "metadata? has? peer?",
}
VERBS: Final = frozenset(_FIELDS)
_OF_AN_RPC: Final = frozenset({"hold", "hold_answers", "release", "refuse", "allow", "metadata"})
_OF_RPCS: Final = frozenset({"held", "calls", "every_gate"})


def check_step(step: Mapping[str, Any]) -> None:
    """Raises ValueError: the step says what nobody would understand."""
    verb, *fields = step
    if verb not in _FIELDS:
        raise ValueError(f"{verb!r} is no verb, in {step}")
    words = _FIELDS[verb].split()
    optional = {word[:-1] for word in words if word.endswith("?")}
    required = {word for word in words if not word.endswith("?")}
    if missing := required - set(fields):
        raise ValueError(f"{verb} wants {', '.join(sorted(missing))}, in {step}")
    _refuse_others(set(fields), required | optional, step)
    _refuse_others(set(step.get("expect", {})), EXPECTED, step)
    named = {step[verb]} if verb in _OF_AN_RPC else set(step[verb]) if verb in _OF_RPCS else set()
    _refuse_others(named, RPCS | {API}, step)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ValueError: there is no such option of `open`."""
    _refuse_others(set(options), OPTIONS, options)


def _refuse_others(found: set[str], known: set[str] | frozenset[str], said: Mapping[str, Any]) -> None:
    if others := found - known:
        raise ValueError(f"nobody knows {', '.join(sorted(others))}, in {said}")
