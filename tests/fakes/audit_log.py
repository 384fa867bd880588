"""FakeAuditLog: what is on record, in a list."""

from datetime import timedelta
from typing import Final

from broker.domain.audit import AuditRecord
from broker.domain.errors import AuditUnavailable
from broker.domain.secret import Secret
from tests.fakes.steps import turn

COME_BACK: Final = timedelta(seconds=1)


class FakeAuditLog:
    """The AuditLog port. Attributes: records: in the order of writing. refuses: whether a write fails from now on."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.refuses = False
        self._fingerprints: dict[Secret, str] = {}

    async def write(self, record: AuditRecord) -> None:
        """See AuditLog; others may run meanwhile, as they do while a disk is written to."""
        await turn()
        if self.refuses:
            raise AuditUnavailable("a test has said so", COME_BACK)
        self.records.append(record)

    def fingerprint(self, token: Secret) -> str:
        """See AuditLog. Counts the tokens that it has seen, so that no token can be told from it."""
        return self._fingerprints.setdefault(token, f"fingerprint-{len(self._fingerprints) + 1}")
