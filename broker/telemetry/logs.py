"""Structured lines on stderr, one an event: for a person at a terminal, or as JSON for a program.

Levels. ERROR: somebody must act, or it is a bug. WARNING: somebody was refused or must wait, or will be if it goes on.
INFO: what the broker does. DEBUG: why it does not.
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import structlog
from opentelemetry import trace

LogFormat = Literal["auto", "json", "console"]

# A fault that repeats: so many lines in that time, then one for the rest, which says how many it stands for.
REPEATS: Final = 10
REPEATS_WITHIN: Final = timedelta(seconds=10)
MAX_FAULTS: Final = 256
# What tells one fault from another of the same event; an install's id does not.
FAULT_FIELDS: Final = ("error", "kind", "ending", "reason", "problem", "plugin_id")


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Let every line of this process be written so, whoever writes it."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderers: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    if not as_json:
        # Plain: the default formatter prints the locals of every frame, and some hold a revealed token.
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatedFaults(time.monotonic))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # What they have to say we say ourselves, once and in our words.
    for chatty in ("httpx", "httpcore", "psycopg.pool", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Fault:
    """One that repeats. Attributes: since: when its time began. lines: written in it. held_back: not written since."""

    since: float
    lines: int = 0
    held_back: int = 0


class RepeatedFaults(logging.Filter):
    """Holds back what repeats: Envoy down for an hour shall not fill a disk, nor hide what else is wrong."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds`: a clock that only goes forward."""
        super().__init__()
        self._seconds = seconds
        self._faults: OrderedDict[Hashable, _Fault] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written. One that was long held back says `repeated`, how often it was not."""
        if record.levelno < logging.WARNING:
            return True
        fault = self._fault(_identity(record))
        if self._seconds() - fault.since >= REPEATS_WITHIN.total_seconds():
            fault.since, fault.lines = self._seconds(), 0
        if fault.lines >= REPEATS:
            fault.held_back += 1
            return False
        fault.lines += 1
        if fault.held_back and isinstance(record.msg, dict):
            record.msg = {**record.msg, "repeated": fault.held_back}
            fault.held_back = 0
        return True

    def _fault(self, identity: Hashable) -> _Fault:
        fault = self._faults.setdefault(identity, _Fault(self._seconds()))
        self._faults.move_to_end(identity)
        if len(self._faults) > MAX_FAULTS:
            self._faults.popitem(last=False)
        return fault


def _identity(record: logging.LogRecord) -> Hashable:
    if isinstance(record.msg, dict):
        return record.msg.get("event"), *(str(record.msg.get(field)) for field in FAULT_FIELDS)
    return record.name, str(record.msg)


def _add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event
