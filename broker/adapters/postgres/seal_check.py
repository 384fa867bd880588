"""Whether a broker's keyset opens what is stored: under a wrong one it must not serve, nor write over anything (F40).

A sample is opened. A key's sample of which nothing opens speaks against the keyset; a row that does not open beside
others of its key that do was moved or changed (F42): an alarm, and no reason to take every replica down.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.queries import QUERIES
from broker.adapters.postgres.resealing import COLUMNS, KeyedCipher, opens
from broker.adapters.postgres.rows import Row, key_of
from broker.ports import Clock

log = structlog.get_logger(__name__)

# From each end of what is due, and from the beginning of the table.
SAMPLE_ROWS: Final = 50
# Once the keyset has opened the sample. Until then every question is asked of the database.
LOOK_AGAIN_AFTER: Final = timedelta(minutes=1)


class SealCheck:
    """Answers readiness."""

    def __init__(self, connections: Connections, cipher: KeyedCipher, clock: Clock) -> None:
        self._connections = connections
        self._cipher = cipher
        self._clock = clock
        self._fine_until: datetime | None = None

    async def problem(self) -> str | None:
        """What is wrong with the keyset, naming keys by their ids; None if it opens what is stored.

        Raises:
            StoreUnavailable: nobody knows.
            Overloaded: likewise.
        """
        now = self._clock.now()
        if self._fine_until is not None and now < self._fine_until:
            return None
        async with self._connections.connection() as connection:
            cursor = await connection.execute(QUERIES["seal_samples"], {"limit": SAMPLE_ROWS})
            rows = await cursor.fetchall()
        wrong = self._wrong_keys(rows)
        self._fine_until = None if wrong else now + LOOK_AGAIN_AFTER
        if not wrong:
            return None
        return f"stored tokens don't open with this keyset: {'; '.join(wrong)} (docs/keys.md)"

    def _wrong_keys(self, rows: Sequence[Row]) -> list[str]:
        opened: defaultdict[int | None, list[bool]] = defaultdict(list)
        broken: list[tuple[Row, str, int | None]] = []
        for row in rows:
            for column in COLUMNS:
                if row[column] is not None:
                    key_id = self._cipher.sealed_by(row[column])
                    it_opens = opens(row, column, self._cipher)
                    opened[key_id].append(it_opens)
                    if not it_opens:
                        broken.append((row, column, key_id))
        wrong = {key_id for key_id, outcomes in opened.items() if not any(outcomes)}
        for row, column, key_id in broken:
            if key_id not in wrong:
                log.error("seal.broken", column=column, key_id=key_id, **key_of(row)._asdict())
        return [self._why(key_id) for key_id in sorted(wrong, key=str)]

    def _why(self, key_id: int | None) -> str:
        if key_id is None:
            return "some name no key (see `keys abandon broken`)"
        if key_id not in self._cipher.key_ids:
            return f"key {key_id} is not in it"
        return f"what key {key_id} has sealed was changed, or moved; or the key was"
