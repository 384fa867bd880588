"""One connection for all checks of the database, made by whoever asks first; the others wait for it.

Its statements change nothing, and none is prepared or set for the session: a pooler may stand in between.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors

from broker.doctor.findings import NotLooked
from broker.domain.secret import Secret

# Longer nobody waits here, whatever patience the broker has.
LONGEST_CONNECT: Final = timedelta(seconds=8)
# libpq takes whole seconds, and no fewer.
SHORTEST_CONNECT: Final = timedelta(seconds=2)


class Session:
    """The connection. Attributes: took: how long connecting took."""

    def __init__(self, url: Callable[[], Secret], patience: Callable[[], timedelta]) -> None:
        """`url`, `patience`: may raise NotLooked."""
        self._url = url
        self._patience = patience
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._error: psycopg.Error | None = None
        self.took = timedelta(0)

    def connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The connection.

        Raises:
            NotLooked: a setting that it takes can't be read.
            psycopg.Error: the database can't be connected to.
        """
        with self._lock:
            if self._connection is None and self._error is None:
                began = time.monotonic()
                try:
                    self._connection = connect(self._url(), self._patience())
                except psycopg.Error as error:
                    self._error = error
                self.took = timedelta(seconds=time.monotonic() - began)
        if self._connection is None:
            raise self._error or NotLooked("the database was not connected to")
        return self._connection

    def close(self) -> None:
        """End it, when nobody asks any more."""
        if self._connection is not None:
            self._connection.close()

    def rows(self, statement: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What the database answers.

        Raises:
            NotLooked: it can't be connected to, or the role may not ask that, which other checks tell.
            psycopg.Error: it refuses otherwise.
        """
        try:
            connection = self.connected()
        except psycopg.Error:
            raise NotLooked("the database can't be connected to; see database") from None
        try:
            return connection.execute(statement, parameters or None).fetchall()
        except errors.InsufficientPrivilege:
            raise NotLooked("the role may not look there; see role") from None

    def row(self, statement: LiteralString, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
        """The only row of what it answers. Raises as `rows`."""
        (only,) = self.rows(statement, parameters)
        return only


def connect(url: Secret, patience: timedelta) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit, within the patience. Raises psycopg.Error."""
    bound = min(max(patience, SHORTEST_CONNECT), LONGEST_CONNECT)
    return psycopg.connect(
        url.reveal(),
        connect_timeout=math.ceil(bound.total_seconds()),
        autocommit=True,
        prepare_threshold=None,
    )
