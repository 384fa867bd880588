"""For how many records a batch of the audit trail waits. Pure.

A write costs as much as half a call, and gRPC hands out calls one by one: a batch that begins at once holds one record,
however many callers there are. Where calls overlap, a batch therefore waits for as many records as came together
lately, and not longer than GATHERING for those that don't come. Now and then it waits for more, and goes on growing as
long as they come. A caller that is alone never waits.
"""

from datetime import timedelta
from typing import Final

# The longest that the first record of a batch waits for others. uvloop counts in whole milliseconds.
GATHERING: Final = timedelta(milliseconds=2)
# After how many batches of one size a larger one is tried. Where nobody more comes, each trial costs GATHERING.
TRIED_EACH: Final = 32


class Crowd:
    """Attributes: expected: how many records to wait for."""

    def __init__(self) -> None:
        self.expected = 1
        self._until_trial = TRIED_EACH

    def overlaps(self) -> None:
        """A record came while others were being written."""
        self.expected = max(self.expected, 2)

    def begins(self, records: int) -> None:
        """A batch of that many begins."""
        if records < self.expected:
            self.expected, self._until_trial = records, TRIED_EACH
        elif records > 1:
            self._until_trial -= 1
            self.expected = records if self._until_trial > 0 else records + records // 2
