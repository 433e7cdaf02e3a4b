"""Certificates for tests: an authority of its own, good and bad brokers' certificates, clients' by name."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rdknotify.testing.jars import LocalKafkaError
from rdknotify.testing.process import HOST

if TYPE_CHECKING:
    import trustme

__all__ = ["Authority", "KeyPair", "require"]


def require(library: str) -> None:
    """Raise LocalKafkaError where a library of the extra ``testing`` is missing."""
    if find_spec(library) is None:
        raise LocalKafkaError(f"the library {library} is missing: pip install 'rdknotify[testing]'")


@dataclass(frozen=True)
class KeyPair:
    """Files of a certificate and its key (PEM, PKCS 8), as clients take them."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority that writes what it signs into ``folder``. Not thread-safe.

    Needs the library trustme (``pip install 'rdknotify[testing]'``), else raises LocalKafkaError.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        require("trustme")
        import trustme

        self._folder = folder
        self._name = name
        self._signer = trustme.CA(organization_name=f"rdknotify tests, {name}")
        self.file = folder / f"{name}.pem"
        folder.mkdir(parents=True, exist_ok=True)
        self._signer.cert_pem.write_to_path(str(self.file))

    @property
    def pem(self) -> str:
        """The authority's own certificate."""
        return self._signer.cert_pem.bytes().decode()

    def broker(self, *, host: str = HOST, expired: bool = False) -> dict[str, object]:
        """Broker settings with a certificate for ``host`` (and localhost, if it is 127.0.0.1)."""
        names = (host, "localhost") if host == HOST else (host,)
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        end = now - day if expired else now + 30 * day
        leaf = self._signer.issue_cert(*names, common_name=host, not_before=now - 30 * day, not_after=end)
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": _one_line(_pkcs8(leaf)),
            "ssl.keystore.certificate.chain": _one_line(leaf.cert_chain_pems[0].bytes()),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": _one_line(self.pem.encode()),
        }

    def client(self, name: str, password: str | None = None) -> KeyPair:
        """A new client certificate with that common name; its key is encrypted where a password is given."""
        leaf = self._signer.issue_cert(name, common_name=name)  # Java refuses an empty list of names
        stem = f"{self._name}-{name}{'-encrypted' if password else ''}"
        pair = KeyPair(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        leaf.cert_chain_pems[0].write_to_path(str(pair.certificate))
        pair.key.write_bytes(_pkcs8(leaf, password))
        pair.key.chmod(0o600)
        return pair


def _pkcs8(leaf: trustme.LeafCert, password: str | None = None) -> bytes:
    """The key in the one form that Java reads; trustme writes another."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _one_line(pem: bytes) -> str:
    """As a value in a file of Java properties."""
    return pem.decode().strip().replace("\n", "\\n")
