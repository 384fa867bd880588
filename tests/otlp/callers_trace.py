"""The trace that a caller is in, as the caller says it."""

import secrets
from dataclasses import dataclass, field
from typing import Final

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
# W3C Trace Context, section 3.2.2.5.1.
SAMPLED: Final = "01"
NOT_SAMPLED: Final = "00"


@dataclass(frozen=True)
class CallersTrace:
    """A new trace, and the caller's span in it."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(TRACE_ID_BYTES))
    span_id: str = field(default_factory=lambda: secrets.token_hex(SPAN_ID_BYTES))
    flags: str = SAMPLED

    @property
    def context(self) -> tuple[str, str]:
        """What children name the caller's span by."""
        return self.trace_id, self.span_id

    @property
    def traceparent(self) -> str:
        """The header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"
