"""What docs/security.md says to type works as it stands there."""

from __future__ import annotations

import re
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from rdknotify import AuthenticationError, Producer
from rdknotify.testing import LocalKafka
from rdknotify.testing.node import ExtraListener

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def block(language: str, word: str) -> str:
    (found,) = (text for kind, text in BLOCKS if kind == language and word in text)
    return found


def test_the_program_with_the_kit(kafka_secure, monkeypatch, capsys):
    monkeypatch.setattr("rdknotify.testing.LocalKafka", lambda security: nullcontext(kafka_secure))

    exec(compile(block("python", "LocalKafka"), "docs/security.md", "exec"), {})

    assert capsys.readouterr().out == "Kafka has it\n"


def test_the_commands_that_make_certificates_and_the_brokers_settings(tmp_path):
    subprocess.run(["sh", "-ec", block("sh", "openssl")], cwd=tmp_path, capture_output=True, check=True)
    lines = [line.removeprefix("listener.name.tls.").split("=") for line in block("properties", "tls").splitlines()]
    settings = {name: tmp_path / value if name.endswith("location") else value for name, value in lines}

    with LocalKafka(listeners={"TLS": ExtraListener("SSL", settings)}) as kafka:
        url, trusted = f"kafka://{kafka.bootstrap_of('TLS')}", {"ssl_cafile": str(tmp_path / "ca.pem")}
        with pytest.raises(AuthenticationError):
            Producer(url, **trusted)
        Producer(
            url,
            ssl_client_cert_file=str(tmp_path / "client.crt"),
            ssl_client_key_file=str(tmp_path / "client.key"),
            ssl_client_key_password="secret",
            **trusted,
        ).close()
