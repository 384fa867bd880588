"""A worker: one of several processes that serve at the same doors, and its end of the line to their supervisor.

The line is the worker's standard input, an end of a pair of sockets whose other end only the supervisor (workers.py)
holds. On it the worker tells what it wishes, is told its doors, and says when it listens. The system closes a socket at
every death, SIGKILL's too, so the line's end says that nobody would stop or restart this worker any more: it drains, as
by SIGTERM.
"""

import asyncio
import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Any, Final

from broker.config import Address, Settings
from broker.doors import AddressTaken, Doors
from broker.telemetry.logs import LogFormat

_STANDARD_INPUT: Final = 0
_LISTENING: Final = b"listening\n"


class SupervisorGone(Exception):
    """There is no line to a supervisor, or it has ended."""


@dataclass(frozen=True)
class Wishes:
    """What the supervisor has to know of the settings, which it does not read: no secret.

    Attributes:
        end_seconds: how long the worker may take to end when it is asked to.
    """

    grpc: Address
    http: Address
    end_seconds: float
    log_format: LogFormat
    log_level: str

    @classmethod
    def of(cls, settings: Settings) -> "Wishes":
        """Those that the settings say."""
        end = settings.lame_duck_seconds + settings.drain_seconds
        return cls(
            settings.grpc_address,
            settings.http_address,
            end.total_seconds(),
            settings.log_format,
            settings.log_level,
        )

    @classmethod
    def read(cls, line: bytes) -> "Wishes":
        """As `line` wrote them."""
        return cls(**_with_addresses(json.loads(line)))

    def line(self) -> bytes:
        """For the line to the supervisor."""
        return _line(asdict(self))


@dataclass(frozen=True)
class Refusal:
    """Why there are no doors: somebody else listens at one of them, or the address is none of ours."""

    setting: str
    address: Address
    errno: int

    def line(self) -> bytes:
        """For the line to the worker."""
        return _line({"refusal": asdict(self)})


def doors_line(doors: Doors) -> bytes:
    """For the line to the worker."""
    return _line({"doors": asdict(doors)})


def says_that_it_listens(line: bytes) -> bool:
    """Whether a worker does; else its line has ended."""
    return line == _LISTENING


class Worker:
    """This process as one of several. Attributes: index: which, from 0; of those that run no two have the same."""

    def __init__(self, index: int) -> None:
        """Raises SupervisorGone: standard input is no line."""
        self.index = index
        try:
            self._line = socket.socket(fileno=_STANDARD_INPUT)
        except OSError as error:
            raise SupervisorGone from error
        self._writer: asyncio.StreamWriter | None = None
        self._watch: asyncio.Task[None] | None = None

    async def doors(self, settings: Settings, asked_to_stop: asyncio.Event) -> Doors:
        """Where and when this worker listens. From now on `asked_to_stop` is set when the supervisor is gone.

        Raises:
            AddressTaken: by somebody who is no worker of this supervisor.
            SupervisorGone.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._line)
        self._writer.write(Wishes.of(settings).line())
        answer = await reader.readline()
        if not answer:
            raise SupervisorGone
        told = json.loads(answer)
        if "refusal" in told:
            raise _address_taken(told["refusal"])
        self._watch = asyncio.create_task(_until_gone(reader, asked_to_stop))
        return Doors(**_with_addresses(told["doors"]))

    def listens(self) -> None:
        """Tell the supervisor that this worker has come up."""
        if self._writer is not None:
            self._writer.write(_LISTENING)


async def _until_gone(reader: asyncio.StreamReader, asked_to_stop: asyncio.Event) -> None:
    try:
        await reader.read(1)  # nothing more is told
    finally:
        asked_to_stop.set()


def _address_taken(told: dict[str, Any]) -> AddressTaken:
    error = OSError(told["errno"], os.strerror(told["errno"]))
    return AddressTaken(told["setting"], Address(*told["address"]), error)


def _with_addresses(told: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no Address."""
    return told | {"grpc": Address(*told["grpc"]), "http": Address(*told["http"])}


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
