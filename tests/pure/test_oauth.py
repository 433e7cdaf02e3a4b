"""Tokens by client credentials, from a server on this machine; what goes wrong is told without the secret."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.token_server import TokenServer, token_server

from rdknotify.errors import ConfigError, TokenError
from rdknotify.oauth import ClientCredentials

SECRET = "ge/heim nis+7"


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as server:
        server.answer = {"access_token": "abc", "token_type": "Bearer", "expires_in": 100}
        yield server


def refused(url: str, **options: Any) -> str:
    """What the error says; neither it nor what is printed of it has the secret."""
    with pytest.raises(TokenError) as caught:
        ClientCredentials(url, "billing", SECRET, **{"timeout": 5.0, **options})()
    printed = "".join(traceback.format_exception(caught.value))
    assert SECRET not in printed and "ge%2Fheim" not in printed
    assert f"no token from {url} for billing: " in str(caught.value)
    return str(caught.value).partition("for billing: ")[2]


def test_a_token(server: TokenServer) -> None:
    source = ClientCredentials(
        server.url,
        "bil ling",
        SECRET,
        scope="kafka write",
        parameters={"audience": "k"},
        extensions={"logicalCluster": "c"},
    )
    before = time.time()
    token = source()
    assert (token.value, token.principal, token.extensions) == ("abc", "bil ling", {"logicalCluster": "c"})
    assert before + 100 <= token.expires <= time.time() + 100
    ((headers, fields),) = server.requests
    # RFC 6749, section 2.3.1: both are encoded as in a form before they are joined
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"bil+ling:ge%2Fheim+nis%2B7"
    assert fields == {"grant_type": "client_credentials", "scope": "kafka write", "audience": "k"}
    assert SECRET not in repr(source)


def test_the_file_of_a_secret_is_read_each_time(server: TokenServer, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    source = ClientCredentials(server.url, "c", file)
    for secret in ("one", "two"):
        file.write_text(f"{secret}\n")
        source()
    sent = [base64.b64decode(headers["Authorization"].split()[1]) for headers, _ in server.requests]
    assert sent == [b"c:one", b"c:two"]
    file.unlink()
    with pytest.raises(TokenError, match="file of the secret cannot be read"):
        source()


def test_the_servers_reason_is_told(server: TokenServer) -> None:
    server.status, server.answer = 401, {"error": "invalid_client", "error_description": f"not {SECRET}", "x": "y"}
    assert refused(server.url) == "status 401, invalid_client, not ***"


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"{}", b"[" * 100_000, {"access_token": 7}, {"access_token": ""}, b'"x"',
     {"access_token": "t", "expires_in": "soon"}, {"access_token": "t", "expires_in": -1},
     {"access_token": "t", "expires_in": 1e99}, b'{"access_token": "t", "expires_in": NaN}'],
    ids=repr,
)  # fmt: skip
def test_an_answer_that_is_no_token(answer: Any, server: TokenServer) -> None:
    server.answer = answer
    assert "the answer has" in refused(server.url)


@pytest.mark.parametrize("status", [301, 302, 307, 500])
def test_the_secret_is_not_sent_on(status: int, server: TokenServer) -> None:
    with token_server() as another:
        server.status, server.location = status, another.url
        assert f"status {status}" in refused(server.url)
        assert another.requests == []


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/token"
    assert "refused" in refused(address)


def test_a_server_that_does_not_answer(server: TokenServer) -> None:
    server.silence = threading.Event()
    begun = time.monotonic()
    assert "timed out" in refused(server.url, timeout=0.2)
    assert time.monotonic() - begun < 5
    server.silence.set()


def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = authority.cert_pem.bytes().decode()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    with token_server(context) as server:
        server.answer = {"access_token": "abc"}
        for cafile in (trusted, str(tmp_path / "ca")):
            assert ClientCredentials(server.url, "c", "s", cafile=cafile)().value == "abc"
        assert "certificate verify failed" in refused(server.url)
        assert "certificate verify failed" in refused(server.url, cafile=stranger.cert_pem.bytes().decode())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        assert ClientCredentials(server.url, "c", "s")().value == "abc"
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "url",
    [
        "",
        "token",
        "http://host/token",
        "ftp://host/t",
        "file:///etc/passwd",
        "https://",
        "https://[",
        "https://u:geheim@host/t",
    ],
)
def test_addresses_that_would_give_the_secret_away(url: str) -> None:
    with pytest.raises(ConfigError, match="token_url") as caught:
        ClientCredentials(url, "c", "s")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("cafile", ["/no/such/file", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_a_bad_authority(cafile: str) -> None:
    with pytest.raises(ConfigError, match="cafile="):
        ClientCredentials("https://host/token", "c", "s", cafile=cafile)
