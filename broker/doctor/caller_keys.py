"""caller keys: whether the keys that callers' bearer tokens are verified by can be read, and can be used."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.adapters.identity.jwks import KeysNotRead, VerificationKey, parse_key_set
from broker.adapters.identity.key_sources import KeyFile, KeySource, KeyUrl
from broker.config import Settings, variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok
from broker.doctor.network import NotReached, Place, reached

JWT_KEYS: Final = variable_of("jwt_keys")
_URL_MARK: Final = "://"
# By KeysNotRead's kinds, where more can be said than "mend it".
_REMEDIES: Final = {
    "file_not_read": "let it name a file that the broker's account may read, or an https URL",
    "ca_file_not_read": f"let {variable_of('jwt_keys_ca_file')} name a PEM file of certificates",
    "bearer_file_malformed": f"let {variable_of('jwt_keys_token_file')} name a file with one token in it",
    "certificate_refused": f"let {variable_of('jwt_keys_ca_file')} name the authority of the keys' server",
    "status_401": f"its server wants a token: {variable_of('jwt_keys_token_file')}",
    "status_403": f"its server wants another token: {variable_of('jwt_keys_token_file')}",
    "no_usable_key": "none of its keys has a kid, is for signatures, and is RSA, EC or Ed25519",
    "kid_repeated": "two keys have the same kid: none of the set is believed",
}


def look(environment: Environment) -> Iterator[Finding]:
    """Read them once, as a broker does at its start."""
    settings = environment.settings
    if settings.jwt_keys is None:
        yield ok(f"{JWT_KEYS} is not set: callers show no bearer tokens")
        return
    try:
        source = _source(settings.jwt_keys, settings)
        keys = parse_key_set(asyncio.run(source.read()))
    except NotReached as error:
        yield fail(f"{JWT_KEYS}: {error.reason}", error.remedy)
    except ValueError as error:
        yield fail(f"{JWT_KEYS} {error}", "docs/secure.md tells what it may be")
    except KeysNotRead as error:
        remedy = _REMEDIES.get(error.kind, "mend it, or wait for its server: without keys nobody is let in")
        yield fail(f"{JWT_KEYS}: no keys ({error.kind})", remedy)
    else:
        yield _verdict(list(keys.values()), frozenset(settings.jwt_algorithms))


def _source(place: str, settings: Settings) -> KeySource:
    """Raises ValueError, and NotReached: the name is resolved here first, where nothing waits for it without end."""
    if _URL_MARK not in place:
        return KeyFile(Path(place))
    source = KeyUrl(
        place,
        ca_file=Path(settings.jwt_keys_ca_file) if settings.jwt_keys_ca_file else None,
        bearer_file=Path(settings.jwt_keys_token_file) if settings.jwt_keys_token_file else None,
    )
    reached(Place.of(place))
    return source


def _verdict(keys: list[VerificationKey], taken: frozenset[str]) -> Finding:
    usable = sum(bool(key.algorithms & taken) for key in keys)
    if usable:
        return ok(f"keys that can verify bearer tokens: {usable} of {len(keys)}")
    theirs = ", ".join(sorted(frozenset().union(*(key.algorithms for key in keys))))
    return fail(
        f"{JWT_KEYS}: none of its {len(keys)} keys is for an algorithm that is taken; they are for {theirs}",
        f"add the issuer's algorithm to {variable_of('jwt_algorithms')}",
    )
