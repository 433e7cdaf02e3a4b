"""The command line on real Kafka, on one that is not there, and on one that refuses it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from support.command import run
from support.reader import read_all
from test_security_errors import MISTAKEN, REFUSED

from rdknotify import Admin
from rdknotify.cli import commands
from rdknotify.envelope import decode
from rdknotify.tail import Tail
from rdknotify.testing import LocalKafka

WITHIN = 10.0
"""Seconds that a command may take to say that it cannot reach its broker."""
SLOW = 30.0
"""What a machine with several of them at once may add."""
AT_ONCE = 8
DEAD = "kafka://127.0.0.1:1"

ARGUMENTS: Mapping[str, list[str]] = {
    "send": ["event"],
    "persist": ["--into", "rows.db"],
    "topics create": ["topic"],
    "topics delete": ["topic", "--yes"],
    "topics describe": ["topic"],
    "dead-letter discard": ["--topic", "letters", "--all", "--yes"],
    "dead-letter list": ["--topic", "letters"],
    "dead-letter send-again": ["--topic", "letters", "--all"],
    "dead-letter show": ["--topic", "letters"],
}
"""What a command needs to get as far as to its broker."""


def leaves(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from leaves(inner, f"{path} {name}".strip())


CONNECTING = [
    path for path, command in leaves(commands) if any(parameter.name == "url" for parameter in command.params)
]
"""Every command that talks to a broker, found in the command line itself."""


def test_every_kind_of_command_is_known() -> None:
    assert {"send", "listen", "persist", "lag", "topics list", "dead-letter list", "doctor", "demo"} <= {*CONNECTING}


Ended = dict[str, tuple[int, str]]


def ends(folder: Path, url: str, options: Mapping[str, Any], paths: list[str]) -> Ended:
    """How each command ends: its status, and what it says."""
    ended: Ended = {}
    for start in range(0, len(paths), AT_ONCE):
        ended |= _end_together(folder, url, options, paths[start : start + AT_ONCE])
    return ended


def _end_together(folder: Path, url: str, options: Mapping[str, Any], paths: list[str]) -> Ended:
    begun, processes, ended = time.monotonic(), {}, {}
    for path in paths:
        command = [sys.executable, "-m", "rdknotify", *path.split(), *ARGUMENTS.get(path, [])]
        if path == "demo":  # it takes neither options nor the variable
            command += ["--url", url]
        else:
            command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        processes[path] = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "RDKNOTIFY_URL": url}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    for path, process in processes.items():
        try:
            out, _ = process.communicate(timeout=max(0.1, begun + WITHIN + SLOW - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out = f"it hangs: {process.communicate()[0]}"
        ended[path] = (process.returncode, out)
    return ended


def refused(ended: Ended) -> None:
    for path, (status, said) in ended.items():
        assert status in (1, 3), (path, status, said)
        assert "Traceback" not in said and "defect of" not in said, (path, said)
        assert "doctor" in said or path == "doctor", (path, said)
        assert "check" in said or path == "doctor", (path, said)


def test_without_a_broker_every_command_says_so_and_what_to_do(tmp_path: Path) -> None:
    ended = ends(tmp_path, DEAD, {}, CONNECTING)
    refused(ended)
    for path, (_, said) in ended.items():
        assert "127.0.0.1:1" in said, (path, said)
        assert "Connection refused" in said or "refuse" in said, (path, said)


def test_with_a_wrong_password_every_command_says_so_and_what_to_do(kafka_secure: LocalKafka, tmp_path: Path) -> None:
    url, options = REFUSED["wrong password, PLAIN"][0](kafka_secure.security)
    ended = ends(tmp_path, url, options, [path for path in CONNECTING if path != "demo"])
    refused(ended)
    for path, (_, said) in ended.items():
        assert "Invalid username or password" in said, (path, said)
        assert "check the user, the password" in said, (path, said)
        assert ":wrong" not in said, (path, said)


@pytest.mark.parametrize("command", ["send e", "listen"])
@pytest.mark.parametrize("what", ["wrong CA", "plain client on a TLS port"])
def test_what_is_mistaken_about_tls_is_said_within_seconds(
    kafka_secure: LocalKafka, monkeypatch: pytest.MonkeyPatch, what: str, command: str
) -> None:
    if what in MISTAKEN:
        (url, options), advice = MISTAKEN[what][0](kafka_secure), MISTAKEN[what][1]
    else:
        (url, options), advice = REFUSED[what][0](kafka_secure.security), REFUSED[what][2]
    monkeypatch.setenv("RDKNOTIFY_URL", url)
    begun = time.monotonic()
    ran = run(*command.split(), *(part for name, value in options.items() for part in ("-o", f"{name}={value}")))
    assert time.monotonic() - begun < WITHIN + SLOW
    assert ran.status == 1
    (line,) = [line for line in ran.err.splitlines() if "warning" not in line]
    assert advice in line
    assert line.endswith("rdknotify doctor, with the same --url or --config-file, shows where it stops")


# -- send and listen ---------------------------------------------------------------------------------------------------


def test_a_file_goes_there_and_comes_back_and_nothing_stays_behind(
    kafka: LocalKafka, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(f"{topic}.info", 3)
    kafka.create_topic(f"{topic}.error", 1)
    file = tmp_path / "in.jsonl"
    with file.open("w") as out:
        for number in range(5000):
            priority = "error" if number % 100 == 0 else "info"
            json.dump({"event_type": f"e{number % 7}", "priority": priority, "payload": {"number": number}}, out)
            out.write("\n")
    ran = run("send", "--url", kafka.url, "--topic", topic, "--file", file)
    assert ran.status == 0, ran.err
    with Admin(kafka.url) as admin:
        before = {group.name for group in admin.groups()}
        heard = run(
            "listen", "--url", kafka.url, "--topic", topic, "--since", "1 hour ago", "--count", 5000, "--timeout", 60
        )
        assert {group.name for group in admin.groups()} == before
    assert heard.status == 0, heard.err
    found = [json.loads(line) for line in heard.out.splitlines()]
    assert sorted(each["payload"]["number"] for each in found) == list(range(5000))
    assert len({each["message_id"] for each in found}) == 5000
    assert "5,000 shown; stopped before " in heard.err and f"{topic}.error[0]@50" in heard.err
    for since, count in (("1 hour ago", 50), (time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + 3600)), 0)):
        only = run("listen", "--url", kafka.url, "--topic", topic, "--priority", "error", "--since", since,
                   "--count", 50, "--timeout", 60 if count else 1)  # fmt: skip
        assert len(only.out.splitlines()) == count, since


def test_a_pool_goes_on_where_it_stopped(kafka: LocalKafka, topic: str, group: str) -> None:
    kafka.create_topic(f"{topic}.info", 1)
    listen = ("listen", "--url", kafka.url, "--topic", topic, "--priority", "info", "--pool", group, "--timeout", 30)
    for number in range(5):
        assert run("send", "--url", kafka.url, "--topic", topic, f"e{number}").status == 0
    first = [json.loads(line)["event_type"] for line in run(*listen, "--count", 2).out.splitlines()]
    second = [json.loads(line)["event_type"] for line in run(*listen, "--count", 3).out.splitlines()]
    assert first + second == [f"e{number}" for number in range(5)]


def test_what_the_topic_refuses_is_resumed_when_it_may(kafka: LocalKafka, topic: str, tmp_path: Path) -> None:
    kafka.create_topic(topic, 1, config={"max.message.bytes": "2000"})
    file, failures = tmp_path / "in", tmp_path / "failures"
    file.write_bytes(b"\n".join([b"a", b"x" * 3000, b"b", b"y" * 4000, b"c"]))
    ran = run("send", "--url", kafka.url, "--raw", "--topic", topic, "--file", file, "--failures", failures)
    assert ran.status == 3
    assert "3 delivered, 2 certainly not, 0 possibly" in ran.err
    assert [json.loads(line)["line"] for line in failures.read_text().splitlines()] == [2, 4]
    again = run("send", "--url", kafka.url, "--resume", failures, "--failures", tmp_path / "left")
    assert (again.status, len((tmp_path / "left").read_text().splitlines())) == (1, 2)
    kafka.create_topic(f"{topic}-large", 1)
    failures.write_text(failures.read_text().replace(f'"{topic}"', f'"{topic}-large"'))
    assert run("send", "--url", kafka.url, "--resume", failures).status == 0
    # What had to be tried apart from its neighbours is in no order.
    assert {row[3] for row in read_all(kafka.bootstrap_servers, topic)} == {b"a", b"b", b"c"}
    assert {row[3] for row in read_all(kafka.bootstrap_servers, f"{topic}-large")} == {b"x" * 3000, b"y" * 4000}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_midst_of_it_loses_no_line(
    kafka: LocalKafka, topic: str, tmp_path: Path, how: signal.Signals
) -> None:
    kafka.create_topic(topic, 4)
    file, count = tmp_path / "in", 1_000_000
    with file.open("wb") as out:
        for start in range(0, count, 1000):
            out.write(b"".join(b"%07d%s\n" % (number, b"x" * 100) for number in range(start + 1, start + 1001)))
    send = ["send", "--url", kafka.url, "--raw", "--topic", topic, "--file", str(file), "--rate", "200000"]
    with subprocess.Popen([sys.executable, "-m", "rdknotify", *send], stderr=subprocess.PIPE, text=True) as sender:
        with Tail(kafka.url, [topic], start="earliest") as tail:
            assert tail.poll(1, 60)
        sender.send_signal(how)
        _, err = sender.communicate(timeout=60)
    assert sender.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[how], err
    found = re.search(r"go on with --from-line (\d+)", err)
    assert found is not None, err
    numbers = sorted(int((row[3] or b"")[:7]) for row in read_all(kafka.bootstrap_servers, topic))
    assert numbers == list(range(1, int(found[1])))


def test_notifications_from_a_service_are_read_by_its_configuration(
    kafka_secure: LocalKafka, topic: str, tmp_path: Path
) -> None:
    security = kafka_secure.security
    conf = tmp_path / "nova.conf"
    conf.write_text(
        f"[DEFAULT]\nuser = alice\n[oslo_messaging_notifications]\n"
        f"transport_url = {security.url('SASL_SSL', 'alice')}\ntopics = {topic}\n"
        f"[oslo_messaging_kafka]\nsecurity_protocol = SASL_SSL\nssl_cafile = {security.ca.file}\n"
        "sasl_mechanism = SCRAM-SHA-512\n"
    )
    kafka_secure.create_topic(f"{topic}.info", 1)
    sent = run("send", "--config-file", conf, "e", '{"n": 1}')
    assert sent.status == 0, sent.err
    heard = run("listen", "--config-file", conf, "--since", "1 hour ago", "--count", 1, "--timeout", 30)
    assert json.loads(heard.out)["message_id"] == sent.out.strip()
    raw = run("listen", "--config-file", conf, "--since", "1 hour ago", "--count", 1, "--timeout", 30, "--raw",
              "--topic", f"{topic}.info")  # fmt: skip
    assert decode(json.loads(raw.out)["value"].encode()).payload == {"n": 1}
