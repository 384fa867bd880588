"""How answers are printed: tables and times for people, JSON for programs."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Final

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

InstallId = Annotated[str, typer.Argument(metavar="INSTALL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

NOTHING: Final = "-"
_GAP: Final = "  "
_UNITS: Final = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


class Table:
    """Rows under a header, in columns that fit what came so far: pages may come one by one."""

    def __init__(self, *header: str) -> None:
        self._header: Sequence[str] | None = header
        self._widths = [len(name) for name in header]

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """These rows, behind the header if they are the first."""
        columns = zip(*rows, strict=True)
        self._widths = [
            max(width, *map(len, cells)) for width, cells in zip(self._widths, columns, strict=True)
        ]
        for row in [self._header, *rows] if self._header else rows:
            yield _GAP.join(cell.ljust(width) for cell, width in zip(row, self._widths, strict=True)).rstrip()
        self._header = None


def as_json_text(message: Message, indent: int | None = None) -> str:
    """The message as JSON, its fields named as in the proto."""
    return json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=indent)


def moment(time: Timestamp) -> str:
    """To the second, in UTC."""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"


def roughly(length: timedelta) -> str:
    """In the two largest units that it has: "23 h 54 min"."""
    parts: list[str] = []
    for name, unit in _UNITS.items():
        count, length = divmod(length, unit)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
