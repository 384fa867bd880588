"""Proto messages from domain objects, and back."""

from datetime import datetime, timedelta
from typing import Final

from google.protobuf import duration_pb2, timestamp_pb2

from broker.domain.history import AttemptRecord
from broker.domain.installs import Failure, Holding, Install
from broker.domain.states import SERVING_STATES, InstallState
from broker.service.get_token import NO_TIME
from broker.service.token_cache import Entry
from tokenbroker.v1 import installs_pb2, token_broker_pb2

_State = installs_pb2.InstallState
STATES: Final[dict[InstallState, "_State.ValueType"]] = {
    InstallState.PROVISIONAL: _State.INSTALL_STATE_PROVISIONAL,
    InstallState.ACTIVE: _State.INSTALL_STATE_ACTIVE,
    InstallState.REAUTHORIZATION_REQUIRED: _State.INSTALL_STATE_REAUTHORIZATION_REQUIRED,
    InstallState.UNINSTALLED: _State.INSTALL_STATE_UNINSTALLED,
}


def timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """A Timestamp."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def duration(length: timedelta) -> duration_pb2.Duration:
    """A Duration, never negative."""
    length = max(length, NO_TIME)
    whole = length.days * 86400 + length.seconds
    return duration_pb2.Duration(seconds=whole, nanos=length.microseconds * 1000)


def timedelta_of(message: duration_pb2.Duration) -> timedelta:
    """The timedelta, or the longest or the least there is: whoever bounds it refuses that."""
    try:
        return message.ToTimedelta()
    except (OverflowError, ValueError):
        return timedelta.max if message.seconds > 0 else timedelta.min


def token_bytes(entry: Entry, now: datetime) -> bytes:
    """A GetTokenResponse, serialized: all but the lifetime left is made once per cache entry.

    Serialized messages that stand one behind the other merge into one (Protocol Buffers, "Encoding",
    "Last One Wins").
    """
    if entry.rendering is None:
        entry.rendering = _unchanging(entry.holding).SerializeToString()
    left = token_broker_pb2.GetTokenResponse(expires_in=duration(entry.usable_until - now))
    return entry.rendering + left.SerializeToString()


def _unchanging(holding: Holding) -> token_broker_pb2.GetTokenResponse:
    install = holding.install
    if install.validity is None or holding.access_token is None:
        raise ValueError("an entry without a token can't be handed out")
    return token_broker_pb2.GetTokenResponse(
        access_token=holding.access_token.reveal(),
        token_type=holding.token_type,
        expire_time=timestamp(install.validity.expires_at),
        generation=install.generation,
        plugin_id=install.key.plugin_id,
        install_id=install.key.install_id,
        company_id=install.company_id,
    )


def install_message(install: Install, now: datetime) -> installs_pb2.Install:
    """An Install."""
    message = installs_pb2.Install(
        plugin_id=install.key.plugin_id,
        install_id=install.key.install_id,
        company_id=install.company_id,
        state=STATES[install.state],
        generation=install.generation,
        in_doubt=install.in_doubt,
        attempt=install.attempt,
        rejected=install.rejected,
        create_time=timestamp(install.created_at),
        update_time=timestamp(install.updated_at),
    )
    if install.last_attempt is not None:
        message.last_attempt.ending = install.last_attempt.ending
        message.last_attempt.end_time.CopyFrom(timestamp(install.last_attempt.ended_at))
    if install.failure is not None:
        message.last_failure.CopyFrom(_failure_message(install.failure))
    if install.validity is not None:
        message.expires_in.CopyFrom(duration(install.validity.expires_at - now))
        message.expire_time.CopyFrom(timestamp(install.validity.expires_at))
        if install.state in SERVING_STATES:
            due_at = now if install.in_doubt or install.rejected else install.validity.refresh_due_at
            message.refresh_due_time.CopyFrom(timestamp(due_at))
        if install.validity.refresh_token_expires_at is not None:
            message.refresh_token_expire_time.CopyFrom(timestamp(install.validity.refresh_token_expires_at))
    return message


def attempt_message(record: AttemptRecord) -> installs_pb2.Attempt:
    """An Attempt."""
    return installs_pb2.Attempt(
        attempt=record.attempt,
        purpose=record.purpose,
        owner=record.owner,
        begin_time=timestamp(record.began_at) if record.began_at is not None else None,
        end_time=timestamp(record.ended_at),
        ending=record.ending,
        generation=record.generation or 0,
        trace_id=record.trace_id,
    )


def _failure_message(failure: Failure) -> installs_pb2.RefreshFailure:
    return installs_pb2.RefreshFailure(
        kind=failure.kind,
        count=failure.count,
        fail_time=timestamp(failure.failed_at),
        retry_time=timestamp(failure.retry_at),
    )
