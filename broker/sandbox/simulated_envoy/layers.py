"""Which behaviour holds for which request: layers, of which the narrower and the shorter-lived win.

From the bottom: the defaults, all installs' standing layer, all installs' temporary layer, the install's
standing layer, the install's temporary layer. A layer says only what it names, so a one-off fault leaves
the rotation mode beneath it alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.simulated_envoy.behaviour import Behaviour, BehaviourChange


@dataclass
class _Scope:
    """The two layers of all installs, or of one."""

    standing: dict[str, Any] = field(default_factory=dict)
    temporary: dict[str, Any] = field(default_factory=dict)
    remaining: int = 0

    def fields(self) -> dict[str, Any]:
        """What this scope says now."""
        return self.standing | (self.temporary if self.remaining else {})

    def count_down(self) -> None:
        """One request has used the temporary layer."""
        self.remaining = max(0, self.remaining - 1)


class BehaviourLayers:
    """The behaviours set so far. ``None`` as an install id means all installs."""

    def __init__(self) -> None:
        self._scopes: dict[str | None, _Scope] = {None: _Scope()}

    def change(self, install_id: str | None, change: BehaviourChange) -> None:
        """Replaces the scope's standing layer, or its temporary one if the change says how long it lasts."""
        scope = self._scopes.setdefault(install_id, _Scope())
        if change.remaining is None:
            scope.standing = change.named_fields()
        else:
            scope.temporary, scope.remaining = change.named_fields(), change.remaining

    def clear(self, install_id: str | None) -> None:
        """Back to the layers beneath."""
        self._scopes[install_id] = _Scope()

    def take(self, install_id: str | None) -> Behaviour:
        """The behaviour for one token request, which uses up one of each temporary layer's requests."""
        behaviour = self.current(install_id)
        for scope in self._reaching(install_id):
            scope.count_down()
        return behaviour

    def current(self, install_id: str | None) -> Behaviour:
        """The behaviour that the next request would meet."""
        merged: dict[str, Any] = {}
        for scope in self._reaching(install_id):
            merged |= scope.fields()
        return Behaviour().model_copy(update=merged)

    def remaining(self, install_id: str | None) -> int | None:
        """How many requests this scope's own temporary layer still applies to. None: it has none."""
        return self._scopes.get(install_id, _Scope()).remaining or None

    def _reaching(self, install_id: str | None) -> Iterator[_Scope]:
        yield self._scopes[None]
        if install_id is not None and install_id in self._scopes:
            yield self._scopes[install_id]
