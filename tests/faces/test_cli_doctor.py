"""``rdknotify doctor`` without a real broker: each step's failure with its cause and what to do next, in time."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
from rich.console import Console
from support.command import Ran, run
from support.hanging_up import hanging_up

from rdknotify.cli.doctor import certificate, releases, report, wire
from rdknotify.cli.doctor.broker import Broker, Way, probe
from rdknotify.cli.doctor.finding import Deadline, Finding, State, side_by_side
from rdknotify.options import resolve
from rdknotify.testing import MockCluster

WITHIN = 10.0


def found(*arguments: object, status: int = 3) -> list[dict[str, Any]]:
    """The findings, which must come in time."""
    begun = time.monotonic()
    ran = run("doctor", *arguments, "--json")
    assert time.monotonic() - begun < WITHIN
    assert ran.status == status, ran
    told = json.loads(ran.out)
    assert told["ok"] is (status == 0)
    findings: list[dict[str, Any]] = told["findings"]
    for finding in findings:
        assert finding["text"]
        assert finding["advice"] or finding["state"] != "trouble", finding
    return findings


def troubles(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["state"] == "trouble"]


def test_all_is_well_with_the_embedded_broker() -> None:
    findings = found("--url", "mock:", status=0)
    assert [finding["check"] for finding in findings if finding["state"] == "ok"] == [
        "options", "name", "tcp", "sasl", "versions", "login",
    ]  # fmt: skip
    ran = run("doctor", "--url", "mock:")
    assert (ran.status, ran.rows[0][:3]) == (0, ["ok", "settings", "options"])
    assert "all is well" in ran.err


def test_a_record_goes_there_and_back(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("trial", 2)
    findings = found("--url", mock_cluster.url, "--write", "trial", "-o", "fetch.wait.max.ms=20", status=0)
    (record,) = [finding for finding in findings if finding["check"] == "record"]
    assert record["state"] == "ok" and record["facts"]["read_seconds"] >= record["facts"]["delivered_seconds"] > 0


@contextmanager
def silent() -> Iterator[str]:
    with hanging_up(None) as address:
        yield address


DEAD = {
    "nobody there": ("127.0.0.1:1", "tcp", "refused, nobody listens there", "start the broker"),
    "no such name": ("nowhere.invalid:9092", "name", "nobody knows the name nowhere.invalid", "check its spelling"),
}


@pytest.mark.parametrize("case", DEAD)
def test_who_is_not_there(case: str) -> None:
    address, check, text, advice = DEAD[case]
    findings = found("--url", address)
    (trouble,) = troubles(findings)
    assert (trouble["subject"], trouble["check"]) == (f"broker {address}", check)
    assert text in trouble["text"] and advice in trouble["advice"]
    (login,) = [finding for finding in findings if finding["check"] == "login"]
    assert login["state"] == "skipped"


def test_frozen_brokers_are_told_in_time() -> None:
    with ExitStack() as stack:
        addresses = [stack.enter_context(silent()) for _ in range(6)]
        findings = found("--url", ",".join(addresses))
    assert [finding["subject"] for finding in troubles(findings)] == [f"broker {address}" for address in addresses]
    for finding in troubles(findings):
        assert "has not answered" in finding["text"] and "broker's log" in finding["advice"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "its answer begins with 'HTTP'"),
        (b"\x00\x00\x00\x05\x00\x00\x00\x01\x00", "no Kafka"),
        (b"", "then ends them"),
    ],
)
def test_what_is_no_kafka(answer: bytes, text: str) -> None:
    with hanging_up(answer) as address:
        (trouble,) = [one for one in troubles(found("--url", address)) if one["check"] != "login"]
    assert trouble["check"] == "kafka" and text in trouble["text"]
    assert "port" in trouble["advice"]


def test_the_good_are_found_beside_the_bad(mock_cluster: MockCluster) -> None:
    findings = found("--url", f"{mock_cluster.url},127.0.0.1:1")
    assert [finding["check"] for finding in troubles(findings)] == ["tcp"]
    assert {finding["check"]: finding["state"] for finding in findings}["login"] == "ok"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["sasl_mechanism=NONE"], "sasl_mechanism='NONE'"),
        (["ssl_cafile=/nowhere/ca.pem"], "option ssl_cafile"),
        (["no_such_option=1"], "unknown"),
        (["security_protocol=SASL_SSL"], "needs a user name and password"),
    ],
)
def test_wrong_settings_are_a_finding(options: list[str], text: str) -> None:
    findings = found("--url", "127.0.0.1:1", *(part for option in options for part in ("-o", option)))
    assert troubles(findings)[0]["check"] == "options"
    assert text in troubles(findings)[0]["text"]


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDKNOTIFY_URL", "kafka://alice:geheim7@127.0.0.1:1")
    for ran in (run("doctor"), run("doctor", "--json"), run("doctor", "--verbose")):
        assert ran.status == 3
        assert "geheim7" not in ran.out + ran.err
        assert "alice" in ran.out


def test_an_address_that_only_the_cluster_named_is_advertised() -> None:
    settings = resolve("kafka://127.0.0.1:1", "admin")
    for host in ("nowhere.invalid", "127.0.0.1"):
        broker = Broker(host, 1, number=7)
        probe(broker, Way.of(settings), Deadline(5))
        last = broker.findings[-1]
        assert last.subject.endswith("(number 7)") and last.state is State.TROUBLE
        assert "advertised.listeners" in last.advice


def test_one_dead_address_of_several_is_a_warning(mock_cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it does not refuse but is silent, what is behind the other is still looked at."""
    port = int(mock_cluster.bootstrap_servers.rpartition(":")[2])
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    places = [(*kind, (address, port)) for address in ("127.0.0.9", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    connect = socket.socket.connect

    class Slow(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] == "127.0.0.9":
                time.sleep(self.gettimeout() or 0)
                raise TimeoutError
            connect(self, address)

    monkeypatch.setattr(socket, "socket", Slow)
    broker = Broker("two.example", port)
    probe(broker, Way.of(resolve(mock_cluster.url, "admin")), Deadline(2))
    tcp = broker.findings[1]
    assert (tcp.check, tcp.state) == ("tcp", State.WARNING)
    assert "127.0.0.9: no answer in time" in tcp.text and "take away" in tcp.advice
    assert broker.findings[-1].check == "versions" and broker.healthy


def test_a_check_that_hangs_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library's look-up of names knows no time limit."""
    let_go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: let_go.wait(60))
    (trouble,) = troubles(found("--url", "slow.example:9092"))
    let_go.set()
    assert "the name service does not answer" in trouble["text"]


# -- its parts -----------------------------------------------------------------------------------------------


def test_a_certificate_is_read_as_others_read_it(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    end = now + timedelta(days=12, hours=1)
    authority = trustme.CA(organization_name="Müller & Söhne")
    leaf = authority.issue_cert(
        "kafka.example", "10.0.0.1", "2001:db8::1", common_name="broker 1", not_before=now, not_after=end
    )
    read = certificate.read_pem(leaf.cert_chain_pems[0].bytes().decode())
    assert set(read.names) == {"kafka.example", "10.0.0.1", "2001:db8::1"}
    assert (read.begins, read.ends, read.days_left) == (now, end, 12)
    assert "CN=broker 1" in read.subject
    assert "O=Müller & Söhne" in read.issuer


def test_a_certificate_far_off_is_read(tmp_path: Path) -> None:
    """From 2050 on times are written in another way."""
    end = datetime(2060, 5, 4, tzinfo=timezone.utc)
    leaf = trustme.CA().issue_cert("a.example", not_after=end)
    assert certificate.read_pem(leaf.cert_chain_pems[0].bytes().decode()).ends == end


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_what_is_no_certificate_is_an_error(cut: int) -> None:
    with pytest.raises(ValueError, match="certificate"):
        certificate.read(b"\x30\x82\x02\x00" + b"\x30" * cut)


def answered(answer: bytes) -> wire.Versions:
    """What is made of an answer to ApiVersions."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        return wire.api_versions(ours, Deadline(5))


def test_a_short_or_wild_answer_is_an_error_of_the_network() -> None:
    body = struct.pack(">ihB", 1, 0, 2) + struct.pack(">hhhB", 18, 0, 4, 0) + struct.pack(">iB", 0, 0)
    whole = struct.pack(">i", len(body)) + body
    assert answered(whole).apis == {18: (0, 4)}
    for length in range(len(whole)):
        with pytest.raises(OSError, match=r"Kafka|closed"):
            answered(whole[:length])
    for wild in (b"\xff" * 30, b"\x00\x00\x00\x14" + b"\xff" * 20, b"\x7f\xff\xff\xff"):
        with pytest.raises(OSError, match=r"Kafka|closed"):
            answered(wild)


@pytest.mark.parametrize(
    ("supported", "finalized", "text", "state"),
    [
        (30, 30, "Kafka 4.3", State.OK),
        (99, 99, "Kafka 4.4 or newer", State.OK),
        (14, 14, "Kafka 3.6", State.OK),
        (30, 21, "its features are still those of Kafka 3.9", State.WARNING),
    ],
)
def test_which_kafka_it_is(supported: int, finalized: int, text: str, state: State) -> None:
    every = dict.fromkeys(range(80), (0, 1))
    about = releases.describe(
        wire.Versions(every, {"metadata.version": supported}, {"metadata.version": finalized, "share.version": 1})
    )
    assert text in about.text and about.state is state
    assert "share groups: yes" in about.text


def test_a_broker_that_is_too_old_is_trouble() -> None:
    assert releases.describe(wire.Versions({0: (0, 1), 18: (0, 0)})).state is State.TROUBLE


def test_checks_that_do_not_end_are_left_behind() -> None:
    let_go = threading.Event()
    begun = time.monotonic()
    assert side_by_side([lambda: 1, lambda: let_go.wait(30) and 2, lambda: 3], Deadline(0.3)) == [1, None, 3]
    assert time.monotonic() - begun < 5
    let_go.set()
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0], Deadline(5))


def test_the_table_has_the_next_step_below_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console = Console(record=True, width=80, force_terminal=True, color_system=None)
    findings = [
        Finding("broker a:1", "name", State.OK, "stands for 10.0.0.1"),
        Finding("broker a:1", "tcp", State.TROUBLE, "refused [sic]", "start it"),
    ]
    report.as_table(findings, console)
    shown = console.export_text()
    assert (
        shown.index("broker a:1")
        < shown.index("stands for")
        < shown.index("refused [sic]")
        < shown.index("next: start")
    )
    assert shown.count("broker a:1") == 1
    assert max(map(len, shown.splitlines())) <= 80


def test_lines_are_one_a_finding(mock_cluster: MockCluster) -> None:
    ran: Ran = run("doctor", "--url", mock_cluster.url.replace("127.0.0.1", "localhost"))
    assert {len(row) for row in ran.rows} == {5}
    assert {row[0] for row in ran.rows} <= {state.value for state in State}
