"""The end of a process that leaves everything as it is: at once, in silence, and what was sent is delivered."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.figures import Figures

from rdknotify import Consumer, Notifier
from rdknotify.testing.mock import MockCluster

RUNS = 100
AT_ONCE = 2
SENT = ["sent", "notifications.info"]
READ = "read.info"
TIMEOUT = 30.0

PRELUDE = """
import atexit, gc, sys, threading, time
url, group, database = sys.argv[1:]
sent = 0
def ending():
    print(time.monotonic(), sent, flush=True)
"""
PRODUCER = """
from rdknotify import Producer
from rdknotify.errors import ClosedError
producer = Producer(url)
producer.send_batch("sent", [b"v"] * 10)
sent += 10
def harmless(function, *arguments):
    try:
        return function(*arguments)
    except ClosedError:
        pass
"""
NOTIFIER = """
from rdknotify import Notifier
notifier = Notifier(url, "n")
notifier.info({}, "t", {})
sent += 1
"""
CONSUMER = """
from rdknotify import Consumer
consumer = Consumer(url, ["read.info"], group)
while not (batch := consumer.poll()): pass
view = memoryview(batch[0])
"""
LISTENER = """
from rdknotify import Listener
class Endpoint:
    def info(self, *arguments): pass
listener = Listener(url, ["notifications"], [Endpoint()], pool=group + "-listener", settle="{settle}")
listener.start()
"""
PERSISTER = """
from rdknotify import Persister, SQLiteSink
persister = Persister(url, ["read.info"], group=group + "-persister", sink=SQLiteSink(database))
persister.start()
"""
PROGRAMS = {
    "a producer": PRODUCER,
    "a notifier": NOTIFIER,
    "a consumer with a batch": CONSUMER,
    "a listener, before": LISTENER.format(settle="before"),
    "a listener, after": LISTENER.format(settle="after"),
    "a persister": PERSISTER,
    "one of each": PRODUCER + NOTIFIER + CONSUMER + LISTENER.format(settle="after") + PERSISTER,
    "a thread in poll": CONSUMER + "threading.Thread(target=consumer.poll, args=(10, None), daemon=True).start()\n",
    "a thread in flush": PRODUCER + "threading.Thread(target=harmless, args=(producer.flush,), daemon=True).start()\n",
    "threads that go on sending": PRODUCER
    + """
def work():
    while not producer.closed:
        harmless(producer.send, "other", b"v")
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
""",
    "a thread that ends later": PRODUCER
    + """
def late():
    producer.flush(5)
    producer.send("sent", b"v")
    ending()
sent += 1
threading.Thread(target=late).start()
""",
    "a hook that runs after ours": "atexit.register(lambda: harmless(producer.send, 'other', b'v'))\n" + PRODUCER,
    "a hook that runs before ours": PRODUCER + 'sent += 1\natexit.register(lambda: producer.send("sent", b"v"))\n',
    "cycles that nobody collects": "gc.disable()\n"
    + PRODUCER
    + CONSUMER
    + "cycle = [producer, batch]; cycle += [cycle]\n",
    "a finalizer that uses a client": PRODUCER
    + """
class Last:
    def __del__(self, harmless=harmless, send=producer.send): harmless(send, "other", b"v")
last = Last()
last.self = last
""",
    "another interpreter": PRODUCER
    + """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
made = interpreters.create()
tried = '''
try:
    from rdknotify import Producer
except ImportError as error:
    assert "interpreter" in str(error)
'''
assert not interpreters.run_string(made, tried)
interpreters.destroy(made)
""",
}


class Ended(Exception):
    """A process ended otherwise than in order and in silence."""


def run(url: str, folder: Path, number: int) -> tuple[float, int]:
    """Seconds from the program's last line to the end of its process, and how many records it has sent."""
    name = list(PROGRAMS)[number % len(PROGRAMS)]
    code = PRELUDE + PROGRAMS[name] + "ending()\n" * ("ending()" not in PROGRAMS[name])
    arguments = [url, f"group-{number}", str(folder / f"{number}.db")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    ended = time.monotonic()
    if (done.returncode, done.stderr) != (0, ""):
        raise Ended(f"{name}: status {done.returncode}: {done.stderr}")
    told, sent = done.stdout.split()
    return ended - float(told), int(sent)


def test_a_hundred_processes_end(mock_cluster: MockCluster, tmp_path: Path, figure: Figures) -> None:
    for topic in (*SENT, READ):
        mock_cluster.create_topic(topic, partitions=1)
    with Notifier(mock_cluster.url, "n", topics=["read"]) as notifier:
        notifier.info({}, "t", {})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, mock_cluster.url, tmp_path, number) for number in range(RUNS)]
    ended = [each.result() for each in runs if not each.exception()]
    bad = [each.exception() for each in runs if each.exception()]
    print(*bad, sep="\n")
    figure("F18", f"of {RUNS} processes, ended otherwise than with status 0 and in silence", len(bad), at_most=0)
    longest = max(seconds for seconds, _ in ended)
    figure("F18", "longest time from a program's last line to the end of its process", longest, "s", at_most=2)
    sent = sum(count for _, count in ended)
    with Consumer(mock_cluster.url, SENT, "judge") as consumer:
        deadline = time.monotonic() + TIMEOUT
        for count in itertools.accumulate(len(consumer.poll()) for _ in itertools.count()):
            if count >= sent or time.monotonic() > deadline:
                break
    figure("F18", "records that were sent and not delivered", sent - count, at_most=0)
