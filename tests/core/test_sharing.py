"""The core's share consumer against the in-process cluster: turns, ends, Ctrl-C, forks; nothing native may leak."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.interrupting import interrupted
from support.waiting import until

from rdknotify import _rdknotify as core
from rdknotify.errors import ClosedError, ConfigError, KafkaError

ACCEPT, RELEASE, REJECT = 1, 2, 3
Make = Callable[..., core.ShareConsumer]

SETUP = """
    import time
    from rdknotify import _rdknotify as core
    mock = core.MockCluster(1)
    mock.create_topic("records", 1)
    base = {"bootstrap.servers": mock.bootstrap_servers}
    producer = core.Producer(base)
    member = core.ShareConsumer({**base, "group.id": "g"})
    member.subscribe(["records"])

    def first():
        batch = core.Batch()
        while member.poll(batch, 0.2) is None:
            producer.send("records", b"v")
        return batch
"""
"""The mock's share groups begin at the end of the log, so that a first record is sent until it arrives."""


@pytest.fixture
def make(mock: core.MockCluster) -> Iterator[Make]:
    """``make(**{"a.property": ...})``: a member of the group ``sharers``, subscribed."""
    made: list[core.ShareConsumer] = []

    def make(**conf: str) -> core.ShareConsumer:
        made.append(core.ShareConsumer({"bootstrap.servers": mock.bootstrap_servers, "group.id": "sharers", **conf}))
        made[-1].subscribe(["records"])
        return made[-1]

    yield make
    while made:
        made.pop().shut()


def acquired(member: core.ShareConsumer, producer: core.Producer) -> core.Batch:
    """The first batch: sent again until the group has found the topic, at whose end it begins."""
    batch = core.Batch()
    deadline = time.monotonic() + 20
    while member.poll(batch, 0.2) is None:
        assert time.monotonic() < deadline
        producer.send("records", b"v", b"k", {"h": b"1"})
    return batch


def test_each_record_is_settled_by_itself(make: Make, producer: core.Producer) -> None:
    member = make()
    batch = acquired(member, producer)
    (record, *others) = batch
    assert (record.value, record.key, record.headers, record.delivery_count) == (b"v", b"k", [("h", b"1")], 1)
    member.acknowledge(others, ACCEPT)
    with pytest.raises(KafkaError, match="not been acknowledged"):
        member.poll(core.Batch(), 0.1)
    member.acknowledge([record], RELEASE)
    assert member.commit(5) == {}
    with pytest.raises(KafkaError, match="it was settled and committed before"):
        member.acknowledge([record], ACCEPT)
    again = acquired(member, producer)
    assert (again[0].offset, again[0].delivery_count) == (record.offset, 2)
    member.acknowledge(again, REJECT)
    assert member.commit(5) == {} and member.commit(5) == {}


def test_a_record_of_another_consumer_is_refused(make: Make, producer: core.Producer) -> None:
    member, other = make(), make(**{"group.id": "others"})
    batch = acquired(member, producer)
    with pytest.raises(ValueError, match="was not acquired by this consumer"):
        other.acknowledge(batch, ACCEPT)
    with pytest.raises(ValueError, match="empty batch"):
        member.poll(batch, 0)


def test_threads_take_turns(make: Make, producer: core.Producer) -> None:
    member = make()
    batch = acquired(member, producer)
    member.acknowledge(batch, ACCEPT)
    ended: list[Exception] = []

    def poll() -> None:
        try:
            while member.poll(found := core.Batch(), None) is not None:
                member.acknowledge(found, ACCEPT)
        except (KafkaError, ClosedError) as error:
            ended.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    for _ in range(5):
        assert member.commit(5) == {}
        assert member.metadata("records")["topics"]
    begun = time.monotonic()
    assert member.leave(5)
    member.shut()
    thread.join(5)
    assert time.monotonic() - begun < 5 and len(ended) == 1


def test_records_outlive_their_consumer(make: Make, producer: core.Producer) -> None:
    member = make()
    batch = acquired(member, producer)
    record, view = batch[0], memoryview(batch[0])
    assert member.leave(5)
    member.shut(0)
    batch.release()
    assert member.closed and (record.value, bytes(view)) == (b"v", b"v")
    for call in (lambda: member.poll(core.Batch(), 1), lambda: member.commit(1), lambda: member.leave(1)):
        with pytest.raises(ClosedError, match="ShareConsumer is closed"):
            call()


def test_one_that_is_dropped_goes_by_itself(make: Make, producer: core.Producer, mock: core.MockCluster) -> None:
    member = core.ShareConsumer({"bootstrap.servers": mock.bootstrap_servers, "group.id": "dropped"})
    member.subscribe(["records"])
    acquired(member, producer)
    before = core.live_handles()["clients"]
    del member
    until(lambda: core.live_handles()["clients"] < before, timeout=10)


def test_what_is_not_for_share_consumers_is_refused(mock: core.MockCluster) -> None:
    base = {"bootstrap.servers": mock.bootstrap_servers}
    for name, value in {"isolation.level": "read_committed", "group.instance.id": "me", "nonsense": "1"}.items():
        with pytest.raises(ConfigError, match=name):
            core.ShareConsumer({**base, "group.id": "g", name: value})


def test_logs_errors_and_statistics_are_events(make: Make, mock: core.MockCluster) -> None:
    member = make(**{"statistics.interval.ms": "50"})
    mock.set_broker_up(1, False)
    seen: dict[str, set[str]] = {}

    def told() -> bool:
        member.poll(core.Batch(), 0.05)
        for kind, _, name, _ in member.take_events():
            seen.setdefault(kind, set()).add(name)
        return {"log", "error", "stats"} <= seen.keys() and "SHARECONSUMER" in seen["log"]

    until(told, "all kinds of events have come")
    mock.set_broker_up(1, True)


@pytest.mark.parametrize(
    "call",
    [
        "member.poll(core.Batch(), None)",
        "member.acknowledge(batch, 1); mock.set_broker_rtt(1, 60_000); member.commit(60)",
        "mock.set_broker_rtt(1, 60_000); member.leave(60)",
    ],
    ids=["poll", "commit", "leave"],
)
def test_ctrl_c(call: str) -> None:
    setup = SETUP + ("" if "Batch" in call else "    batch = first()\n")
    assert interrupted(setup, call, "batch = None; producer.shut(2); member.shut(2); mock.close()") < 0.5


def test_a_fork(run_script) -> None:
    done = run_script(
        SETUP
        + """
    import os
    from rdknotify.errors import ClosedError
    batch = first()
    child = os.fork()
    if not child:
        refused = 0
        for call in (lambda: member.poll(core.Batch(), 9), lambda: member.acknowledge(batch, 1),
                     lambda: member.commit(9), lambda: member.leave(9), lambda: member.subscribe(["records"])):
            try:
                call()
            except ClosedError as error:
                refused += "forked" in str(error)
        member.shut(9)
        os._exit(0 if refused == 5 and member.closed and not any(core.live_handles().values()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    member.acknowledge(batch, 1)
    assert member.commit(5) == {}
    batch.release()
    assert member.leave(5)
    member.shut(5); producer.shut(); mock.close()
    """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_interpreter_ends_with_a_member_at_work(run_script) -> None:
    done = run_script(
        SETUP
        + """
    import threading
    batch = first()
    member.acknowledge(batch, 1)
    threading.Thread(target=lambda: member.poll(core.Batch(), None), daemon=True).start()
    time.sleep(0.2)
    """
    )
    assert (done.returncode, done.stderr) == (0, "")
