"""FakeHints: hints between the replicas of one world, which a test may lose."""

from collections.abc import Callable

from broker.domain.identifiers import InstallKey


class ReplicaHints:
    """The Hints port of one replica; `on_hint` hears what the others tell."""

    def __init__(self, hints: "FakeHints") -> None:
        self.on_hint: Callable[[InstallKey], None] = lambda _key: None
        self.on_health_hint: Callable[[str], None] = lambda _plugin_id: None
        self._hints = hints

    @property
    def are_heard(self) -> bool:
        """See Hints."""
        return self._hints.are_heard

    def tell(self, key: InstallKey) -> None:
        """See Hints."""
        self._hints.spread(self, lambda replica: replica.on_hint(key))

    def tell_health(self, plugin_id: str) -> None:
        """See Hints."""
        self._hints.spread(self, lambda replica: replica.on_health_hint(plugin_id))


class FakeHints:
    """What all replicas share.

    Attributes:
        are_lost: whether no hint arrives from now on.
        are_heard: whether the replicas believe that they do.
    """

    def __init__(self) -> None:
        self.are_lost = False
        self.are_heard = True
        self._replicas: list[ReplicaHints] = []

    def joined(self) -> ReplicaHints:
        """The end of a new replica."""
        replica = ReplicaHints(self)
        self._replicas.append(replica)
        return replica

    def spread(self, sender: ReplicaHints, hear: Callable[[ReplicaHints], None]) -> None:
        """Let the others hear."""
        if not self.are_lost:
            for replica in self._replicas:
                if replica is not sender:
                    hear(replica)
