"""Reads settings from TOKEN_BROKER_* variables.

Every bad value is reported at once, before anything starts. A secret may stand in a file:
TOKEN_BROKER_X_FILE in place of TOKEN_BROKER_X. A name that nobody knows is refused: a misspelt setting must
not silently be a default.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from broker.config.contradictions import PREFIX, contradictions
from broker.config.settings import Settings
from broker.domain.secret import Secret

FILE_SUFFIX: Final = "_FILE"
# Variables with our prefix that are no settings of `serve`.
OTHER_VARIABLES: Final = frozenset(
    {
        "TOKEN_BROKER_ADDRESS",
        "TOKEN_BROKER_BEARER_FILE",
        "TOKEN_BROKER_CERTIFICATES",
        "TOKEN_BROKER_POSTGRES_BIN",
        "TOKEN_BROKER_SANDBOX_ENVOY_ADDRESS",
    }
)
_ANY_TYPE: Final = ConfigDict(arbitrary_types_allowed=True)


# Raises ValueError, whose text says what is wrong with the value and does not hold it.
Check = Callable[[Any], object]


class SettingsError(Exception):
    """Settings that can't be. Attributes: problems: one line each, by the variable's name, never its value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(environ: Mapping[str, str], checks: Mapping[str, Check] | None = None) -> Settings:
    """The settings in `environ`. `checks` judge settings by name where this module can't: see `Check`.

    Raises:
        SettingsError: with every problem there is.
    """
    problems: list[str] = []
    raw = _read(environ, problems)
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if name not in raw:
            if field.is_required():
                problems.append(f"{variable_of(name)} must be set")
            else:
                values[name] = field.default
            continue
        try:
            kind: Any = field.rebuild_annotation()
            values[name] = TypeAdapter(kind, config=_ANY_TYPE).validate_python(raw[name])
            if checks and name in checks:
                checks[name](values[name])
        except ValidationError as error:
            problems.extend(_lines(name, error))
        except ValueError as error:
            problems.append(f"{variable_of(name)} {error}")
    problems.extend(contradictions(values))
    if problems:
        raise SettingsError(problems)
    return Settings.model_construct(**values)


def secret_setting(name: str, environ: Mapping[str, str]) -> Secret:
    """One secret setting by itself, from its variable or its file, for a command that needs no other.

    Raises:
        SettingsError: it is missing, or its file can't be read.
    """
    variable = variable_of(name)
    own = {key: environ[key] for key in (variable, variable + FILE_SUFFIX) if key in environ}
    problems: list[str] = []
    text = _read(own, problems).get(name)
    if problems or not text:
        raise SettingsError(problems or [f"{variable} must be set"])
    return Secret(text)


def variable_of(name: str) -> str:
    """The variable that sets `name`."""
    return PREFIX + name.upper()


def _lines(name: str, error: ValidationError) -> list[str]:
    """Pydantic's findings, without the values it would quote."""
    lines = []
    for finding in error.errors(include_url=False, include_context=False, include_input=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in finding["loc"])
        lines.append(f"{variable_of(name)}{place}: {finding['msg'].removeprefix('Value error, ')}")
    return lines


def _read(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """The settings that are there, as text, secrets' files read."""
    raw: dict[str, Any] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in Settings.model_fields:
            raw[name] = environ[variable]
        elif name.endswith(FILE_SUFFIX.lower()) and _may_be_a_file(name.removesuffix(FILE_SUFFIX.lower())):
            base = name.removesuffix(FILE_SUFFIX.lower())
            if variable_of(base) in environ:
                problems.append(f"{variable} and {variable_of(base)} are both set; keep one")
            text = _text_of(environ[variable], variable, problems)
            if text is not None:
                raw[base] = text
        else:
            problems.append(f"{variable} is no setting{_suggestion(variable)}")
    if "apps" in raw:
        apps = _parse_apps(raw["apps"], problems)
        if apps is None:
            del raw["apps"]
        else:
            raw["apps"] = apps
    return raw


def _may_be_a_file(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and not field.repr


def _suggestion(variable: str) -> str:
    known = [variable_of(name) for name in Settings.model_fields]
    close = difflib.get_close_matches(variable, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _text_of(path: str, variable: str, problems: list[str]) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        problems.append(f"{variable}: the file can't be read: {reason}")
        return None


def _parse_apps(text: str, problems: list[str]) -> list[Any] | None:
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(f"{PREFIX}APPS must be a JSON list of objects")
        return None
    for index, entry in enumerate(entries):
        for name in ("client_secret", "previous_client_secret"):
            _read_secret_of_app(entry, name, f"{PREFIX}APPS[{index}]", problems)
    return entries


def _read_secret_of_app(entry: dict[str, Any], name: str, place: str, problems: list[str]) -> None:
    """Put the content of the file that `entry` names in the place of its name, if it names one."""
    path = entry.pop(f"{name}_file", None)
    if path is not None and name in entry:
        problems.append(f"{place} has {name} and {name}_file; keep one")
    elif path is not None and not isinstance(path, str):
        problems.append(f"{place}.{name}_file must be a path")
    elif path is not None:
        entry[name] = _text_of(path, f"{place}.{name}_file", problems) or ""
