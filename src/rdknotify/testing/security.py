"""What makes a LocalKafka secure: listeners with TLS and SASL, users, rights, tokens."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from rdknotify.testing.certificates import Authority, require
from rdknotify.testing.node import ExtraListener

__all__ = ["USERS", "Security"]

USERS: Mapping[str, str] = {"alice": "alice-pw", "bob": "bob-pw", "carol": "carol-pw"}
"""Users and passwords. Alice may do everything, the others nothing until they are given rights."""

REAUTHENTICATE_MS = 3000
"""After so long a connection to the listener REAUTH must authenticate again, or the broker closes it."""

_LOGIN = "org.apache.kafka.common.security"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS = ("PLAIN", *_SCRAM, "OAUTHBEARER")
_AUDIENCE = "kafka"
_ISSUER = "rdknotify tests"
_KEY_ID = "tests"


class Security:
    """Secure listeners, all at once, beside the plaintext one; ``kafka.security`` of a ``LocalKafka(security=True)``.

    | listener | protocol | |
    | --- | --- | --- |
    | TLS | SSL | clients are anonymous, and may do everything as on the plaintext listener |
    | MTLS | SSL | a client certificate is required, its common name is the user |
    | SASL_SSL, SASL_PLAINTEXT | as they are called | PLAIN, both SCRAM, OAUTHBEARER (unsecured tokens) |
    | REAUTH | SASL_SSL | the same; connections authenticate again every 3 seconds |
    | OIDC | SASL_SSL | OAUTHBEARER only, as often; tokens must be signed: :meth:`signed_token` |
    | EXPIRED, WRONGHOST | SSL | the broker's certificate expired yesterday; is for another host |

    Attributes:
        ca: the authority that signed the brokers' certificates; ``ca.file`` is for ``ssl_cafile``.
        stranger: another authority, which nobody trusts.
        users: names and passwords, for SASL; see :data:`USERS`. Not thread-safe.
    """

    def __init__(self, folder: Path, bootstrap_of: Callable[[str], str]) -> None:
        self._bootstrap_of = bootstrap_of
        self.ca = Authority(folder)
        self.stranger = Authority(folder, "stranger")
        self.users = USERS
        self._signing_key = _SigningKey(folder / "jwks.json")
        self.listeners = self._listeners()

    def url(self, listener: str, user: str | None = None) -> str:
        """Transport URL of a listener, with the credentials of a user where one is named."""
        credentials = f"{user}:{quote(self.users[user], safe='')}@" if user else ""
        return f"kafka://{credentials}{self._bootstrap_of(listener)}"

    def unsecured_token(self, user: str, lifetime: float = 300.0) -> str:
        """A token without signature, which every OAUTHBEARER listener but OIDC takes; ``lifetime`` in seconds."""
        parts = ({"alg": "none"}, _claims(user, lifetime))
        return ".".join(_base64url(json.dumps(part).encode()) for part in parts) + "."

    def signed_token(self, user: str, lifetime: float = 300.0, **claims: object) -> str:
        """A signed token, for the listener OIDC; ``claims`` replace or add, ``lifetime`` is in seconds."""
        return self._signing_key.sign({**_claims(user, lifetime), **claims})

    @property
    def config(self) -> dict[str, object]:
        """Broker settings besides the listeners'."""
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:alice",  # nodes and the kit itself are anonymous
            "allow.everyone.if.no.acl.found": "false",
        }

    @property
    def jvm_options(self) -> list[str]:
        return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._signing_key.address}"]

    @property
    def format_options(self) -> list[str]:
        """Arguments of ``StorageTool format`` that make the users known to SCRAM."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in _SCRAM
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]

    def _listeners(self) -> dict[str, ExtraListener]:
        tls = self.ca.broker()
        mutual = {
            "ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*?CN=([^,]+).*$/$1/,DEFAULT",
        }
        sasl = self._sasl()
        reauthenticate = {"connections.max.reauth.ms": REAUTHENTICATE_MS}
        return {
            "TLS": ExtraListener("SSL", tls),
            "MTLS": ExtraListener("SSL", {**tls, **mutual}),
            "SASL_SSL": ExtraListener("SASL_SSL", {**tls, **sasl}),
            "SASL_PLAINTEXT": ExtraListener("SASL_PLAINTEXT", sasl),
            "REAUTH": ExtraListener("SASL_SSL", {**tls, **sasl, **reauthenticate}),
            "OIDC": ExtraListener("SASL_SSL", {**tls, **self._oidc()}),
            "EXPIRED": ExtraListener("SSL", self.ca.broker(expired=True)),
            "WRONGHOST": ExtraListener("SSL", self.ca.broker(host="elsewhere.example")),
        }

    def _sasl(self) -> dict[str, object]:
        passwords = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        scram = f"{_LOGIN}.scram.ScramLoginModule required;"
        bearer = f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required"
        return {
            "sasl.enabled.mechanisms": ",".join(_MECHANISMS),
            "plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {passwords};",
            **{f"{mechanism.lower()}.sasl.jaas.config": scram for mechanism in _SCRAM},
            "oauthbearer.sasl.jaas.config": f'{bearer} unsecuredLoginStringClaim_sub="broker";',
        }

    def _oidc(self) -> dict[str, object]:
        bearer = f"{_LOGIN}.oauthbearer.OAuthBearer"
        return {
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "connections.max.reauth.ms": REAUTHENTICATE_MS,  # or connections would outlive their tokens
            "oauthbearer.sasl.jaas.config": f"{bearer}LoginModule required;",
            "oauthbearer.sasl.server.callback.handler.class": f"{bearer}ValidatorCallbackHandler",
            "oauthbearer.sasl.oauthbearer.jwks.endpoint.url": self._signing_key.address,
            "oauthbearer.sasl.oauthbearer.expected.audience": _AUDIENCE,
            "oauthbearer.sasl.oauthbearer.expected.issuer": _ISSUER,
        }


class _SigningKey:
    """A key for tokens, and the file from which brokers know its public half."""

    def __init__(self, file: Path) -> None:
        require("jwt")
        import jwt
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        file.write_text(json.dumps({"keys": [{**public, "kid": _KEY_ID, "alg": "RS256", "use": "sig"}]}))
        self.address = file.as_uri()

    def sign(self, claims: Mapping[str, object]) -> str:
        import jwt

        return jwt.encode(dict(claims), self._key, "RS256", headers={"kid": _KEY_ID})


def _claims(user: str, lifetime: float) -> dict[str, object]:
    now = int(time.time())
    return {"sub": user, "iss": _ISSUER, "aud": _AUDIENCE, "iat": now, "exp": now + lifetime, "scope": "kafka"}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
