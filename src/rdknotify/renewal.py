"""Credentials that change while a client works: tokens that expire, and a password's file that is written anew."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdknotify import _rdknotify as core
from rdknotify import credentials, events
from rdknotify.errors import ClosedError, ConfigError, RdNotifyError, TokenError
from rdknotify.logged import error_name, tell
from rdknotify.options import Settings

if TYPE_CHECKING:  # whoever uses no tokens need not load the standard library's HTTP
    from rdknotify.oauth import OAuthToken, TokenSource

__all__ = ["keep"]

log = logging.getLogger(__name__)


def keep(client_events: events.ClientEvents, handle: core.Client, settings: Settings) -> None:
    """Look after the credentials of a client; before its events are watched, for the first may want a token."""
    if settings.conf.get("sasl.mechanism") == "OAUTHBEARER":
        source = _token_source(settings.values)
        if source is not None:  # else librdkafka makes tokens for tests by itself
            client_events.token_wanted = _Tokens(source, handle, client_events).renew
    file = settings.values["credentials_file"]
    if file is not None and settings.url.password is None:
        client_events.kept = _PasswordFile(file, handle, client_events, settings)
        events.every_tick(client_events.kept)


def _token_source(values: Any) -> TokenSource | None:
    if values["oauth_token"] is not None or values["oauth_token_url"] is None:
        source: TokenSource | None = values["oauth_token"]
        return source
    from rdknotify.oauth import ClientCredentials

    secret = values["oauth_client_secret"]
    if secret is None:
        secret = Path(values["oauth_client_secret_file"])
    return ClientCredentials(values["oauth_token_url"], values["oauth_client_id"], secret, scope=values["oauth_scope"])


class _Tokens:
    """Gets a token when librdkafka wants one, in a thread each time: the callable may take as long as it likes."""

    def __init__(self, source: TokenSource, handle: core.Client, client_events: events.ClientEvents) -> None:
        self._source = source
        self._handle = weakref.ref(handle)
        self._events = client_events

    def renew(self) -> None:
        self._events.waits_for = "oauth_token has been called and has not returned"
        threading.Thread(target=self._renew, name="rdknotify-token", daemon=True).start()

    def _renew(self) -> None:
        try:
            token, failure = _checked(self._source()), None
        except Exception as error:
            token, failure = None, error
        self._events.waits_for = ""
        handle = self._handle()
        if handle is None:
            return
        try:
            if token is not None:
                handle.set_token(token.value, round(token.expires * 1000), token.principal, dict(token.extensions))
                self._events.cause = self._events.obstacle = None
                return
        except ClosedError:
            return
        except RdNotifyError as error:
            failure = error
        self._tell(handle, failure)

    def _tell(self, handle: core.Client, failure: Exception | None) -> None:
        self._events.cause = failure
        reason = f"oauth_token failed: {type(failure).__name__}: {failure}".replace("\0", "")
        with suppress(ClosedError):
            handle.set_token_failure(reason)


def _checked(token: object) -> OAuthToken:
    """The token if librdkafka will take it: its own errors would show it. Raises TokenError."""
    from rdknotify.oauth import OAuthToken

    if not isinstance(token, OAuthToken):
        raise TokenError(f"it returned {type(token).__name__}; rdknotify.oauth.OAuthToken is needed")
    if not isinstance(token.value, str) or not token.value:
        raise TokenError("its token is no text, or empty")
    for text in (token.value, *token.extensions.values()):
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise TokenError("its token or an extension has characters that are not printable ASCII")
    return token


class _PasswordFile:
    """Reads the file of the option ``credentials_file`` again when it has changed, about once a second."""

    def __init__(self, file: str, handle: core.Client, client_events: events.ClientEvents, settings: Settings) -> None:
        self._file = file
        self._handle = weakref.ref(handle)
        self._events = client_events
        self._url = settings.url
        self._used = credentials.Credentials(settings.conf.get("sasl.username"), settings.conf.get("sasl.password"))
        self._stamp: object = None  # read at the first tick too: it may have changed since the options were read

    def tick(self) -> None:
        stamp = _stamp(self._file)
        handle = self._handle()
        if handle is None or stamp == self._stamp:
            return
        self._stamp = stamp
        name = self._events.name
        try:
            found = credentials.find(self._url, self._file)
            if found == self._used or found.username is None or found.password is None:
                return
            handle.set_credentials(found.username, found.password)
            self._events.obstacle = None
        except ConfigError as error:
            text = "%s: %s; the password that was read before is used"
            tell(log, "credentials_unreadable", text, name, error, client=name, error=error_name(error))
        except ClosedError:
            return
        else:
            self._used = found
            text = "%s: new credentials of %s in %s"
            tell(log, "credentials_renewed", text, name, found.username, self._file, client=name)


def _stamp(file: str) -> object:
    """What differs when a file, or one in a folder, was written or put into another's place."""
    path = Path(file)
    try:
        files = [path / name for name in sorted(os.listdir(path))] if path.is_dir() else [path]
        states = [(each, os.stat(each)) for each in files]
    except OSError as error:
        return error.errno
    return [(each, state.st_ino, state.st_mtime_ns, state.st_size) for each, state in states]
