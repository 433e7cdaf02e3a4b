"""The in-process cluster itself: what a test may ask of it."""

from __future__ import annotations

import socket

import pytest

from rdknotify import _rdknotify as core
from rdknotify.errors import ClosedError, KafkaError


def test_it_listens_on_real_ports():
    mock = core.MockCluster(3)
    addresses = mock.bootstrap_servers.split(",")
    assert len(addresses) == 3
    for address in addresses:
        host, port = address.rsplit(":", 1)
        socket.create_connection((host, int(port)), 2).close()
    mock.close()


def test_closing_is_once_and_final():
    mock = core.MockCluster()
    mock.close()
    mock.close()
    for use in (lambda: mock.bootstrap_servers, lambda: mock.create_topic("t"), lambda: mock.set_broker_up(1, True)):
        with pytest.raises(ClosedError):
            use()
    assert core.live_handles()["mock_clusters"] == 0


def test_a_dropped_cluster_is_gone():
    mock = core.MockCluster()
    del mock
    assert core.live_handles()["mock_clusters"] == 0


def test_topics_have_the_partitions_they_were_made_with(mock, producer):
    mock.create_topic("three", 3)
    assert len(producer.metadata("three", 5)["topics"]["three"]) == 3
    with pytest.raises(KafkaError):
        mock.create_topic("three", 3)


def test_a_broker_goes_down_and_comes_back(mock, producer, topic):
    producer.send(topic, b"v").result(10)
    mock.set_broker_up(1, False)
    assert not producer.cluster_reachable(0.3)
    mock.set_broker_up(1, True)
    assert producer.cluster_reachable(5)


def test_unknown_brokers_and_partitions_are_errors(mock, topic):
    with pytest.raises(KafkaError):
        mock.set_broker_up(9, False)
    with pytest.raises(KafkaError):
        mock.set_leader(topic, 99, 1)


def test_leaders_move_between_brokers():
    mock = core.MockCluster(2)
    mock.create_topic("t", 1, 2)
    producer = core.Producer({"bootstrap.servers": mock.bootstrap_servers, "enable.idempotence": "true"})
    leader = producer.metadata("t")["topics"]["t"][0]
    other = 3 - leader
    assert producer.send("t", b"before").result(10).delivered == 1
    mock.set_leader("t", 0, other)
    assert producer.send("t", b"after").result(10).delivered == 1
    assert producer.metadata("t")["topics"]["t"] == {0: other}
    producer.shut()
    mock.close()


def test_answers_of_one_broker_can_be_late(mock, producer, topic):
    producer.send(topic, b"v").result(10)
    mock.push_broker_request_errors(1, 0, [(0, 700)])
    delivery = producer.send(topic, b"late")
    assert not delivery.wait(0.4)
    assert delivery.result(10).delivered == 1


def test_versions_and_features():
    assert core.version().startswith("2.")
    assert {"gzip", "snappy", "lz4", "zstd", "ssl", "sasl_plain", "sasl_scram", "sasl_oauthbearer"} <= {
        *core.features()
    }
