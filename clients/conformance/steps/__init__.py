"""What the steps of a scenario do: each function is a verb of the table, listed in ../README.md."""

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Final

from clients.conformance.stage import Stage
from clients.conformance.steps import asking, calls, envoy, watching, wire
from clients.conformance.table import Step

Verb = Callable[[Stage, Step], Awaitable[None]]


def _verbs_of(module: ModuleType) -> dict[str, Verb]:
    found = inspect.getmembers(module, inspect.iscoroutinefunction)
    return {name: verb for name, verb in found if verb.__module__ == module.__name__ and name[0] != "_"}


VERBS: Final[dict[str, Verb]] = {
    name: verb
    for module in (asking, calls, envoy, watching, wire)
    for name, verb in _verbs_of(module).items()
}
