"""What goes on record of a call."""

from dataclasses import dataclass
from datetime import datetime

from broker.domain.callers import Caller, Operation, Subject


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One install that one call touched, or tried to. It never holds a token.

    Attributes:
        at: when the record was made, UTC, by the machine's clock.
        request_id: names the call; several installs of one batch share it.
        trace_id: of the caller's trace; "" without one.
        address: the caller's, as gRPC tells it.
        subject: what was touched, as far as it is known.
        generation: of the token that was handed out or spoken of; 0 if none was.
        outcome: see service/calls.py: OK, DENIED, BEGUN, or the name of the error, as the API's reasons are written.
        policy_version: of the policy that decided; "" where none did.
        token_fingerprint: keyed, of the token that was handed out; "" if none was.
    """

    at: datetime
    request_id: str
    trace_id: str
    caller: Caller
    address: str
    operation: Operation
    subject: Subject
    generation: int
    outcome: str
    policy_version: str
    token_fingerprint: str
