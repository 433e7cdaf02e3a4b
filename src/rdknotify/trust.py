"""Whose certificates count where nobody says: what the environment names, else the system's store, else certifi's.

OpenSSL alone looks where it was built to look, which fits no distribution when it came in a wheel. The places are those
that Go's crypto/x509 and librdkafka's ``probe`` know.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rdknotify.errors import ConfigError

__all__ = ["Store", "find"]

_BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "etc/pki/tls/certs/ca-bundle.crt",  # RHEL, Fedora
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # the same, where compatible names are gone
    "etc/ssl/ca-bundle.pem",  # SUSE
    "var/lib/ca-certificates/ca-bundle.pem",  # the same, where /etc is bare
    "etc/ssl/cert.pem",  # FreeBSD, macOS
    "usr/local/etc/ssl/cert.pem",  # FreeBSD's ports
)
_FOLDERS = (
    "etc/ssl/certs",
    "etc/pki/tls/certs",
    "etc/pki/ca-trust/extracted/pem/directory-hash",
    "var/lib/ca-certificates/openssl",
)
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
"""How a file is called by which OpenSSL finds a certificate in a folder."""
_BEGINS = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
# Without those that say what they are trusted for: where certificates are given as text, that would be lost.
_CERTIFICATE = re.compile(rb"-----BEGIN (X509 |)CERTIFICATE-----[\s\w+/=]+-----END \1CERTIFICATE-----")


class Store(NamedTuple):
    """Certificates of authorities: exactly one of a PEM file, a folder with hashed names, or the PEM text itself."""

    file: str | None = None
    folder: str | None = None
    text: str | None = None

    def properties(self, of: str) -> dict[str, str]:
        """As librdkafka's properties, of ``ssl`` (brokers) or ``https`` (token servers)."""
        return {f"{of}.ca.pem": self.text} if self.text else {f"{of}.ca.location": self.file or self.folder or ""}


def find(explicit: str, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Store:
    """The certificates that count where ``explicit``, the option that names them, is not set.

    Whatever ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name counts, together, and takes the place of the system's store,
    which is looked for below ``root``. Raises ConfigError where there is nothing, or not what the environment names.
    """
    if environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR"):
        return _named(environ)
    for found in _candidates(root):
        if found is not None:
            return found
    raise ConfigError(
        f"option {explicit}: it is not set, and this system has no certificates of authorities, so nobody could be "
        f"trusted: install the package ca-certificates, or give {explicit}, or name a PEM file in SSL_CERT_FILE, or "
        "pip install certifi"
    )


def _named(environ: Mapping[str, str]) -> Store:
    file, folders = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR") or ""
    if file and (wrong := _wrong(Path(file))):
        raise ConfigError(f"SSL_CERT_FILE={file}: {wrong}: name a PEM file of certificates, or unset it")
    # A list, of which those count that are there: many set it for several distributions at once.
    found = [Path(each) for each in folders.split(os.pathsep) if each and os.path.isdir(each)]
    if not found and file:
        return Store(file=file)
    if not file and len(found) == 1 and _is_hashed(found[0]):
        return Store(folder=str(found[0]))
    files = [path for folder in found for path in _files(folder)]
    text = _text([*([Path(file)] if file else []), *files])
    if not text:
        raise ConfigError(f"SSL_CERT_DIR={folders}: no certificates there: name a folder of PEM files, or unset it")
    return Store(text=text)


def _candidates(root: Path) -> Iterator[Store | None]:
    for name in _BUNDLES:
        yield _bundle(root / name)
    for name in _FOLDERS:
        yield _folder(root / name)
    import ssl  # only now: it takes 10 ms

    built_in = ssl.get_default_verify_paths()  # of the OpenSSL of this Python, as in Conda, Nix, Homebrew
    yield _bundle(root / built_in.openssl_cafile.lstrip("/"))
    yield _folder(root / built_in.openssl_capath.lstrip("/"))
    yield _certifi()


def _certifi() -> Store | None:
    try:
        import certifi
    except ImportError:
        return None
    return Store(file=certifi.where())


def _bundle(path: Path) -> Store | None:
    return None if _wrong(path) else Store(file=str(path))


def _folder(path: Path) -> Store | None:
    return Store(folder=str(path)) if _is_hashed(path) else None


def _wrong(bundle: Path) -> str | None:
    """Why that is no file of certificates, None where it is."""
    try:
        return None if _BEGINS.search(bundle.read_bytes()) else "it has no PEM certificates"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _is_hashed(folder: Path) -> bool:
    try:
        return any(_HASHED.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return False


def _files(folder: Path) -> list[Path]:
    """The files of a folder that count: by their names as for OpenSSL, or all where none is named so."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in [name for name in names if _HASHED.fullmatch(name)] or names]


def _text(files: list[Path]) -> str:
    """The certificates of these files, each once."""
    found: dict[bytes, None] = {}
    for path in files:
        if path.is_file():
            try:
                found |= dict.fromkeys(each[0] for each in _CERTIFICATE.finditer(path.read_bytes()))
            except OSError:
                continue
    return "".join(f"{each.decode('ascii')}\n" for each in found)
