"""Where eventlet has replaced threads, nothing of ours holds up the green threads, and nothing logs elsewhere."""

from __future__ import annotations

import pytest
from support.patched import run_patched

from rdknotify import green
from rdknotify.consumer import Consumer

pytest.importorskip("eventlet")


def test_without_eventlets_patching_everything_is_called_directly():
    assert not green.patched()
    assert green.call(max, 1, 2) == 2


def test_polling_an_empty_topic_does_not_hold_up_the_hub(mock_cluster):
    mock_cluster.create_topic("empty")
    run_patched(
        """
with Consumer(url, ["empty"], group()) as consumer:
    begun = time.monotonic()
    while time.monotonic() - begun < 2:
        assert not consumer.poll(timeout=1.0)
hub.check()
""",
        mock_cluster.url,
    )


def test_what_is_sent_is_polled_soon_committed_and_closed(mock_cluster):
    mock_cluster.create_topic("t", 1)
    out = run_patched(
        """
config = {"fetch.wait.max.ms": 5}  # the mock answers no sooner, whatever comes in between
with Producer(url) as producer, Consumer(url, ["t"], group(), config=config) as consumer:
    polled = []
    def take():
        while len(polled) < 100:
            batch = consumer.poll(timeout=5.0)
            polled.extend((value, time.monotonic()) for value in batch.values())
            batch.commit()
    taker = eventlet.spawn(take)
    while not consumer.assignment():
        eventlet.sleep(0.01)
    sent = []
    for number in range(100):
        sent.append(time.monotonic())
        delivery = producer.send("t", b"%d" % number)
        assert green.wait(delivery, 5.0) and delivery.result(0).delivered == 1
        while len(polled) <= number:  # each comes to a consumer that waits for it
            eventlet.sleep(0.001)
    taker.wait()
    assert [value for value, _ in polled] == [b"%d" % number for number in range(100)]
    late = sorted(there - gone for (_, there), gone in zip(polled, sent))
    assert consumer.committed() == {("t", 0): 100}
    producer.flush(5)
    producer.metadata("t")
    consumer.seek("t", 0, 50)
    assert consumer.poll(timeout=5.0).values()[0] == b"50"
    assert list(consumer.lag()) == [("t", 0)]
hub.check()
print(late[50])
""",
        mock_cluster.url,
    )
    assert float(out) < 0.02


def test_a_consumer_that_always_has_records_lets_the_others_have_their_turn(mock_cluster):
    mock_cluster.create_topic("full", 1)
    run_patched(
        """
with Producer(url) as producer:
    producer.send_batch("full", [b"v"] * 50_000).result(20)
with Consumer(url, ["full"], group()) as consumer:
    count = len(consumer.poll(1, timeout=10.0))
    turns = []
    def have_turns():
        while True:
            turns.append(count)
            eventlet.sleep(0)
    eventlet.spawn(have_turns)
    polls = 0
    while count < 50_000:
        count += len(consumer.poll(10, timeout=10.0))
        polls += 1
assert len(set(turns)) >= polls, f"{len(set(turns))} turns in {polls} polls"
""",
        mock_cluster.url,
    )


def test_silent_brokers_do_not_hold_up_the_hub(mock_cluster):
    mock_cluster.create_topic("t", 1)
    mock_cluster.delay(30)
    run_patched(
        """
from rdknotify.errors import Timeout
for make in (lambda: Producer(url, connect_timeout=1.0), lambda: Consumer(url, ["t"], group(), connect_timeout=1.0)):
    try:
        make()
    except Timeout:
        continue
    raise AssertionError("connected")
producer = Producer(url, connect_timeout=None)
producer.send("t", b"v")
consumer = Consumer(url, ["t"], group(), connect_timeout=None)
assert not consumer.poll(timeout=0.5)
for close in (producer.flush, producer.close, consumer.close):
    begun = time.monotonic()
    try:
        close(1.0)
    except Timeout:
        pass
    assert time.monotonic() - begun < 2.5, close
hub.check()
""",
        mock_cluster.url,
    )


def test_all_that_is_logged_is_logged_in_the_hubs_thread_and_ticks_go_on():
    run_patched(
        """
from rdknotify import events
class Ticker:
    ticks = 0
    def tick(self):
        self.ticks += 1
        logging.getLogger("rdknotify").info("tick in %d", threading.get_native_id())
ticker = Ticker()
events.every_tick(ticker)
producer = Producer(url, connect_timeout=None, config={"debug": "broker"})
consumer = Consumer(url, ["t"], group(), connect_timeout=None)
consumer.poll(timeout=0.5)
begun = time.monotonic()
while ticker.ticks < 2 and time.monotonic() - begun < 10:
    eventlet.sleep(0.05)
assert ticker.ticks >= 2
producer.close()
consumer.close(1.0)
assert len(logged_in) > 5 and set(logged_in) == {os.getpid()}, logged_in
hub.check()
""",
        "kafka://127.0.0.1:1",
    )


def test_patching_may_come_after_the_import(mock_cluster):
    mock_cluster.create_topic("t", 1)
    run_patched(
        """
with Producer(url) as producer, Consumer(url, ["t"], group()) as consumer:
    producer.send("t", b"v")
    assert consumer.poll(timeout=10.0).values() == [b"v"]
    assert not consumer.poll(timeout=1.0)
assert set(logged_in) <= {os.getpid()}
hub.check()
""",
        mock_cluster.url,
        imported_first=True,
    )


@pytest.mark.parametrize("ending", ["eventlet.Timeout(0.1)", "sigint()"])
def test_a_poll_that_is_interrupted_loses_no_record(mock_cluster, ending):
    mock_cluster.create_topic("t", 1)
    run_patched(
        """
import contextlib
@contextlib.contextmanager
def sigint():
    eventlet.spawn_after(0.1, os.kill, os.getpid(), signal.SIGINT)
    yield
signal.signal(signal.SIGINT, signal.default_int_handler)
taken, interrupted = [], 0
with Producer(url) as producer, Consumer(url, ["t"], group()) as consumer:
    while not consumer.assignment():
        consumer.poll(timeout=0.1)
    for number in range(10):
        # Sent when the poll is about to be interrupted, so that some arrive in between.
        eventlet.spawn_after(0.09 + number * 0.002, producer.send, "t", b"%d" % number)
        try:
            with ENDING:
                while True:
                    taken += consumer.poll(timeout=None).values()
        except (eventlet.Timeout, KeyboardInterrupt):
            interrupted += 1
    with eventlet.Timeout(10):
        while len(taken) < 10:
            taken += consumer.poll(timeout=0.5).values()
assert interrupted == 10
assert taken == [b"%d" % number for number in range(10)], taken
""".replace("ENDING", ending),
        mock_cluster.url,
    )


@pytest.mark.parametrize("used_before", ["consumer.poll(timeout=0.3)", "pass"])
def test_the_exit_of_the_process_delivers_and_ends_though_a_green_thread_polls(mock_cluster, used_before):
    mock_cluster.create_topic("t", 1)
    run_patched(
        """
producer = Producer(url, connect_timeout=None)
consumer = Consumer(url, ["empty"], group(), connect_timeout=None)
def poll_on():
    for batch in consumer:
        pass
USED
eventlet.spawn(poll_on)
producer.send("t", b"at exit")
hub.check()
""".replace("USED", used_before),
        mock_cluster.url,
    )
    with Consumer(mock_cluster.url, ["t"], "after") as consumer:
        assert consumer.poll(timeout=10).values() == [b"at exit"]


def test_a_forked_child_of_a_patched_process_sends_and_polls_and_so_does_its_parent(mock_cluster):
    mock_cluster.create_topic("t", 1)
    run_patched(
        """
def take(consumer, wanted):
    while wanted:
        for value in consumer.poll(timeout=0.1).values():
            wanted.discard(value)

def send(value):
    with Producer(url) as producer:
        assert green.wait(producer.send("t", value), 10.0)

consumer = Consumer(url, ["t"], group())
polling = eventlet.spawn(take, consumer, {b"child", b"parent"})  # the pool is at work when the process forks
eventlet.sleep(0.3)
child = os.fork()
if child == 0:
    status = 1
    signal.alarm(40)  # not left behind, come what may
    try:
        with eventlet.Timeout(20):
            send(b"child")
            with Consumer(url, ["t"], group()) as own:
                take(own, {b"child"})
            inner = Hub()
            green.call(eventlet.patcher.original("time").sleep, 0.5)
            inner.check()
        status = 0
    finally:
        os._exit(status)
with eventlet.Timeout(30):
    send(b"parent")
    polling.wait()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        eventlet.sleep(0.01)
assert ended[1] == 0, ended
consumer.close()
hub.check()
""",
        mock_cluster.url,
    )
