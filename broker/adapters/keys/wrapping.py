"""Keysets wrapped by a KMS: the file holds the keyset encrypted by a key (the KEK) that never leaves the KMS.

The broker asks the KMS once, when it starts. Each KMS needs its own packages, an extra of Tink's and of ours.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

import tink
from tink import secret_key_access as tink_access

from broker.adapters.keys.cipher import TinkCipher
from broker.domain.secret import Secret

# Vault's transit takes no associated data by Tink's integration, and the others need none: the keyset is one thing.
_NO_CONTEXT: Final = b""


def cipher_of(keyset: Secret, kms_uri: str | None) -> TinkCipher:
    """The cipher of a keyset, unwrapped if `kms_uri` names the KEK. Raises ValueError as both do."""
    return TinkCipher(opened_keyset(keyset, kms_uri))


def opened_keyset(keyset: Secret, kms_uri: str | None) -> Secret:
    """The keyset in plain, unwrapped if `kms_uri` names the KEK.

    Raises:
        ValueError: it does not unwrap, or the KMS's packages are missing.
    """
    return unwrapped(keyset, kek_of(kms_uri)) if kms_uri else keyset


def unwrapped(keyset: Secret, kek: Any) -> Secret:
    """The keyset in plain. `kek`: a tink.aead.Aead.

    Raises:
        ValueError: it does not unwrap. Says what kind of error the KMS's client had, and not its text.
    """
    try:
        handle = tink.json_proto_keyset_format.parse_encrypted(keyset.reveal(), kek, _NO_CONTEXT)
        return Secret(tink.json_proto_keyset_format.serialize(handle, tink_access.TOKEN))
    except Exception as error:  # noqa: BLE001  # each KMS's client has errors of its own, imported here by none
        kind = _kind_of(error)
        raise ValueError(f"is no Tink keyset that the KMS unwraps with this key ({kind})") from None


def wrapped(keyset: Secret, kek: Any) -> Secret:
    """The keyset, encrypted by the KMS. Raises ValueError as `unwrapped` does."""
    handle = tink.json_proto_keyset_format.parse(keyset.reveal(), tink_access.TOKEN)
    try:
        return Secret(tink.json_proto_keyset_format.serialize_encrypted(handle, kek, _NO_CONTEXT))
    except Exception as error:  # noqa: BLE001  # as above
        raise ValueError(f"can't be wrapped by the KMS ({_kind_of(error)})") from None


def kek_of(kms_uri: str) -> Any:
    """The KEK that a URI names, as a tink.aead.Aead. Credentials are what the KMS's client finds by itself.

    aws-kms://arn:aws:kms:…, gcp-kms://projects/…/cryptoKeys/…, or hcvault://HOST[:PORT]/MOUNT/keys/NAME.

    Raises:
        ValueError: the URI is no such one, or the KMS's packages are missing.
    """
    scheme = kms_uri.partition("://")[0]
    if scheme not in _KMS:
        raise ValueError(
            f"must be kept by a KMS whose URI begins with one of {', '.join(map(_begins, _KMS))}"
        )
    extra, make = _KMS[scheme]
    try:
        return make(kms_uri)
    except ImportError:
        raise ValueError(f"needs the packages of {extra}: install envoy-token-broker[{extra}]") from None
    except Exception as error:  # noqa: BLE001  # as above
        raise ValueError(f"needs a KMS that can't be used so ({_kind_of(error)}): {scheme}://…") from None


def _aws(kms_uri: str) -> Any:
    return import_module("tink.integration.awskms").AwsKmsClient(kms_uri, None).get_aead(kms_uri)


def _google(kms_uri: str) -> Any:
    return import_module("tink.integration.gcpkms").GcpKmsClient(kms_uri, None).get_aead(kms_uri)


def _vault(kms_uri: str) -> Any:
    # hvac itself reads VAULT_TOKEN and VAULT_CACERT. Always HTTPS: the answer is the keyset.
    place = urlsplit(kms_uri)
    hvac, hcvault = import_module("hvac"), import_module("tink.integration.hcvault")
    return hcvault.new_aead(place.path, hvac.Client(url=f"https://{place.netloc}"))


_KMS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "aws-kms": ("awskms", _aws),
    "gcp-kms": ("gcpkms", _google),
    "hcvault": ("hcvault", _vault),
}


def _begins(scheme: str) -> str:
    return f"{scheme}://"


def _kind_of(error: Exception) -> str:
    """The class of the error that Tink may have wrapped. Its text may quote what was unwrapped."""
    inner = error.args[0] if error.args else None
    return type(inner if isinstance(inner, Exception) else error).__name__
