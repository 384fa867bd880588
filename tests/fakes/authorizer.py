"""FakeAuthorizer: a policy that a test says line by line."""

from broker.domain.callers import Caller, Operation, Subject

# (caller's name, operation, plugin id, install id); the install id is "" for the app as a whole.
Line = tuple[str, Operation, str, str]


class FakeAuthorizer:
    """The Authorizer port. Attributes: asked: what it was asked, in order, so that a test sees what was remembered."""

    def __init__(self, *lines: Line) -> None:
        self.asked: list[Line] = []
        self._lines = set(lines)
        self._number = 1

    @property
    def version(self) -> str:
        """See Authorizer."""
        return f"policy-{self._number}"

    def give(self, *lines: Line) -> None:
        """Another policy comes into force, which gives these too."""
        self._lines.update(lines)
        self._number += 1

    def take(self, *lines: Line) -> None:
        """Another policy comes into force, which gives these no more."""
        self._lines.difference_update(lines)
        self._number += 1

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:
        """See Authorizer."""
        line = (caller.name, operation, subject.plugin_id, subject.install_id)
        self.asked.append(line)
        return line in self._lines
