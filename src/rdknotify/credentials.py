"""Who we are to the brokers: user and password out of the URL, a file, or the environment.

The user name comes from the first of these that has one, in this order; the password from the first that has one and
does not belong to another user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdknotify.errors import ConfigError
from rdknotify.url import TransportURL

__all__ = ["PASSWORD_VARIABLE", "USERNAME_VARIABLE", "Credentials", "find", "read"]

USERNAME_VARIABLE = "RDKNOTIFY_USERNAME"
PASSWORD_VARIABLE = "RDKNOTIFY_PASSWORD"
_NAMES = ("username", "password")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password; either may be missing. ``repr`` does not show the password."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def completed(self, other: Credentials) -> Credentials:
        """These, and from the other what is missing, unless it belongs to another user."""
        if None not in (self.username, other.username) and self.username != other.username:
            return self
        password = other.password if self.password is None else self.password
        return Credentials(self.username or other.username, password)


def find(url: TransportURL, file: str | None, environ: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials of a client; ``file`` is what the option ``credentials_file`` names. Raises ConfigError."""
    found = Credentials(url.username, url.password)
    if file is not None:
        found = found.completed(read(file))
    return found.completed(Credentials(environ.get(USERNAME_VARIABLE) or None, environ.get(PASSWORD_VARIABLE)))


def read(place: str) -> Credentials:
    """What a file, or a folder with a file for each name, says; the last newline of a value is not part of it.

    Raises ConfigError, which shows no content.
    """
    path = Path(place)
    try:
        if path.is_dir():
            files = {name: path / name for name in _NAMES}
            values = {name: _text(file) for name, file in files.items() if file.exists()}
        else:
            values = _parse(_text(path), place)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"option credentials_file={place}: it cannot be read: {reason}") from None
    if not values.get("password"):
        raise ConfigError(
            f"option credentials_file={place}: no password there; it is a file with the lines username=... and "
            "password=..., or a folder with files of these names"
        )
    return Credentials(values.get("username") or None, values["password"])


def _text(path: Path) -> str:
    return path.read_text("utf-8").removesuffix("\n").removesuffix("\r")


def _parse(text: str, place: str) -> dict[str, str]:
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or name.strip() not in _NAMES:
            raise ConfigError(f"option credentials_file={place}: line {number} is not username=... or password=...")
        values[name.strip()] = value.strip()
    return values
