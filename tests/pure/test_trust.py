"""Whose certificates count where nobody says: each distribution's layout, the environment, certifi, none of them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from rdknotify.errors import ConfigError
from rdknotify.trust import Store, find

HOST = "broker.example"
SECOND_HOST = "another.example"
HASHED = "(hashed)"


class World:
    """A machine's files below a root of its own, and two servers whose authorities no other store has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority, self.second = trustme.CA(), trustme.CA()

    def write(self, name: str, authority: trustme.CA | None = None) -> Path:
        """A PEM file with that authority's certificate, or a folder where it is named as OpenSSL wants it."""
        content = (authority or self.authority).cert_pem.bytes()
        path = self.root / name.replace(HASHED, "hash")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"# F\xc5\x91tan\xc3\xbas\xc3\xadtv\xc3\xa1ny\n" + content)
        if name.endswith(HASHED):
            command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(path)]
            number = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            path = path.rename(path.with_name(f"{number}.0"))
        return path

    def link(self, name: str, to: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)

    def find(self, **environment: str) -> Store:
        return find("ssl_cafile", environment, self.root)

    def trusted(self, store: Store) -> list[str]:
        """Which of the two servers shakes hands with a client that has this store."""
        servers = {HOST: self.authority, SECOND_HOST: self.second}
        return [host for host, authority in servers.items() if shakes_hands(store, authority, host)]


def shakes_hands(store: Store, authority: trustme.CA, host: str) -> bool:
    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(for_server)
    for_client = ssl.create_default_context(cafile=store.file, capath=store.folder, cadata=store.text)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = for_client.wrap_bio(back, there, server_hostname=host)
    server = for_server.wrap_bio(there, back, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
            if side is client:
                return True
    raise AssertionError("the handshake does not end")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def without_certifi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)


LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "Debian, Ubuntu, Alpine": ("etc/ssl/certs/ca-certificates.crt", {}),
    "Arch": (
        "etc/ca-certificates/extracted/tls-ca-bundle.pem",
        {"etc/ssl/certs/ca-certificates.crt": "../../ca-certificates/extracted/tls-ca-bundle.pem"},
    ),
    "RHEL, Fedora": (
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        {"etc/pki/tls/certs/ca-bundle.crt": "../../ca-trust/extracted/pem/tls-ca-bundle.pem"},
    ),
    "RHEL without compatible names": ("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", {}),
    "SUSE": (
        "var/lib/ca-certificates/ca-bundle.pem",
        {"etc/ssl/ca-bundle.pem": "../../var/lib/ca-certificates/ca-bundle.pem"},
    ),
    "SUSE with a bare /etc": ("var/lib/ca-certificates/ca-bundle.pem", {}),
    "FreeBSD, macOS": ("etc/ssl/cert.pem", {}),
    "a hashed folder": (f"etc/ssl/certs/{HASHED}", {}),
    "a hashed folder of RHEL": (f"etc/pki/tls/certs/{HASHED}", {}),
    "a hashed folder of SUSE": (f"var/lib/ca-certificates/openssl/{HASHED}", {}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_systems_store_is_found(layout: str, world: World) -> None:
    file, links = LAYOUTS[layout]
    world.write(file)
    for name, to in links.items():
        world.link(name, to)
    assert world.trusted(world.find()) == [HOST]


@pytest.mark.parametrize("spoiled", [b"", b"no certificates\n", None], ids=["empty", "of something else", "dangling"])
def test_what_is_no_store_is_passed_over(spoiled: bytes | None, world: World) -> None:
    first = world.write("etc/ssl/certs/ca-certificates.crt")
    if spoiled is None:
        first.unlink()
        world.link("etc/ssl/certs/ca-certificates.crt", "absent")
    else:
        first.write_bytes(spoiled)
    world.write("etc/ssl/ca-bundle.pem")
    assert world.trusted(world.find()) == [HOST]


def test_the_store_of_pythons_own_openssl_comes_after_the_distributions(world: World, without_certifi: None) -> None:
    world.write(ssl.get_default_verify_paths().openssl_cafile.lstrip("/"))
    assert world.trusted(world.find()) == [HOST]
    world.write("etc/ssl/certs/ca-certificates.crt", world.second)
    assert world.trusted(world.find()) == [SECOND_HOST]


def test_certifi_comes_last(world: World) -> None:
    certifi = pytest.importorskip("certifi")
    assert world.find() == Store(file=certifi.where())
    assert world.trusted(world.find()) == []
    world.write("etc/ssl/certs/ca-certificates.crt")
    assert world.trusted(world.find()) == [HOST]


def test_where_nobody_could_be_trusted_the_error_says_what_to_do(world: World, without_certifi: None) -> None:
    (world.root / "etc/ssl/certs").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"^option ssl_cafile: .*ca-certificates.*SSL_CERT_FILE.*pip install certifi"):
        world.find()


class TestTheEnvironment:
    """``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` take the place of the system's store."""

    def test_a_file(self, world: World) -> None:
        world.write("etc/ssl/certs/ca-certificates.crt", world.second)
        assert world.trusted(world.find(SSL_CERT_FILE=str(world.write("mine.pem")))) == [HOST]

    @pytest.mark.parametrize("name", [HASHED, "ca.crt"], ids=["hashed", "as a secret is mounted"])
    def test_a_folder(self, name: str, world: World) -> None:
        world.write("etc/ssl/certs/ca-certificates.crt", world.second)
        (world.root / "mine").mkdir()
        (world.root / "mine" / "tls.key").write_text("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")
        file = world.write(f"mine/{name}")
        assert world.trusted(world.find(SSL_CERT_DIR=str(file.parent))) == [HOST]

    def test_folders_of_which_some_are_not_there(self, world: World) -> None:
        folders = [
            world.root / "absent",
            world.write("a/ca.pem").parent,
            world.root,
            world.write("b/c", world.second).parent,
        ]
        assert world.trusted(world.find(SSL_CERT_DIR=":".join(map(str, folders)))) == [HOST, SECOND_HOST]

    def test_both(self, world: World) -> None:
        file, folder = world.write("file.pem"), world.write(f"folder/{HASHED}", world.second).parent
        store = world.find(SSL_CERT_FILE=str(file), SSL_CERT_DIR=str(folder))
        assert world.trusted(store) == [HOST, SECOND_HOST]
        assert store.text is not None and store.text.count("BEGIN") == 2
        shutil.copy(file, folder / "00000000.0")
        assert world.find(SSL_CERT_FILE=str(file), SSL_CERT_DIR=str(folder)).text == store.text

    def test_empty_is_not_set(self, world: World) -> None:
        world.write("etc/ssl/certs/ca-certificates.crt")
        assert world.trusted(world.find(SSL_CERT_FILE="", SSL_CERT_DIR="")) == [HOST]

    def test_what_it_names_must_be_there(self, world: World) -> None:
        world.write("etc/ssl/certs/ca-certificates.crt")
        (world.root / "empty").mkdir()
        (world.root / "rubbish").write_text("rubbish")
        for name, value, says in (
            ("SSL_CERT_FILE", world.root / "absent", "No such file"),
            ("SSL_CERT_FILE", world.root / "empty", "Is a directory"),
            ("SSL_CERT_FILE", world.root / "rubbish", "no PEM certificates"),
            ("SSL_CERT_DIR", world.root / "absent", "no certificates there"),
            ("SSL_CERT_DIR", world.root / "empty", "no certificates there"),
        ):
            with pytest.raises(ConfigError, match=f"^{name}={value}: .*{says}"):
                world.find(**{name: str(value)})

    def test_a_certificate_that_is_not_for_servers_is_not_taken_for_one(self, world: World) -> None:
        """As text, what OpenSSL keeps beside a "trusted" certificate would be lost."""
        plain = world.write("plain.pem", world.second)
        command = ["openssl", "x509", "-in", str(world.write("ca.pem")), "-addreject", "serverAuth", "-trustout"]
        (world.root / "folder").mkdir()
        subprocess.run([*command, "-out", str(world.root / "folder" / "ca.crt")], check=True)
        store = world.find(SSL_CERT_FILE=str(plain), SSL_CERT_DIR=str(world.root / "folder"))
        assert world.trusted(store) == [SECOND_HOST]


def test_as_properties_of_librdkafka() -> None:
    assert Store(file="f").properties("ssl") == {"ssl.ca.location": "f"}
    assert Store(folder="d").properties("https") == {"https.ca.location": "d"}
    assert Store(text="-----").properties("https") == {"https.ca.pem": "-----"}
