"""An install as people read it: a line in a list, or a card with the history of its last attempts."""

from collections.abc import Iterator
from typing import Final

from broker.cli.printing import NOTHING, Table, moment, roughly
from tokenbroker.v1 import installs_pb2

STATE_PREFIX: Final = "INSTALL_STATE_"
LIST_HEADER: Final = ("APP", "INSTALL", "COMPANY", "STATE", "GENERATION", "EXPIRES IN", "FAILING")
_HISTORY_HEADER: Final = ("BEGAN", "ATTEMPT", "PURPOSE", "ENDING", "TOOK", "TRACE ID", "BY")
_NEVER_HEARD_OF: Final = "unknown"


def state_name(state: "installs_pb2.InstallState.ValueType") -> str:
    """As people say it."""
    return installs_pb2.InstallState.Name(state).removeprefix(STATE_PREFIX)


def list_row(install: installs_pb2.Install) -> list[str]:
    """The cells below LIST_HEADER."""
    return [
        install.plugin_id,
        install.install_id,
        install.company_id or NOTHING,
        state_name(install.state),
        str(install.generation),
        _left(install) or NOTHING,
        _failing(install) or NOTHING,
    ]


def card(install: installs_pb2.Install) -> Iterator[str]:
    """All that is known of it, a line each."""
    yield f"Install {install.install_id} of app {install.plugin_id}"
    facts = [(name, value) for name, value in _facts(install) if value]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        yield f"  {name.ljust(width)}  {value}"
    if install.recent_attempts:
        yield ""
        yield "The last attempts to fetch a pair, the newest first"
        rows = [_history_row(attempt) for attempt in install.recent_attempts]
        yield from (f"  {line}" for line in Table(*_HISTORY_HEADER).lines(rows))


def _facts(install: installs_pb2.Install) -> Iterator[tuple[str, str]]:
    """What there is to say, by what it is about; "" where there is nothing."""
    yield "company", install.company_id or NOTHING
    yield "state", state_name(install.state)
    yield "generation", str(install.generation)
    yield "access token", _access_token(install)
    yield "refresh due", moment(install.refresh_due_time) if install.HasField("refresh_due_time") else ""
    if install.HasField("refresh_token_expire_time"):
        yield "refresh token", f"expires {moment(install.refresh_token_expire_time)}"
    yield "in doubt", "an attempt is under way, or its outcome is unknown" if install.in_doubt else ""
    yield "rejected", "a caller reported that Envoy rejects the newest token" if install.rejected else ""
    yield "failing", _failing(install)
    if install.HasField("last_failure"):
        yield "tried again", f"not before {moment(install.last_failure.retry_time)}"
    if install.HasField("last_attempt"):
        yield "last attempt", f"{install.last_attempt.ending}, ended {moment(install.last_attempt.end_time)}"
    yield "known since", moment(install.create_time)
    yield "changed", moment(install.update_time)


def _access_token(install: installs_pb2.Install) -> str:
    if not install.HasField("expire_time"):
        return "none"
    left, when = _left(install), moment(install.expire_time)
    return f"expired {when}" if left == "expired" else f"expires in {left}, {when}"


def _left(install: installs_pb2.Install) -> str:
    if not install.HasField("expire_time"):
        return ""
    left = install.expires_in.ToTimedelta()
    return roughly(left) if left else "expired"


def _failing(install: installs_pb2.Install) -> str:
    """Why, and for how many attempts."""
    failure = install.last_failure
    if not failure.count:
        return ""
    return f"{failure.kind}, {failure.count} in a row" if failure.count > 1 else failure.kind


def _history_row(attempt: installs_pb2.Attempt) -> list[str]:
    known = attempt.HasField("begin_time")
    took = attempt.end_time.ToDatetime() - attempt.begin_time.ToDatetime()
    has_end = known and attempt.ending != _NEVER_HEARD_OF
    return [
        moment(attempt.begin_time) if known else NOTHING,
        str(attempt.attempt),
        attempt.purpose or NOTHING,
        attempt.ending,
        f"{took.total_seconds():.2f} s" if has_end else NOTHING,
        attempt.trace_id or NOTHING,
        attempt.owner or NOTHING,
    ]
