"""For how many records a batch of the audit trail waits."""

from broker.adapters.audit.crowd import TRIED_EACH, Crowd


def crowd_of(records: int) -> Crowd:
    """One whose last batch held that many."""
    crowd = Crowd()
    crowd.begins(records)
    return crowd


def test_caller_alone_never_waits() -> None:
    """However many calls it makes, one after the other: none of them would have had company."""
    crowd = Crowd()
    for _ in range(3 * TRIED_EACH):
        crowd.begins(1)
        assert crowd.expected == 1


def test_calls_that_overlap_wait_for_each_other() -> None:
    """A write for each of them would cost more than the calls do."""
    crowd = Crowd()
    crowd.overlaps()
    assert crowd.expected == 2


def test_batch_waits_for_as_many_as_came_together_lately() -> None:
    """And no longer, so that few callers don't wait for others that do not exist."""
    crowd = crowd_of(5)
    assert crowd.expected == 5
    crowd.begins(3)
    assert crowd.expected == 3
    crowd.overlaps()
    assert crowd.expected == 3


def test_larger_batch_is_tried_now_and_then_and_grows_as_long_as_they_come() -> None:
    """A crowd is found within a few batches; where there is none, one in many waits in vain."""
    crowd = Crowd()
    for _ in range(TRIED_EACH):
        crowd.begins(2)
    sizes = []
    for _ in range(4):
        sizes.append(crowd.expected)
        crowd.begins(crowd.expected)
    assert sizes == [3, 4, 6, 9]
    crowd.begins(8)
    for _ in range(TRIED_EACH - 1):
        assert crowd.expected == 8
        crowd.begins(8)
