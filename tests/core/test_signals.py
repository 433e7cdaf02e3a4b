"""Ctrl-C is answered within a fraction of a second by every call that can wait."""

from __future__ import annotations

import pytest
from support.interrupting import interrupted
from support.waiting import PATIENCE

SETUP = """
    import socket, sys, time
    from rdknotify import _rdknotify as core
    mock = core.MockCluster(1)
    mock.set_group_rebalance_delay(0)
    mock.create_topic("records", 1)
    base = {"bootstrap.servers": mock.bootstrap_servers}
    producer = core.Producer({**base, "queue.buffering.max.messages": "1"}, 60)
    producer.send("records", b"known").result(10)
    consumer = core.Consumer({**base, "group.id": "g", "partition.assignment.strategy": "cooperative-sticky"})
    consumer.subscribe(["records"])
    batch = core.Batch()
    consumer.poll(batch, 10, 5)
    kind, partitions, incremental = consumer.take_rebalance()
    consumer.assign([(*partition, -1) for partition in partitions], incremental)
    while consumer.poll(batch, 10, 0.2): batch.release()
    admin = core.Admin(base)
    admin.describe_cluster()
    mock.set_broker_rtt(1, 60_000)
    time.sleep(0.2)
    delivery = producer.send("records", b"v")
    server = socket.create_server(("127.0.0.1", 0))
    mute = core.Producer({"bootstrap.servers": "127.0.0.1:%d" % server.getsockname()[1]})
"""

CALLS = {
    "send on a full queue": 'producer.send("records", b"w")',
    "send_batch on a full queue": 'producer.send_batch("records", [b"w"] * 10)',
    "wait": "delivery.wait()",
    "result": "delivery.result(60)",
    "flush": "producer.flush()",
    "metadata": "producer.metadata(timeout=60)",
    "cluster_reachable": "producer.cluster_reachable(60)",
    "create_topics": 'mute.create_topics([("t", 1, 1, {})], 60)',
    "topic_ids": 'consumer.topic_ids(["records"], 60)',
    "list_offsets": 'admin.list_offsets([("records", 0, -1)], 60)',
    "group_offsets": 'admin.group_offsets("g", [("records", 0)], 60)',
    "describe_topics": 'admin.describe_topics(["records"], 60)',
    "poll": "consumer.poll(batch, 10, None)",
    "commit": 'consumer.commit([("records", 0, 1, -1)], 60)',
    "committed": 'consumer.committed([("records", 0)], 60)',
    "watermarks": 'consumer.watermarks("records", 0, 60)',
    "offsets_for_times": 'consumer.offsets_for_times([("records", 0, 0)], 60)',
    "leave": "while not consumer.leave(60): consumer.unassign(*consumer.take_rebalance()[1:])",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_ctrl_c(call):
    assert (
        interrupted(SETUP, call, "producer.shut(2); mute.shut(2); consumer.shut(2); admin.shut(2); mock.close()")
        < 0.5 * PATIENCE
    )
