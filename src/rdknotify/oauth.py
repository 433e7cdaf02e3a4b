"""OAuth tokens, for ``sasl_mechanism=OAUTHBEARER``: what the option ``oauth_token`` returns, and a callable ready made.

::

    tokens = ClientCredentials("https://host/token", "billing", Path("/run/secrets/billing"), scope="kafka")
    Producer("kafka://host:9095", security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", oauth_token=tokens)
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote_plus, urlencode, urlsplit

from rdknotify import trust
from rdknotify.errors import ConfigError, TokenError
from rdknotify.url import is_confidential

__all__ = ["ClientCredentials", "OAuthToken", "TokenSource"]

_LARGEST_ANSWER = 1 << 20
_LIFETIME = 300.0
"""Seconds that a token is used for whose server does not say how long it lives."""
_LONGEST_EXCUSE = 200


class OAuthToken(NamedTuple):
    """A token for the broker. ``repr`` does not show it.

    Attributes:
        value: the token itself, usually a JWT.
        expires: until when it is used, in seconds since the epoch; a new one is asked for after 80 % of that time.
        principal: whose it is; only for librdkafka's log.
        extensions: SASL extensions for the broker (KIP-342), as ``{"logicalCluster": "lkc-1"}``; names are of letters.
    """

    value: str
    expires: float
    principal: str = ""
    extensions: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"OAuthToken(expires={self.expires!r}, principal={self.principal!r}, extensions=...)"


TokenSource: TypeAlias = Callable[[], OAuthToken]
"""What the option ``oauth_token`` takes: called in a thread of its own each time that a token is wanted."""


class ClientCredentials:
    """Gets tokens from an OAuth 2 or OIDC server by its grant "client credentials" (RFC 6749, section 4.4).

    An instance is the value of the option ``oauth_token``; several clients may share it. Thread-safe.

    Args:
        token_url: the server's token endpoint. ``https://``, or ``http://`` on this machine.
        client_id: who asks.
        client_secret: its secret; a ``Path`` is read anew each time, so that the secret can be changed meanwhile.
        scope: scopes that are asked for, separated by spaces.
        parameters: further parameters of the request, as ``{"audience": "kafka"}``.
        cafile: a PEM file, or its text, of the CA certificates that the server is checked against; None: those that
            SSL_CERT_FILE and SSL_CERT_DIR of the environment name, else the system's.
        timeout: seconds for connecting, and for each piece of the answer.
        extensions: see :class:`OAuthToken`.

    Raises:
        ConfigError: at construction, for an address or file that is wrong.
        TokenError: when called and there is no token to be had; it shows no secret.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str | Path,
        *,
        scope: str | None = None,
        parameters: Mapping[str, str] | None = None,
        cafile: str | None = None,
        timeout: float = 10.0,
        extensions: Mapping[str, str] | None = None,
    ) -> None:
        place = urlsplit(token_url if is_confidential(token_url) else "")
        if not place.hostname:
            raise ConfigError("token_url: https://host/path is needed (http:// only to this machine)")
        if place.username is not None or place.password is not None:
            raise ConfigError("token_url: it has credentials; they are client_id= and client_secret=")
        self.token_url = token_url
        self.client_id = client_id
        self._secret = client_secret
        self._request = {
            "grant_type": "client_credentials",
            **({"scope": scope} if scope else {}),
            **(parameters or {}),
        }
        self._timeout = timeout
        self._extensions = dict(extensions or {})
        # Neither redirected, for that would send the secret on, nor to another scheme.
        secure = [urllib.request.HTTPSHandler(context=_context(cafile))] if place.scheme == "https" else []
        self._opener = urllib.request.build_opener(_NoRedirect(), *secure)

    def __repr__(self) -> str:
        return f"ClientCredentials(token_url={self.token_url!r}, client_id={self.client_id!r})"

    def __call__(self) -> OAuthToken:
        """A new token. Raises TokenError."""
        secret = self._read_secret()
        identity = f"{quote_plus(self.client_id)}:{quote_plus(secret)}".encode()
        headers = {
            "Authorization": "Basic " + base64.b64encode(identity).decode(),
            "Accept": "application/json",
            "User-Agent": "rdknotify",
        }
        request = urllib.request.Request(self.token_url, urlencode(self._request).encode(), headers)
        begun = time.time()
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                answer = response.read(_LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                reason = _excuse(error.read(_LARGEST_ANSWER)).replace(secret, "***") if secret else ""
            raise self._failure(f"status {error.code}{reason}") from None
        except OSError as error:  # URLError, timeouts and TLS's errors are
            raise self._failure(str(getattr(error, "reason", error))) from None
        except Exception as error:  # http.client's, of an answer that is none
            raise self._failure(f"the answer is not HTTP ({type(error).__name__})") from None
        return self._token(answer, begun)

    def _token(self, answer: bytes, begun: float) -> OAuthToken:
        try:
            fields = json.loads(answer)
            value, lifetime = fields["access_token"], float(fields.get("expires_in", _LIFETIME))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._failure("the answer has no access_token, or no number as expires_in") from None
        if not isinstance(value, str) or not value or not 0 < lifetime < 1e10:
            raise self._failure("the answer has an access_token or expires_in that cannot be used")
        return OAuthToken(value, begun + lifetime, self.client_id, self._extensions)

    def _read_secret(self) -> str:
        if not isinstance(self._secret, Path):
            return self._secret
        try:
            return self._secret.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self._failure(f"the file of the secret cannot be read: {error}") from None

    def _failure(self, reason: str) -> TokenError:
        return TokenError(f"no token from {self.token_url} for {self.client_id}: {reason}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _context(cafile: str | None) -> ssl.SSLContext:
    if cafile is None:
        store = trust.find("cafile")
    else:
        store = trust.Store(text=cafile) if cafile.lstrip().startswith("-----BEGIN") else trust.Store(file=cafile)
    try:
        return ssl.create_default_context(cafile=store.file, capath=store.folder, cadata=store.text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cafile={'(text)' if cafile and '-----' in cafile else cafile}: {error}") from None


def _excuse(answer: bytes) -> str:
    """What the server says against it: the fields of RFC 6749, section 5.2, and nothing else of the answer."""
    try:
        fields = json.loads(answer)
        said = [str(fields[name]) for name in ("error", "error_description") if name in fields]
    except (ValueError, TypeError, RecursionError):
        return ""
    return "".join(f", {text[:_LONGEST_EXCUSE]}" for text in said)
