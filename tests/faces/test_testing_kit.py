"""The test kit without a broker: what it says when something is missing, its mock, its fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rdknotify import Producer
from rdknotify.errors import ConfigError
from rdknotify.testing import LocalKafkaError, MockCluster, RunningKafka, Security
from rdknotify.testing.jars import find_jars, find_java

JAVA_17 = "echo 'openjdk version \"17.0.1\"' >&2"
MVN_FETCHES = "mkdir jars; touch jars/kafka_2.13.jar; echo fetched >> $RDKNOTIFY_CACHE/fetches"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own for stand-ins of java and mvn, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("RDKNOTIFY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    return folder


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
    (folder / name).chmod(0o755)


def ask_kit() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rdknotify.testing"], capture_output=True, text=True, timeout=60)


def test_missing_java_is_one_line_that_says_what_to_install(tools: Path) -> None:
    told = ask_kit()

    assert told.returncode == 1
    assert told.stderr.startswith("rdknotify.testing: Java is missing: install Java 17 or later")
    assert told.stderr.count("\n") == 1


def test_missing_maven_is_one_line_that_says_what_to_install(tools: Path) -> None:
    install(tools, "java", JAVA_17)

    told = ask_kit()

    assert told.returncode == 1
    assert told.stderr.startswith("rdknotify.testing: Maven is missing")
    assert "apt install maven" in told.stderr
    assert "KAFKA_HOME" in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize("library", ["trustme", "jwt"])
def test_a_secure_kafka_names_the_library_that_it_misses(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(LocalKafkaError, match=rf"{library} is missing: pip install 'rdknotify\[testing\]'"):
        Security(tmp_path, lambda listener: "")


def test_an_old_java_is_named_with_what_is_needed(tools: Path) -> None:
    install(tools, "java", "echo 'java version \"1.8.0_392\"' >&2")

    with pytest.raises(LocalKafkaError, match=r"is Java 8, Kafka .* needs 17"):
        find_java()


def test_jars_are_fetched_once_and_need_no_maven_then(tools: Path) -> None:
    install(tools, "mvn", MVN_FETCHES)
    folder = find_jars()
    (tools / "mvn").unlink()

    started = time.monotonic()
    assert find_jars() == folder
    assert time.monotonic() - started < 0.1
    assert (folder / "kafka_2.13.jar").exists()


def test_two_processes_fetch_once(tools: Path) -> None:
    install(tools, "mvn", f"sleep 0.5; {MVN_FETCHES}")
    script = "from rdknotify.testing.jars import find_jars; print(find_jars())"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]

    folders = {process.communicate(timeout=30)[0].strip() for process in both}

    assert folders == {str(find_jars())}
    assert (Path(os.environ["RDKNOTIFY_CACHE"]) / "fetches").read_text() == "fetched\n"


def test_a_failed_fetch_tells_mavens_reason_and_leaves_nothing(tools: Path) -> None:
    script = "mkdir jars; touch jars/half.jar\necho '[ERROR] Could not transfer kafka_2.13: refused'\n"
    install(tools, "mvn", script + "echo '[ERROR] For more information read the articles'; exit 1")

    with pytest.raises(LocalKafkaError, match=r"could not fetch Kafka .*: Could not transfer kafka_2.13: refused$"):
        find_jars()

    assert [path.name for path in Path(os.environ["RDKNOTIFY_CACHE"]).iterdir()] == ["lock"]


def test_a_full_disk_names_the_folder_and_the_way_out(tools: Path) -> None:
    install(tools, "mvn", "echo '[ERROR] copy failed: No space left on device'; exit 1")

    with pytest.raises(LocalKafkaError, match=r"cache: the disk is full; RDKNOTIFY_CACHE names another folder"):
        find_jars()


def test_kafka_home_is_taken_without_maven(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(LocalKafkaError, match="has no Kafka"):
        find_jars()

    (tmp_path / "libs").mkdir()
    (tmp_path / "libs/kafka_2.13-4.3.1.jar").touch()
    assert find_jars() == tmp_path / "libs"


def test_a_running_kafka_refuses_what_would_stop_it() -> None:
    kafka = RunningKafka("10.0.0.1:9092, [fe80::1]:9093")

    assert kafka.url == "kafka://10.0.0.1:9092,[fe80::1]:9093"
    for verb in (kafka.stop, kafka.kill, kafka.pause, kafka.resume, kafka.restart):
        with pytest.raises(LocalKafkaError, match="runs without us"):
            verb(1)


def test_a_running_kafka_that_does_not_answer_is_named() -> None:
    with pytest.raises(LocalKafkaError, match=r"127.0.0.1:1 did not answer within 0.1 s"):
        RunningKafka("127.0.0.1:1").start(timeout=0.1)


@pytest.mark.parametrize("address", ["", "host", "host:", ":9092", "host:port"])
def test_a_bad_address_is_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="expected host:port"):
        RunningKafka(address)


def test_the_mock_fails_requests_by_name_and_serves_the_next(mock_cluster: MockCluster, topic: str) -> None:
    mock_cluster.create_topic(topic)
    with Producer(mock_cluster.url) as producer:
        mock_cluster.fail_next("Produce", "TOPIC_AUTHORIZATION_FAILED")
        refused = producer.send(topic, b"refused").result(10)
        served = producer.send(topic + ".other", b"served").result(10)

    assert [failure.error.name for failure in refused.failures] == ["TOPIC_AUTHORIZATION_FAILED"]
    assert served.delivered == 1


def test_the_mocks_broker_goes_down_and_comes_back(mock_cluster: MockCluster, topic: str) -> None:
    with Producer(mock_cluster.url) as producer:
        assert producer.send(topic, b"before").result(10).delivered == 1
        mock_cluster.broker_down(1)
        meanwhile = producer.send(topic, b"meanwhile")
        assert not meanwhile.wait(0.3)
        mock_cluster.broker_up(1)
        assert meanwhile.result(10).delivered == 1


def test_the_mock_delays_answers(mock_cluster: MockCluster, topic: str) -> None:
    with Producer(mock_cluster.url) as producer:
        producer.send(topic, b"warm").result(10)
        mock_cluster.delay(0.5)
        started = time.monotonic()
        producer.send(topic, b"slow").result(10)
        took = time.monotonic() - started
        mock_cluster.delay(0)

    assert 0.4 < took < 5


def test_the_mock_names_what_it_does_not_know(mock_cluster: MockCluster) -> None:
    with pytest.raises(ConfigError, match="api='Product'"):
        mock_cluster.fail_next("Product", "NO_ERROR")
    with pytest.raises(ConfigError, match="error='BROKEN'"):
        mock_cluster.fail_next("Produce", "BROKEN")
    with pytest.raises(ConfigError, match=r"delay=1\.0 needs a broker"):
        mock_cluster.fail_next("Produce", "NO_ERROR", delay=1.0)


def test_the_marker_broker_follows_from_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["rdknotify.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            def test_real(kafka): ...
            def test_cluster(kafka3, topic): ...
            def test_embedded(mock_cluster, topic, group): assert topic != group
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-m", "not broker", str(tmp_path)]

    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert "1 passed, 2 deselected" in told.stdout
