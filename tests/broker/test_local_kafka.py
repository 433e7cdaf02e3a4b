"""The kit's real Kafka: keeps its data through kill -9, elects leaders, never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from support.processes import processes_of
from support.reader import read_all

from rdknotify.errors import ConfigError
from rdknotify.testing import LocalKafka, LocalKafkaError, RunningKafka
from rdknotify.testing.wire import ask_metadata

pytestmark = pytest.mark.broker

FAILOVER = 10.0
"""Seconds for a new leader: the session of a dead broker is 3, an election well under one."""


@pytest.fixture
def own_kafka() -> Iterator[LocalKafka]:
    """One node that is this test's alone, for what must not happen to a shared or a foreign one."""
    with LocalKafka() as kafka:
        yield kafka


def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Produce with a client that is not ours; every record is acknowledged, or the test fails."""
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 30_000})
    for number, value in enumerate(values):
        producer.produce(
            topic,
            value,
            key=b"%d" % number,
            headers=[("n", b"%d" % number)],
            on_delivery=lambda error, _: refused.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert not refused


def test_a_cluster_whose_random_id_begins_with_a_dash_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=b"\xfb\xff" * 8))
    with LocalKafka() as kafka:
        kafka.create_topic("t", partitions=1)


def test_an_independent_client_reads_what_it_wrote(kafka: LocalKafka | RunningKafka, topic: str) -> None:
    kafka.create_topic(topic, partitions=3)
    write(kafka.bootstrap_servers, topic, [b"a", b"b", b"c"])

    rows = read_all(kafka.bootstrap_servers, topic)

    assert sorted((key, value, headers) for _, _, key, value, headers in rows) == [
        (b"0", b"a", [("n", b"0")]),
        (b"1", b"b", [("n", b"1")]),
        (b"2", b"c", [("n", b"2")]),
    ]
    assert all(0 <= partition < 3 for partition, *_ in rows)


def test_an_unknown_topic_comes_into_being_with_four_partitions(kafka: LocalKafka | RunningKafka, topic: str) -> None:
    if not kafka.managed:
        pytest.skip("a foreign Kafka has its own settings")
    write(kafka.bootstrap_servers, topic, [b"first"])

    assert [row[3] for row in read_all(kafka.bootstrap_servers, topic)] == [b"first"]
    assert len(kafka.views()[0].topics[topic]) == 4


def test_kill_and_restart_keep_the_records(own_kafka: LocalKafka, topic: str) -> None:
    values = [b"%d" % number for number in range(1000)]
    own_kafka.create_topic(topic, partitions=2)
    write(own_kafka.bootstrap_servers, topic, values)
    before = own_kafka.bootstrap_servers

    own_kafka.kill(1)
    assert own_kafka.up == []
    own_kafka.restart(1)

    assert own_kafka.bootstrap_servers == before
    assert sorted(row[3] or b"" for row in read_all(before, topic)) == sorted(values)


def test_a_paused_node_is_silent_and_a_resumed_one_answers(own_kafka: LocalKafka, topic: str) -> None:
    own_kafka.create_topic(topic)
    own_kafka.pause(1)
    host, port = own_kafka.bootstrap_servers.split(":")
    with pytest.raises(TimeoutError):
        ask_metadata(host, int(port), timeout=0.5)

    own_kafka.resume(1)
    write(own_kafka.bootstrap_servers, topic, [b"awake"])

    assert [row[3] for row in read_all(own_kafka.bootstrap_servers, topic)] == [b"awake"]


def test_a_graceful_stop_says_so_in_the_log(own_kafka: LocalKafka) -> None:
    own_kafka.stop(1)

    assert own_kafka.up == []
    assert "shut down completed" in own_kafka.log_tail(1, 200)


def test_three_nodes_elect_a_new_leader_after_a_kill(kafka3: LocalKafka, topic: str) -> None:
    kafka3.create_topic(topic, partitions=1)
    write(kafka3.bootstrap_servers, topic, [b"before"])
    first = kafka3.leader_of(topic, 0)

    kafka3.kill(first)
    started = time.monotonic()
    second = kafka3.leader_of(topic, 0)
    took = time.monotonic() - started
    write(kafka3.bootstrap_servers, topic, [b"after"])

    assert second != first
    assert took < FAILOVER
    assert [row[3] for row in read_all(kafka3.bootstrap_servers, topic)] == [b"before", b"after"]


def test_the_reader_refuses_a_topic_that_is_not_there(kafka: LocalKafka | RunningKafka, topic: str) -> None:
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC_OR_PART"):
        read_all(kafka.bootstrap_servers, topic)


def test_the_reader_reads_on_through_an_election(kafka3: LocalKafka, topic: str) -> None:
    kafka3.create_topic(topic, partitions=3)
    values = [b"%d" % number for number in range(3000)]
    write(kafka3.bootstrap_servers, topic, values)

    kafka3.kill(kafka3.leader_of(topic, 0))

    assert sorted(row[3] or b"" for row in read_all(kafka3.bootstrap_servers, topic)) == sorted(values)


def test_three_nodes_are_whole_again_for_the_next_test(kafka3: LocalKafka) -> None:
    """Whatever the test before did to them."""
    assert kafka3.up == [1, 2, 3]
    assert all(view.brokers == {1, 2, 3} for view in kafka3.views())


def test_no_jvm_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = "import sys, time; from rdknotify.testing import LocalKafka\n"
    script += "with LocalKafka() as kafka: print(kafka.bootstrap_servers, flush=True); time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent, parent.stdout as told:
        assert told.readline().startswith("127.0.0.1:")
        alive = processes_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
    assert alive

    deadline = time.monotonic() + 5
    while processes_of(parent.pid):
        assert time.monotonic() < deadline, "the JVM is still there 5 s after its owner was killed"
        time.sleep(0.02)


def test_ctrl_c_ends_the_nodes_and_removes_their_folder(tmp_path: Path) -> None:
    script = "import time; from rdknotify.testing import LocalKafka\n"
    script += "with LocalKafka() as kafka: print(kafka.folder, flush=True); time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent:
        assert parent.stdout.readline().startswith(str(tmp_path))
        parent.send_signal(signal.SIGINT)
        _, errors = parent.communicate(timeout=20)

    assert errors.strip().endswith("KeyboardInterrupt")
    assert processes_of(parent.pid) == []
    assert list(tmp_path.glob("rdknotify-kafka-*")) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # 3.12 and later, since there are threads
def test_a_forked_child_that_exits_leaves_kafka_alone(own_kafka: LocalKafka) -> None:
    child = os.fork()
    if child == 0:
        own_kafka.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    own_kafka.wait_ready(5)
    assert own_kafka.folder.is_dir()


def test_a_broker_that_cannot_start_shows_its_reason() -> None:
    with pytest.raises(LocalKafkaError, match=r"Invalid value soon for configuration log.retention.ms"):
        LocalKafka(config={"log.retention.ms": "soon"}).start()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"nodes": 2}, "nodes=2"),
        ({"config": {"listeners": "PLAINTEXT://:9092"}}, "listeners"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LocalKafka(**arguments)  # type: ignore[arg-type]


def test_a_node_that_is_not_there_is_named(own_kafka: LocalKafka) -> None:
    with pytest.raises(ConfigError, match="node=7: the nodes are 1"):
        own_kafka.kill(7)


def test_a_closed_cluster_says_so() -> None:
    with pytest.raises(LocalKafkaError, match="start"):
        _ = LocalKafka().bootstrap_servers
