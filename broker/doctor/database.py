"""database: whether it can be connected to, how, and whether it is one that a broker can work with."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from broker.config import variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn
from broker.doctor.sessions import connect
from broker.domain.token_url import is_loopback

OLDEST_SERVER: Final = 15
NEWEST_SERVER: Final = 18
DATABASE_URL: Final = variable_of("database_url")
DIRECT_URL: Final = variable_of("database_direct_url")
# How libpq is told to see whose certificate the server shows (libpq, sslmode).
VERIFYING: Final = frozenset({"verify-ca", "verify-full"})

_MAJOR: Final = 10_000
_STATE: Final = """
SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       current_setting('synchronous_commit')
"""
_WHICH: Final = "SELECT current_database(), pg_postmaster_start_time()"
# What libpq and the server say when no connection comes about, and what to do. Their own texts name the user and the
# host, and of a URL with a badly written password these are parts of it.
_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "password authentication failed": (
        "the server refuses the user's password",
        "give the URL the password of that role",
    ),
    "no password supplied": ("the server asks for a password, and the URL has none", "put it into the URL"),
    "no pg_hba.conf entry": (
        "the server lets this user in from here by no rule of its pg_hba.conf",
        "add a rule there, or use TLS if it asks for that",
    ),
    "too many clients": (
        "the server has no connection left",
        "raise its max_connections, or let each replica open fewer (see pool)",
    ),
    "too many connections": (
        "the role or the database has no connection left of those it may have",
        "raise its CONNECTION LIMIT, or let each replica open fewer (see pool)",
    ),
    "remaining connection slots": (
        "the server has no connection left for ordinary roles",
        "raise its max_connections, or let each replica open fewer (see pool)",
    ),
    "the database system is": (
        "the server is starting, stopping or recovering",
        "wait for it, and ask again",
    ),
    "does not exist": (
        "the server knows no such role or database",
        "create it, or mend its name in the URL",
    ),
    "certificate verify failed": (
        "the server's certificate is not believed",
        "let the URL's sslrootcert name the authority that issued it",
    ),
    "does not support SSL": (
        "the server speaks no TLS, and the URL asks for it",
        "switch the server's ssl on",
    ),
    "Connection refused": (
        "nobody listens at its address",
        "start the server, or mend host and port in the URL",
    ),
    "timeout expired": (
        "no answer within the time that was given it",
        "look for a firewall in between, or a server that hangs",
    ),
    "resolve host": ("its host's name is not found", "mend the host in the URL, or the name server"),
    "Name or service not known": (
        "its host's name is not found",
        "mend the host in the URL, or the name server",
    ),
    "No such file": ("no server has its socket there", "start the server, or mend the host in the URL"),
    "No route": ("no way leads to its host", "look at the network between here and there"),
    "unreachable": ("no way leads to its host", "look at the network between here and there"),
}


def look(environment: Environment) -> Iterator[Finding]:
    """Connect, and ask what it is."""
    try:
        connection = environment.session.connected()
    except psycopg.Error as error:
        yield _unreachable(DATABASE_URL, error)
        return
    yield _speed(environment.session.took, environment.settings.database_seconds)
    yield _version(connection.info.server_version // _MAJOR)
    yield _tls(connection, environment.settings.database_url.reveal())
    yield from _state(*environment.session.row(_STATE))
    yield from _direct(environment)


def _unreachable(setting: str, error: psycopg.Error) -> Finding:
    text = str(error)
    for said, (reason, remedy) in _REASONS.items():
        if said in text:
            return fail(f"{setting}: {reason}", remedy)
    return fail(
        f"{setting}: no connection ({type(error).__name__})",
        "try it with psql, whose words may quote the URL and so are not repeated here",
    )


def _speed(took: timedelta, patience: timedelta) -> Finding:
    text = f"{DATABASE_URL}: connected in {took / timedelta(milliseconds=1):.0f} ms"
    if took <= patience:
        return ok(text)
    setting = variable_of("database_seconds")
    return fail(
        f"{text}, and {setting} leaves {patience.total_seconds():g} s for it and the work together",
        f"find out why the database is slow, or raise {setting}",
    )


def _version(version: int) -> Finding:
    if version < OLDEST_SERVER:
        return fail(f"Postgres {version} is too old", f"bring it to {OLDEST_SERVER} or newer")
    if version > NEWEST_SERVER:
        return warn(
            f"Postgres {version} is newer than what this release is tested with",
            f"try it out first; tested are {OLDEST_SERVER} to {NEWEST_SERVER}",
        )
    return ok(f"Postgres {version}")


def _tls(connection: psycopg.Connection[Any], url: str) -> Finding:
    host = connection.info.host
    if not connection.pgconn.ssl_in_use:
        if host.startswith("/") or is_loopback(host):
            return ok("in the clear, and does not leave this machine")
        return warn(
            "in the clear, and leaves this machine: the role's password hash and sealed tokens can be read on the way",
            "put sslmode=verify-full into the URL, with sslrootcert if its authority is your own",
        )
    mode = conninfo_to_dict(url).get("sslmode", "prefer")
    if mode in VERIFYING:
        return ok(f"by TLS, and the server's certificate is verified (sslmode={mode})")
    return warn(
        f"by TLS, but to whichever server answers (sslmode={mode})",
        "put sslmode=verify-full into the URL, with sslrootcert if its authority is your own",
    )


def _state(in_recovery: bool, read_only: bool, synchronous: str) -> Iterator[Finding]:
    if in_recovery or read_only:
        yield fail(
            "it takes no writes: a standby, or read-only by default",
            "point the URL to the primary; target_session_attrs=read-write finds it among several hosts",
        )
    if synchronous == "off":
        yield warn(
            "synchronous_commit is off: a crash may forget that a refresh token was being spent",
            'set it to on, at least for this role (docs/serve.md, "A database that fails over")',
        )


def _direct(environment: Environment) -> Iterator[Finding]:
    """The way around a pooler, which must lead to the same database."""
    settings = environment.settings
    if settings.database_direct_url is None:
        return
    try:
        with connect(settings.database_direct_url, settings.database_seconds) as direct:
            theirs = direct.execute(_WHICH).fetchone()
    except psycopg.Error as error:
        yield _unreachable(DIRECT_URL, error)
        return
    if theirs == environment.session.row(_WHICH):
        yield ok(f"{DIRECT_URL}: leads to the same database")
    else:
        yield fail(
            f"{DIRECT_URL}: leads to another database", "let both lead to the same, one past the pooler"
        )
