"""The faults of the kit: what a client sees of each, that it ends, and that a cluster heals of all of them."""

from __future__ import annotations

import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import until

from rdknotify import Producer
from rdknotify.errors import ConfigError
from rdknotify.testing import faults
from rdknotify.testing.proxies import Proxies, ToxiproxyError, find_toxiproxy

pytestmark = pytest.mark.broker  # toxiproxy is fetched as real Kafka is


class Echo(socketserver.BaseRequestHandler):
    """Answers every byte with itself, and notes that it arrived."""

    def handle(self) -> None:
        while received := self.request.recv(1 << 16):
            self.server.received += len(received)  # type: ignore[attr-defined]
            self.request.sendall(received)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    received = 0


@pytest.fixture
def echo() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxies(echo: Server, tmp_path: Path) -> Iterator[Proxies]:
    with Proxies(tmp_path / "proxies") as proxies:
        proxies.add("echo 1", echo.server_address[1])
        proxies.add("echo 2", echo.server_address[1])
        yield proxies


class Line:
    """A connection through a proxy."""

    def __init__(self, proxies: Proxies, name: str = "echo 1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", proxies.port(name)), timeout=10)

    def answer(self, text: bytes = b"ping", timeout: float = 10) -> bytes | None:
        """What comes back; None for silence, nothing when the connection has ended."""
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(text)
            received = b""
            while len(received) < len(text) and (more := self._socket.recv(len(text))):
                received += more
            return received
        except TimeoutError:
            return None
        except (ConnectionError, BrokenPipeError):
            return b""

    def ended(self) -> bool:
        return self.answer() == b""

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def line(proxies: Proxies) -> Iterator[Line]:
    line = Line(proxies)
    assert line.answer() == b"ping"
    yield line
    line.close()


def works(proxies: Proxies, name: str = "echo 1") -> bool:
    try:
        line = Line(proxies, name)
    except ConnectionRefusedError:
        return False
    try:
        return line.answer(timeout=0.3) == b"ping"
    finally:
        line.close()


def test_cut_ends_connections_and_refuses_new_ones_of_its_target_only(proxies: Proxies, line: Line) -> None:
    with faults.Cut(proxies, "echo 1") as fault:
        assert str(fault) == "cut echo 1"
        assert line.ended()
        with pytest.raises(ConnectionRefusedError):
            Line(proxies)
        assert works(proxies, "echo 2")
    assert works(proxies)


def test_freeze_lets_nothing_through_and_keeps_connections(proxies: Proxies, echo: Server, line: Line) -> None:
    before = echo.received
    with faults.Freeze(proxies):
        assert line.answer(timeout=0.3) is None
        assert not works(proxies), "a new connection is taken, but nothing comes back"
        assert echo.received == before
    assert line.ended()
    assert works(proxies)


def test_dropped_replies_are_of_requests_that_arrived(proxies: Proxies, echo: Server, line: Line) -> None:
    before = echo.received
    with faults.DropReplies(proxies, "echo 1", patience=0):
        assert line.answer(timeout=0.3) is None
        assert echo.received == before + 4
    with faults.DropReplies(proxies, "echo 1", patience=0.2):
        waiting = Line(proxies)
        begun = time.monotonic()
        assert waiting.ended()
        assert time.monotonic() - begun < 5
        waiting.close()
    assert works(proxies)


def test_slow_is_late_both_ways_and_narrow(proxies: Proxies, line: Line) -> None:
    with faults.Slow(proxies, "echo 1", latency=0.1, bandwidth=100_000):
        begun = time.monotonic()
        assert line.answer() == b"ping"
        assert time.monotonic() - begun >= 0.2
        begun = time.monotonic()
        assert line.answer(b"x" * 50_000) == b"x" * 50_000
        assert time.monotonic() - begun >= 0.5
    begun = time.monotonic()
    assert line.answer() == b"ping"
    assert time.monotonic() - begun < 0.2, "the connection lives on"


def test_a_reset_storm_resets_again_and_again_but_lets_connect(proxies: Proxies, line: Line) -> None:
    with faults.ResetStorm(proxies, every=0.05) as storm:
        until(line.ended, "a connection that was there has ended")
        for _ in range(3):
            until(lambda: works(proxies), "a connection is let in between")
        until(lambda: storm.resets >= 5, "it goes on")
    survivor = Line(proxies)
    seen = storm.resets
    time.sleep(0.2)
    assert survivor.answer() == b"ping"
    assert storm.resets == seen, "it is over"
    survivor.close()


def test_a_storm_does_not_open_what_is_cut(proxies: Proxies) -> None:
    with faults.Cut(proxies, "echo 1"), faults.ResetStorm(proxies, every=0.02) as storm:
        until(lambda: storm.resets >= 3)
        assert not works(proxies)
    assert works(proxies)


def test_begin_and_end_and_heal_may_come_in_any_number(proxies: Proxies) -> None:
    chosen = [kind(proxies, "echo 1") for kind in (faults.Cut, faults.Freeze, faults.Slow, faults.DropReplies)]
    for fault in chosen:
        fault.end()
        fault.begin()
        fault.begin()
    proxies.heal()
    assert works(proxies)
    for fault in chosen:
        fault.end()
        fault.end()
    assert works(proxies)
    assert [str(fault) for fault in chosen] == ["cut echo 1", "freeze echo 1", "slow echo 1", "drop replies of echo 1"]


def test_a_proxy_may_be_added_while_they_run_and_an_unknown_one_is_named(proxies: Proxies, echo: Server) -> None:
    assert proxies.add("late", echo.server_address[1]) == proxies.port("late")
    assert works(proxies, "late")
    with pytest.raises(ConfigError, match="'late': there is such a proxy"):
        proxies.add("late", 1)
    with pytest.raises(ConfigError, match="name='late 2': the proxies are: echo 1, echo 2, late"):
        faults.Cut(proxies, "late 2").begin()


def test_the_program_is_named_by_the_environment_or_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDKNOTIFY_TOXIPROXY", str(tmp_path / "absent"))
    with pytest.raises(ToxiproxyError, match=r"RDKNOTIFY_TOXIPROXY=.*absent is no program"):
        find_toxiproxy()
    monkeypatch.setenv("RDKNOTIFY_TOXIPROXY", sys.executable)
    assert find_toxiproxy() == Path(sys.executable)
    monkeypatch.delenv("RDKNOTIFY_TOXIPROXY")
    monkeypatch.setenv("RDKNOTIFY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToxiproxyError, match=r"^Go is missing.*apt install golang-go.*RDKNOTIFY_TOXIPROXY") as told:
        find_toxiproxy()
    assert "\n" not in str(told.value)
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'refused by the proxy' >&2; exit 1\n")
    go.chmod(0o755)
    with pytest.raises(ToxiproxyError, match=r"could not fetch toxiproxy [\d.]+: refused by the proxy$"):
        find_toxiproxy()


def test_what_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDKNOTIFY_TOXIPROXY", "/bin/false")
    proxies = Proxies(tmp_path)
    with pytest.raises(ToxiproxyError, match="/bin/false did not answer"):
        proxies.start()
    proxies.close()


def test_no_proxy_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from rdknotify.testing.proxies import Proxies\n"
        f"proxies = Proxies(pathlib.Path({str(tmp_path)!r})); port = proxies.add('x', 1); proxies.start()\n"
        "print(port, flush=True); os.kill(os.getpid(), 9)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    port = int(told.stdout)

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return True
        return False

    until(gone, "the proxy is gone")


WORKER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("left", flush=True), sys.exit(0)))
print("began", flush=True)
while True: time.sleep(0.05)
"""


def test_a_member_is_killed_paused_and_told_to_leave_and_comes_back(tmp_path: Path) -> None:
    member = faults.Member("member 1", tmp_path, [sys.executable, "-c", WORKER])

    def began(times: int) -> None:
        until(lambda: member.log_tail(100).count("began") == times, "it has begun", 30)

    try:
        began(1)
        with faults.KillMember(member) as fault:
            assert str(fault) == "kill member 1"
            assert not member.running
        began(2)
        with faults.PauseMember(member):
            assert member.paused
        assert not member.paused
        with faults.LeaveMember(member):
            assert not member.running
            assert member.log_tail(1) == "left\n"
        began(3)
        member.send(signal.SIGSTOP)
        member.leave()
        assert not member.running
    finally:
        member.kill()


def test_a_cluster_suffers_and_heals(kafka3_proxied, topic: str) -> None:
    kafka = kafka3_proxied
    kafka.create_topic(topic, 3, 3)
    leader = kafka.leader_of(topic, 0)
    config = {"reconnect.backoff.max.ms": 500}
    with Producer(kafka.proxied_url, delivery_timeout=60, config=config) as producer:
        producer.send_batch(topic, [b"before"] * 30).result(30).raise_for_failures()
        suffering = [
            faults.Cut(kafka.proxies),
            faults.PauseNode(kafka, leader),
            faults.KillNode(kafka, leader % 3 + 1),
        ]
        for fault in suffering:
            fault.begin()
        assert kafka.is_paused(leader)
        assert len(kafka.up) == 1
        during = producer.send_batch(topic, [b"during"] * 30)
        assert not during.wait(0.5)
        kafka.heal()
        assert len(kafka.up) == 3
        during.result(30).raise_for_failures()
        for fault in suffering:
            fault.end()
        with faults.RestartNode(kafka, leader) as fault:
            assert str(fault) == f"restart node {leader}"
            assert leader not in kafka.up
        assert leader in kafka.up
        producer.send_batch(topic, [b"after"] * 30).result(30).raise_for_failures()
    chosen = [str(fault) for fault in faults.every_fault(kafka)]
    assert len(chosen) == len(set(chosen)) == 5 * 4 + 3 * 3 + 1
