"""What stands in a certificate: names, issuer, expiry. Python's ssl tells that only of one it trusts.

Pure: reads the DER form (X.690, RFC 5280) as far as that takes.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

__all__ = ["Certificate", "read", "read_pem"]

_COMMON_NAME, _ORGANIZATION, _UNIT = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b"
_SHOWN = {_COMMON_NAME: "CN", _ORGANIZATION: "O", _UNIT: "OU"}
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_SEQUENCE, _OID, _OCTETS, _UTC_TIME = 0x30, 0x06, 0x04, 0x17
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_PEM = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """Names of hosts and addresses it is for (the common name where it lists none), subject, issuer, its time."""

    names: tuple[str, ...]
    subject: str
    issuer: str
    begins: datetime
    ends: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative afterwards."""
        return (self.ends - datetime.now(timezone.utc)).days


def read(der: bytes) -> Certificate:
    """Read it. Raises ValueError for what is no X.509 certificate."""
    try:
        ((_, certificate),) = _parts(der)
        _, signed = next(_parts(certificate))
        fields = [part for part in _parts(signed) if part[0] != _VERSION]
        # Serial number, algorithm, issuer, validity, subject, key, then what is optional.
        issuer, validity, subject = fields[2][1], fields[3][1], fields[4][1]
        begins, ends = (_time(*part) for part in _parts(validity))
        extensions = next((content for tag, content in fields[6:] if tag == _EXTENSIONS), b"")
        names = tuple(_alternative_names(extensions)) or tuple(
            value for kind, value in _attributes(subject) if kind == _COMMON_NAME
        )
        return Certificate(names, _distinguished(subject), _distinguished(issuer), begins, ends)
    except (IndexError, StopIteration, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"not a certificate: {error}") from None


def read_pem(text: str) -> Certificate:
    """The first certificate of a PEM text. Raises ValueError where there is none."""
    found = _PEM.search(text)
    if found is None:
        raise ValueError("no PEM certificate")
    return read(base64.b64decode(found[1]))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, one after the other."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise ValueError("not a certificate: it is cut off")
        yield tag, data[at : at + size]
        at += size


def _attributes(name: bytes) -> Iterator[tuple[bytes, str]]:
    for _, group in _parts(name):
        for _, attribute in _parts(group):
            (_, kind), (_, value) = _parts(attribute)
            yield kind, value.decode("utf-8", "replace")


def _distinguished(name: bytes) -> str:
    return ", ".join(f"{_SHOWN[kind]}={value}" for kind, value in _attributes(name) if kind in _SHOWN)


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # years 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, listed in _parts(extensions):
        for _, extension in _parts(listed):
            fields = list(_parts(extension))
            if fields[0] == (_OID, _ALTERNATIVE_NAMES) and fields[-1][0] == _OCTETS:
                ((_, names),) = _parts(fields[-1][1])
                for tag, value in _parts(names):
                    if tag == _DNS_NAME:
                        yield value.decode("ascii", "replace")
                    elif tag == _IP_ADDRESS:
                        yield str(ipaddress.ip_address(value))
