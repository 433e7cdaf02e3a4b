"""Whom a client trusts that is not told: what the environment names, else what the system's layout has."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.token_server import TokenServer, token_server

from rdknotify import AuthenticationError, Producer
from rdknotify.testing import LocalKafka, Security
from rdknotify.testing.process import HOST


@pytest.fixture
def security(kafka_secure: LocalKafka) -> Security:
    return kafka_secure.security


@pytest.fixture
def server(security: Security) -> Iterator[TokenServer]:
    """Gives tokens by HTTPS; the same authority as the brokers'."""
    pair = security.ca.client(HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with token_server(context) as server:
        server.answer = {"access_token": "a token"}
        yield server


# -- the environment --------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CERT_DIR, not hashed", "both", "neither"])
def test_the_environment_names_the_authorities(named, security, tmp_path, monkeypatch):
    folder, another = tmp_path / "folder", tmp_path / "another"
    folder.mkdir()
    shutil.copy(security.ca.file, folder / "ca.crt")
    if "not hashed" not in named:
        subprocess.run(["openssl", "rehash", str(folder)], check=True)
    another.write_text(security.stranger.pem)
    wanted = {
        "SSL_CERT_FILE": {"SSL_CERT_FILE": security.ca.file},
        "both": {"SSL_CERT_FILE": another, "SSL_CERT_DIR": f"{tmp_path / 'absent'}:{folder}"},
        "neither": {"SSL_CERT_FILE": another},
    }.get(named, {"SSL_CERT_DIR": folder})
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, place in wanted.items():
        monkeypatch.setenv(name, str(place))

    if named == "neither":
        with pytest.raises(AuthenticationError, match="unable to get local issuer certificate"):
            Producer(security.url("TLS"), security_protocol="SSL")
    else:
        Producer(security.url("TLS"), security_protocol="SSL").close()


# -- the system's layout ----------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "Debian, Ubuntu": ("etc/ssl/certs/ca-certificates.crt", {}),
    "Alpine": ("etc/ssl/certs/ca-certificates.crt", {"etc/ssl/cert.pem": "certs/ca-certificates.crt"}),
    "RHEL, Fedora": (
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        {
            "etc/pki/tls/certs/ca-bundle.crt": "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "etc/ssl/certs": "/etc/pki/tls/certs",
        },
    ),
    "SUSE": (
        "var/lib/ca-certificates/ca-bundle.pem",
        {"etc/ssl/ca-bundle.pem": "/var/lib/ca-certificates/ca-bundle.pem"},
    ),
    "a hashed folder": ("etc/ssl/certs/ca.pem", {}),
}
CLIENT = """
import sys, rdknotify, rdknotify.oauth
if sys.argv[3] == "without certifi":
    sys.modules["certifi"] = None
rdknotify.Producer(sys.argv[1], security_protocol="SSL").close()
print("connected, with", rdknotify.oauth.ClientCredentials(sys.argv[2], "c", "s")().value)
"""


class System:
    """A machine without certificates: an /etc and a /var of its own, which a process sees in their place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        subprocess.run(["cp", "-r", "/etc", str(root)], stderr=subprocess.DEVNULL, check=False)  # some is not ours
        for layout in ("ssl", "pki", "ca-certificates"):
            shutil.rmtree(root / "etc" / layout, ignore_errors=True)
        (root / "var").mkdir()

    def client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What becomes of a client on this machine: of its connections to a broker and to a token server."""
        unshare = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
            pytest.skip("mount namespaces are not allowed here")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
        mounts = 'mount --bind "$0/etc" /etc && mount --bind "$0/var" /var && exec "$@"'
        command = [*unshare, "sh", "-c", mounts, str(self.root), sys.executable, "-c", CLIENT, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


@pytest.mark.parametrize("distribution", LAYOUTS)
def test_the_authorities_that_the_system_trusts_are_found(distribution, security, server, system):
    file, links = LAYOUTS[distribution]
    (system.root / file).parent.mkdir(parents=True)
    shutil.copy(security.ca.file, system.root / file)
    for name, target in links.items():
        (system.root / name).parent.mkdir(parents=True, exist_ok=True)
        (system.root / name).symlink_to(target)
    if distribution == "a hashed folder":
        subprocess.run(["openssl", "rehash", str(system.root / file).removesuffix("/ca.pem")], check=True)

    done = system.client(security.url("TLS"), server.url, "without certifi")

    assert done.stdout == "connected, with a token\n", done.stderr


def test_a_system_that_trusts_nobody(security, server, system):
    alone = system.client(security.url("TLS"), server.url, "without certifi")
    public = system.client(security.url("TLS"), server.url, "with certifi")

    assert "ConfigError: option ssl_cafile: " in alone.stderr and "pip install certifi" in alone.stderr
    assert "AuthenticationError" in public.stderr, "it connects although only public authorities are trusted"
