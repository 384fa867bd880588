"""The environment that is looked at: the variables, whatever settings can be read of them, and the database."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from broker.adapters.postgres.connections import check_database_url
from broker.config import Settings, SettingsError, load_settings, variable_of
from broker.doctor.findings import NotLooked
from broker.doctor.sessions import Session

# What libpq can't read must not reach psycopg, whose errors may quote it.
_CHECKED: Final[Mapping[str, Callable[[Any], object]]] = {
    "database_url": check_database_url,
    "database_direct_url": check_database_url,
}


class Environment:
    """What a broker would start with. Attributes: session: a connection to the database, made by whoever asks first."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Reads nothing yet: a secret's file may keep its reader waiting, and that is a check's time."""
        self.variables = variables
        self.session = Session(lambda: self.settings.database_url, lambda: self.settings.database_seconds)
        self._lock = threading.Lock()
        self._read: _Read | None = None

    @property
    def problems(self) -> list[str]:
        """Why a broker would not start, by the settings alone."""
        return self._once_read().problems

    @property
    def settings(self) -> Settings:
        """Those that can be read. Asking for another raises NotLooked."""
        return self._once_read().settings

    def _once_read(self) -> "_Read":
        with self._lock:
            self._read = self._read or _read(self.variables)
            return self._read


class _Read(NamedTuple):
    problems: list[str]
    settings: Settings


def _read(variables: Mapping[str, str]) -> _Read:
    problems: list[str] = []
    values: dict[str, Any] = {}
    try:
        load_settings(variables, {name: _keeper(name, values) for name in Settings.model_fields})
    except SettingsError as error:
        problems = error.problems
    # It has the names and the types of Settings, whose own construction would put defaults for what is broken.
    return _Read(problems, cast("Settings", _Readable({**_defaults(variables), **values})))


class _Readable:
    """Settings of which some can't be read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in Settings.model_fields:
            raise NotLooked(f"{variable_of(name)} can't be used; see configuration")
        raise AttributeError(name)


def _keeper(name: str, values: dict[str, Any]) -> Callable[[Any], None]:
    """Judges one setting, as load_settings lets its caller do, and keeps it if it is good."""

    def keep(value: Any) -> None:
        if name in _CHECKED and value is not None:
            _CHECKED[name](value)
        values[name] = value

    return keep


def _defaults(variables: Mapping[str, str]) -> dict[str, Any]:
    """The values of the settings that nobody has set. One that is set and broken has none."""
    return {
        name: field.default
        for name, field in Settings.model_fields.items()
        if not field.is_required() and not {variable_of(name), variable_of(f"{name}_file")} & variables.keys()
    }
