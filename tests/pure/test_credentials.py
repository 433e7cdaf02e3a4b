"""User and password: from the URL, a file, or the environment, and in no text that anybody reads."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from rdknotify import credentials
from rdknotify.credentials import Credentials
from rdknotify.errors import ConfigError
from rdknotify.oauth import OAuthToken
from rdknotify.options import resolve
from rdknotify.url import TransportURL

SASL = {"security_protocol": "SASL_SSL"}


def identity(url: str, file: Path | None = None, **environ: str) -> tuple[str | None, str | None]:
    found = credentials.find(TransportURL.parse(url), None if file is None else str(file), environ)
    return found.username, found.password


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text("# of the billing service\nusername = filed\n\npassword=a=b #c \n")
    return path


def test_the_url_comes_first_then_the_file_then_the_environment(file: Path) -> None:
    environ = {"RDKNOTIFY_USERNAME": "env", "RDKNOTIFY_PASSWORD": "env-pw"}
    assert identity("kafka://u:p@h", file, **environ) == ("u", "p")
    assert identity("kafka://h", file, **environ) == ("filed", "a=b #c")
    assert identity("kafka://h", **environ) == ("env", "env-pw")
    assert identity("kafka://h") == (None, None)


def test_a_password_is_used_only_with_its_user(file: Path) -> None:
    assert identity("kafka://filed@h", file) == ("filed", "a=b #c")
    assert identity("kafka://another@h", file) == ("another", None)
    assert identity("kafka://u@h", RDKNOTIFY_PASSWORD="pw") == ("u", "pw")
    assert identity("kafka://u@h", RDKNOTIFY_USERNAME="v", RDKNOTIFY_PASSWORD="pw") == ("u", None)


def test_a_folder_as_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" pw \n")
    assert identity("kafka://u@h", tmp_path) == ("u", " pw ")
    (tmp_path / "username").write_text("filed\n")
    assert identity("kafka://h", tmp_path) == ("filed", " pw ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "no password there"),
        (b"username=u\n", "no password there"),
        (b"geheim\n", "line 1 is not username=... or password=..."),
        (b"username=u\npass=geheim\n", "line 2 is not"),
        (b"password=\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_named_and_not_shown(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "c"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        credentials.read(str(path))
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_they_reach_the_client_and_choose_sasl(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve("kafka://h", "producer", {"ssl_cafile": "ca", "credentials_file": str(file)})
    assert settings.conf["security.protocol"] == "SASL_SSL"
    assert (settings.conf["sasl.username"], settings.conf["sasl.password"]) == ("filed", "a=b #c")
    assert "a=b #c" not in repr(settings)
    monkeypatch.setenv("RDKNOTIFY_USERNAME", "env")
    monkeypatch.setenv("RDKNOTIFY_PASSWORD", "env-pw")
    conf = resolve("kafka://h", "consumer", {"ssl_cafile": "ca"}).conf
    assert (conf["sasl.username"], conf["sasl.password"]) == ("env", "env-pw")


def test_a_file_beside_a_password_in_the_url_is_warned_of(file: Path) -> None:
    with pytest.warns(UserWarning, match="credentials_file not used"):
        resolve("kafka://u:p@h", "producer", {**SASL, "credentials_file": str(file)})


def test_no_repr_shows_a_secret() -> None:
    assert "geheim" not in repr(Credentials("u", "geheim"))
    assert "geheim" not in f"{OAuthToken('geheim', 1.0)!r} {OAuthToken('geheim', 1.0)}"


# -- tokens and keys ------------------------------------------------------------------------------------


def token() -> OAuthToken:
    return OAuthToken("t", 1.0)


BEARER = {"sasl_mechanism": "OAUTHBEARER", "ssl_cafile": "ca"}
SERVER = {"oauth_token_url": "https://host/token", "oauth_client_id": "c", "oauth_client_secret": "geheim"}


def test_tokens_choose_sasl() -> None:
    settings = resolve("kafka://h", "producer", {**BEARER, "oauth_token": token})
    assert settings.conf["security.protocol"] == "SASL_SSL"
    assert settings.values["oauth_token"] is token
    settings = resolve("kafka://h", "producer", {**BEARER, **SERVER})
    assert "geheim" not in repr(settings) and "https://host/token" in repr(settings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (BEARER, "needs oauth_token, a callable, or oauth_token_url"),
        ({**BEARER, "oauth_token": "t"}, "option oauth_token=***: a callable"),
        ({**BEARER, "oauth_token_url": "https://host/token"}, "needs oauth_client_id, and oauth_client_secret"),
        ({**BEARER, "oauth_token_url": "https://host/token", "oauth_client_id": "c"}, "oauth_client_secret"),
    ],
)
def test_what_tokens_need(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("kafka://h", "producer", options)
    assert says in str(caught.value)


def test_tokens_that_nobody_wants_and_tokens_in_the_clear_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="oauth_token not used: that takes sasl_mechanism=OAUTHBEARER"):
        resolve("kafka://h", "producer", {"oauth_token": token})
    with pytest.warns(UserWarning, match="sends the token in the clear"):
        resolve("kafka://h", "producer", {"sasl_mechanism": "OAUTHBEARER", "oauth_token": token})


PEM = {
    "ssl_cafile": ("-----BEGIN CERTIFICATE-----\nca\n", "ssl.ca.pem", "ssl.ca.location"),
    "ssl_client_cert_file": ("-----BEGIN CERTIFICATE-----\ncert\n", "ssl.certificate.pem", "ssl.certificate.location"),
    "ssl_client_key_file": ("\n-----BEGIN PRIVATE KEY-----\ngeheim\n", "ssl.key.pem", "ssl.key.location"),
}


def test_certificates_and_keys_as_text() -> None:
    settings = resolve("kafka://h", "producer", {name: text for name, (text, _, _) in PEM.items()})
    for text, as_text, as_file in PEM.values():
        assert settings.conf[as_text] == text
        assert as_file not in settings.conf
    assert "geheim" not in repr(settings)


def test_a_key_in_a_url_is_not_shown() -> None:
    url = TransportURL(hosts=(("h", 9092),), query={"ssl_client_key_file": PEM["ssl_client_key_file"][0]})
    assert "geheim" not in f"{url} {url!r}"
