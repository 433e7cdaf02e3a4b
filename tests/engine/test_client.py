"""A client says within its connect timeout what is wrong, and the exit of the process closes what is open."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest
from support.hanging_up import hanging_up
from support.processes import STRICT_PYTHON
from support.waiting import until

from rdknotify import _rdknotify as core
from rdknotify.client import connect, open_clients
from rdknotify.consumer import Consumer
from rdknotify.errors import AuthenticationError, Timeout
from rdknotify.events import ClientEvents
from rdknotify.producer import Producer


def failure(address, **options):
    begun = time.monotonic()
    with pytest.raises(Timeout) as caught:
        Producer(f"kafka://{address}", connect_timeout=0.7, **options)
    assert 0.7 <= time.monotonic() - begun < 2
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert address in str(error)
    assert "connect_timeout=0.7" in str(error)
    return str(error)


def test_a_refused_connection():
    text = failure("127.0.0.1:1")
    assert "Connection refused" in text
    assert "check host and port" in text


def test_an_unknown_host():
    text = failure("no-such-host.invalid:9092")
    assert "resolve" in text
    assert "check the host name" in text


def test_a_silent_port():
    with hanging_up(None) as address:
        assert "check the addresses" in failure(address)


def test_a_port_that_hangs_up_may_want_tls():
    with hanging_up(b"") as address:
        assert "may want TLS or SASL" in failure(address)


def test_a_port_that_speaks_something_else():
    with hanging_up(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "not a Kafka port" in failure(address)


def test_tls_to_a_plaintext_port():
    with hanging_up(b"\x00\x00\x00\x05plain") as address, pytest.raises(AuthenticationError) as caught:
        Producer(f"kafka://{address}", security_protocol="SSL")
    assert "does not speak TLS: check security_protocol" in str(caught.value)


def test_several_brokers_of_which_one_answers(mock_cluster):
    with Producer(f"kafka://127.0.0.1:1,{mock_cluster.bootstrap_servers}", connect_timeout=5) as producer:
        assert producer.send("t", b"v").result(10).delivered == 1


def test_without_connect_timeout_nobody_is_asked(mock_cluster):
    mock_cluster.broker_down(1)
    begun = time.monotonic()
    with Producer(mock_cluster.url, connect_timeout=None) as producer:
        assert time.monotonic() - begun < 0.5
        delivery = producer.send("t", b"v")
        mock_cluster.broker_up(1)
        assert delivery.result(10).delivered == 1


def test_a_slow_answer_is_waited_for(mock_cluster):
    mock_cluster.delay(0.6)
    with Producer(mock_cluster.url, connect_timeout=5):
        mock_cluster.delay(0)


@pytest.mark.parametrize("make", [Producer, lambda url, **options: Consumer(url, ["t"], **options)])
def test_a_failed_construction_leaves_nothing(make):
    before, known = core.live_handles()["clients"], set(open_clients)
    with pytest.raises(Timeout):
        make("kafka://127.0.0.1:1", connect_timeout=0.2)
    assert set(open_clients) <= known
    until(lambda: core.live_handles()["clients"] <= before, "the native handle is gone")


class Unreachable:
    """A handle that no broker answers, and its events."""

    def __init__(self, *events):
        self.events = ClientEvents("rdkafka#test-1")
        self._pending = list(events)

    def take_events(self):
        taken, self._pending = self._pending, []
        return taken

    def cluster_reachable(self, timeout):
        time.sleep(timeout)
        return False


@pytest.mark.parametrize(
    ("event", "advice"),
    [
        (("_AUTHENTICATION", "SASL authentication error: Invalid username or password"), "the user, the password"),
        (("_AUTHENTICATION", "SASL handshake failed: broker's supported mechanisms: "), "does not offer"),
        (("_SSL", "certificate verify failed: certificate has expired"), "renew"),
        (("_SSL", "certificate verify failed: IP address mismatch"), "host name in the URL"),
        (("_SSL", "certificate verify failed: unable to get local issuer certificate"), "ssl_cafile"),
        (("_TRANSPORT", "sslv3 alert bad certificate: SSL alert number 42"), "ssl_client_cert_file"),
    ],
)
def test_a_refusal_is_raised_at_once_with_what_to_check(event, advice):
    handle = Unreachable(("error", -187, "_ALL_BROKERS_DOWN", "1/1 brokers are down"), ("error", -1, *event))
    begun = time.monotonic()
    with pytest.raises(AuthenticationError) as caught:
        connect(handle, handle, 30, "broker:9093")
    assert time.monotonic() - begun < 1
    assert advice in str(caught.value)
    assert event[1] in str(caught.value)
    assert "broker:9093" in str(caught.value)


# -- the exit of the process -------------------------------------------------------------------------------------------


def run(script, *arguments, timeout=20):
    code = "import logging, sys, threading, time\nlogging.basicConfig(format='%(levelname)s %(message)s')\n"
    code += "from rdknotify import Consumer, Producer\nurl = sys.argv[1]\n" + textwrap.dedent(script)
    command = [*STRICT_PYTHON, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def count(mock_cluster):
    """How many records the topic ``t`` holds."""

    def count() -> int:
        asking = core.Consumer({"bootstrap.servers": mock_cluster.bootstrap_servers, "group.id": "count"})
        try:
            return sum(asking.watermarks("t", partition, 5)[1] for partition in range(4))
        finally:
            asking.shut()

    mock_cluster.create_topic("t")
    return count


ENDS = {
    "end of script": "",
    "sys.exit": "sys.exit(0)",
    "from a thread": "threading.Thread(target=lambda: (time.sleep(0.2), producer.send('t', b'late'))).start()",
    "in a cycle": "cycle = [producer]; cycle.append(cycle)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_exit_delivers_what_was_sent(mock_cluster, count, end):
    script = "producer = Producer(url)\nproducer.send_batch('t', [b'v'] * 1000)\n" + end
    result = run(script, mock_cluster.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert count() == (1001 if "late" in end else 1000)


def test_exit_tells_what_it_could_not_deliver(mock_cluster):
    script = """
        producer = Producer(url, flush_timeout=0.5, connect_timeout=None)
        producer.send_batch("t", [b"v"] * 7)
    """
    mock_cluster.broker_down(1)
    begun = time.monotonic()
    result = run(script, mock_cluster.url)
    assert time.monotonic() - begun < 6
    assert result.returncode == 0
    assert "ERROR" in result.stderr
    assert "7 records were not delivered" in result.stderr


def test_exit_is_bounded_for_all_clients_together(mock_cluster):
    script = """
        producers = [Producer(url, flush_timeout=1, connect_timeout=None) for _ in range(5)]
        consumers = [Consumer(url, ["t"], connect_timeout=None) for _ in range(5)]
        for producer in producers: producer.send("t", b"v")
    """
    mock_cluster.broker_down(1)
    begun = time.monotonic()
    assert run(script, mock_cluster.url).returncode == 0
    assert time.monotonic() - begun < 8


CONSUMING = {
    "idle": "",
    "thread in poll": "threading.Thread(target=lambda: [b for b in consumer], daemon=True).start(); time.sleep(0.3)",
}


@pytest.mark.parametrize("consuming", CONSUMING.values(), ids=list(CONSUMING))
def test_exit_leaves_the_group(mock_cluster, count, consuming):
    script = """
        consumer = Consumer(url, ["t"], "g", on_revoked=lambda gone, lost: print(len(gone), lost))
        while not consumer.assignment(): consumer.poll(timeout=0.1)
    """
    result = run(textwrap.dedent(script) + consuming, mock_cluster.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "4 False\n", "")


def test_a_forked_child_neither_flushes_nor_hangs_at_its_exit(mock_cluster, count):
    script = """
        import os
        producer = Producer(url, config={"linger.ms": 300})
        consumer = Consumer(url, ["t"], "g")
        consumer.poll(timeout=0.5)
        producer.send_batch("t", [b"v"] * 10)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    result = run(script, mock_cluster.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert count() == 10


def test_ctrl_c_at_exit_ends_the_waiting(mock_cluster):
    script = """
        import os, signal
        producer = Producer(url, connect_timeout=None)
        producer.send("t", b"v")
        timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True  # the exit waits for other threads before it closes clients
        timer.start()
    """
    mock_cluster.broker_down(1)
    begun = time.monotonic()
    result = run(script, mock_cluster.url)
    assert time.monotonic() - begun < 5
    assert result.returncode == 0
    assert "interrupted" in result.stderr


# -- Ctrl-C and forks --------------------------------------------------------------------------------------------------

WAITING = {
    "Producer()": "Producer('kafka://127.0.0.1:1', connect_timeout=60)",
    "producer.send": "[producer.send('t', b'v') for _ in range(3)]",
    "producer.flush": "producer.send('t', b'v'); producer.flush()",
    "producer.close": "producer.send('t', b'v'); producer.close(60)",
    "consumer.poll": "consumer.poll(timeout=60)",
    "for batch in consumer": "[batch for batch in consumer]",
    "consumer.commit": "consumer.commit({consumer.assignment()[0]: 1}, 60)",
    "consumer.committed": "consumer.committed(timeout=60)",
    "consumer.lag": "consumer.lag(60)",
    "consumer.seek_to_time": "consumer.seek_to_time(0, 60)",
    "consumer.close": "consumer.close(60)",
}


@pytest.mark.parametrize("call", WAITING.values(), ids=list(WAITING))
def test_ctrl_c(mock_cluster, count, call):
    script = """
        import os, signal
        producer = Producer(url, max_in_flight=1, queue_timeout=60, flush_timeout=0)
        consumer = Consumer(url, ["t"], "g", close_timeout=0.1)
        while not consumer.assignment(): consumer.poll(timeout=0.1)
        consumer.poll(timeout=0.5)
        print("ready", flush=True)
        sys.stdin.readline()
        timer = threading.Timer(0.4, lambda: (times.append(time.monotonic()), os.kill(os.getpid(), signal.SIGINT)))
        times = []
        timer.start()
        try:
            {call}
        except KeyboardInterrupt:
            print(round(time.monotonic() - times[0], 2), flush=True)
    """
    code = "import sys, threading, time\nfrom rdknotify import Consumer, Producer\nurl = sys.argv[1]\n"
    code += textwrap.dedent(script).replace("{call}", call)
    command = [sys.executable, "-c", code, mock_cluster.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            mock_cluster.delay(60)
            output, _ = process.communicate("\n", timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert float(output) < 0.5


def test_a_forked_child_is_told_whatever_locks_its_parents_threads_hold(mock_cluster, count):
    script = """
        import os
        from rdknotify import ClosedError, TopicPartition
        producer = Producer(url)
        consumer = Consumer(url, ["t"], "g")
        threading.Thread(target=consumer.poll, kwargs={"timeout": 3}, daemon=True).start()
        time.sleep(0.5)
        child = os.fork()
        if child == 0:
            partition = TopicPartition("t", 0)
            for call in (
                consumer.poll, consumer.assignment, consumer.lag, lambda: consumer.commit({partition: 1}),
                lambda: producer.send("t", b"v"), producer.flush,
            ):
                try:
                    call()
                except ClosedError as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError(call)
            consumer.close()
            producer.close()
            with Producer(url) as own:
                assert own.send("t", b"child").result(10).delivered == 1
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert producer.send("t", b"parent").result(10).delivered == 1
    """
    result = run(script, mock_cluster.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert count() == 2
