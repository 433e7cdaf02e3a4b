"""The end of clients: closed, dropped, used afterwards, shared by threads, alive when the interpreter exits."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from support.waiting import PATIENCE

from rdknotify import _rdknotify as core
from rdknotify.errors import ClosedError, ConfigError, KafkaError

LIVE_CLIENTS = """
    import time
    mock = core.MockCluster(1)
    mock.set_group_rebalance_delay(0)
    mock.create_topic("records", 4)
    base = {"bootstrap.servers": mock.bootstrap_servers}
    producer = core.Producer(base)
    consumer = core.Consumer({**base, "group.id": "g", "partition.assignment.strategy": "cooperative-sticky"})
    consumer.subscribe(["records"])
    batch = core.Batch()
"""

ENDINGS = {
    "idle": "",
    "just made": "core.Producer(base)",
    "records in flight": 'mock.set_broker_up(1, False); producer.send_batch("records", [b"v"] * 1000)',
    "delivery held": 'delivery = producer.send("records", b"v")',
    "rebalance unanswered": "consumer.poll(batch, 10, 5)",
    "member": """
consumer.poll(batch, 10, 5)
kind, partitions, incremental = consumer.take_rebalance()
consumer.assign([(*partition, -2) for partition in partitions], incremental)
producer.send("records", b"v").result(10)
while not consumer.poll(batch, 10, 1): pass
view = memoryview(batch[0])""",
    "closed": "producer.shut(); consumer.shut(); mock.close()",
    "leaving": "consumer.poll(batch, 10, 5); consumer.leave(0)",
    "thread in poll": """
import threading
threading.Thread(target=consumer.poll, args=(batch, 10, None), daemon=True).start()
time.sleep(0.2)""",
    "thread in flush": """
import threading
mock.set_broker_up(1, False)
producer.send("records", b"v")
threading.Thread(target=producer.flush, daemon=True).start()
time.sleep(0.2)""",
    "thread in wait_events": """
import threading
threading.Thread(target=lambda: [core.wait_events(60) for _ in range(9)], daemon=True).start()
time.sleep(0.2)""",
    "cycle": "cycle = [producer, consumer]; cycle.append(cycle)",
    "exception": "import sys; sys.exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=list(ENDINGS))
def test_the_interpreter_exits_at_once_and_in_silence(run_script, ending, tmp_path):
    exits = tmp_path / "exits"
    script = f"{LIVE_CLIENTS}\n    import atexit, pathlib; atexit.register(pathlib.Path({str(exits)!r}).touch)\n"
    result = run_script(script + "\n".join("    " + line for line in ending.splitlines()))
    ended = time.time()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert ended - exits.stat().st_mtime < 8 * PATIENCE


def test_a_dropped_producer_delivers_what_it_had_taken(make_producer, read, topic):
    own = make_producer()
    own.send_batch(topic, [b"%d" % i for i in range(100)])
    make_producer.made.clear()
    del own
    gc.collect()
    assert len(read(100)) == 100


def test_dropping_never_waits(mock, make_producer, join, topic):
    own = make_producer()
    member = join()
    member.assigned(4)
    mock.set_broker_up(1, False)
    own.send_batch(topic, [b"v"] * 100)
    make_producer.made.clear()
    join.members.clear()
    begun = time.monotonic()
    del own, member
    gc.collect()
    assert time.monotonic() - begun < 1
    # Of what nobody waits for the native threads dispose; the fixture sees that they do.


def test_a_dropped_member_leaves_its_group(join, until):
    member = join()
    member.assigned(4)
    join.members.clear()
    del member
    gc.collect()
    assert len(join().assigned(4, timeout=5)) == 4


USES = {
    "send": lambda p, c: p.send("records", b"v"),
    "send_batch": lambda p, c: p.send_batch("records", [b"v"]),
    "flush": lambda p, c: p.flush(0),
    "purge": lambda p, c: p.purge(),
    "metadata": lambda p, c: p.metadata(timeout=1),
    "cluster_reachable": lambda p, c: p.cluster_reachable(1),
    "create_topics": lambda p, c: p.create_topics([("t", 1, 1, {})], 1),
    "delete_topics": lambda p, c: p.delete_topics(["t"], 1),
    "subscribe": lambda p, c: c.subscribe(["t"]),
    "poll": lambda p, c: c.poll(core.Batch(), 1, 0),
    "take_rebalance": lambda p, c: c.take_rebalance(),
    "assign": lambda p, c: c.assign([("records", 0, 0)], True),
    "unassign": lambda p, c: c.unassign([("records", 0)], True),
    "assignment": lambda p, c: c.assignment(),
    "commit": lambda p, c: c.commit([("records", 0, 1, -1)], 1),
    "committed": lambda p, c: c.committed([("records", 0)], 1),
    "positions": lambda p, c: c.positions([("records", 0)]),
    "watermarks": lambda p, c: c.watermarks("records", 0, 1),
    "offsets_for_times": lambda p, c: c.offsets_for_times([("records", 0, 0)], 1),
    "seek": lambda p, c: c.seek([("records", 0, 0)], 1),
    "pause": lambda p, c: c.pause([("records", 0)]),
    "resume": lambda p, c: c.resume([("records", 0)]),
    "leave": lambda p, c: c.leave(1),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_use_after_close_says_so(producer, join, use):
    member = join()
    producer.shut()
    member.client.shut()
    with pytest.raises(ClosedError, match="is closed"):
        use(producer, member.client)


def test_what_may_still_be_asked_after_close(producer, join, topic):
    delivery = producer.send(topic, b"v")
    delivery.result(10)
    for client in (producer, join().client):
        client.shut()
        client.shut()
        assert client.closed
        assert isinstance(client.take_events(), list)
    assert producer.in_flight == 0
    assert delivery.result(0).delivered == 1


def test_close_is_bounded_while_the_broker_is_silent(mock, make_producer, topic):
    producer = make_producer()
    producer.send(topic, b"known").result(10)
    mock.set_broker_rtt(1, 60_000)
    producer.send_batch(topic, [b"v"] * 10)
    time.sleep(0.1)
    begun = time.monotonic()
    producer.shut(1)
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("call", ["poll", "flush", "send", "wait", "metadata"])
def test_closing_ends_the_calls_of_other_threads(mock, make_producer, join, topic, until, call):
    producer = make_producer(queue_timeout=60, **{"queue.buffering.max.messages": "1"})
    member = join()
    mock.set_broker_up(1, False)
    delivery = producer.send(topic, b"v")
    calls = {
        "poll": lambda: member.client.poll(core.Batch(), 1, 60),
        "flush": lambda: producer.flush(60),
        "send": lambda: producer.send(topic, b"w"),
        "wait": lambda: delivery.wait(60),
        "metadata": lambda: producer.metadata(timeout=3),  # the native handle lives as long
    }
    ended = []

    def run():
        try:
            ended.append(calls[call]())
        except KafkaError as error:
            ended.append(error)
        except ClosedError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    assert not ended
    producer.shut()
    member.client.shut()
    thread.join(2)
    assert not thread.is_alive()
    assert isinstance(ended[0], ClosedError) or call in ("wait", "flush")


def test_many_threads_send_through_one_producer(producer, read, topic):
    def send(number):
        for i in range(50):
            producer.send_batch(topic, [b"%d-%d-%d" % (number, i, j) for j in range(10)], keys=[b"%d" % number] * 10)
            producer.send(topic, b"%d-%d-single" % (number, i), headers={"n": str(number)})

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(10) == 0
    values = [record.value for record in read(8 * 50 * 11)]
    assert len(values) == len(set(values)) == 8 * 50 * 11


def test_commits_and_questions_from_other_threads_while_one_polls(producer, join, topic):
    member = join()
    where = member.assigned(4)
    stop = threading.Event()
    failures = []

    def ask():
        try:
            while not stop.is_set():
                member.client.positions(where)
                member.client.watermarks(*where[0], 5)
                member.client.pause(where[:1])
                member.client.resume(where[:1])
                member.client.commit([(*where[1], 0, -1)], 5)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        producer.send_batch(topic, [b"v"] * 50)
    member.batches(1000)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("conf", [{"no.such.property": "1"}, {"acks": "banana"}, {"batch.size": "-5"}])
def test_a_bad_property_is_named_and_leaves_nothing_behind(conf):
    with pytest.raises(ConfigError, match=next(iter(conf))):
        core.Producer(conf)


def test_a_client_is_opened_once(producer):
    with pytest.raises(TypeError, match="open already"):
        producer.__init__({})


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_negative_timeout_is_refused(producer, timeout):
    with pytest.raises(ValueError, match="timeout"):
        producer.flush(timeout)
