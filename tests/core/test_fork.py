"""After a fork: the parent goes on undisturbed, the child is told, and neither hangs at its end."""

from __future__ import annotations

import pytest

PARENT = """
    import os, sys, time
    from rdknotify.errors import ClosedError
    mock = core.MockCluster(1)
    mock.set_group_rebalance_delay(0)
    mock.create_topic("records", 1)
    base = {"bootstrap.servers": mock.bootstrap_servers}
    producer = core.Producer(base)
    consumer = core.Consumer({**base, "group.id": "g", "auto.offset.reset": "earliest",
                              "partition.assignment.strategy": "cooperative-sticky"})
    consumer.subscribe(["records"])
    batch = core.Batch()

    def join():
        consumer.poll(batch, 10, 5)
        kind, partitions, incremental = consumer.take_rebalance()
        consumer.assign([(*partition, -2) for partition in partitions], incremental)

    def refused(call):
        try:
            call()
        except ClosedError as error:
            return "fork" in str(error)
        return False

    def settle():
        # A fork while a thread of librdkafka begins or ends may inherit a lock of OpenSSL's (docs/guarantees.md, Time).
        threads, since = -1, time.monotonic()
        while time.monotonic() - since < 0.15:
            if len(os.listdir("/proc/self/task")) != threads:
                threads, since = len(os.listdir("/proc/self/task")), time.monotonic()
            time.sleep(0.01)

    def child():
        begun = time.monotonic()
        checks = [
            producer.closed, consumer.closed,
            refused(lambda: producer.send("records", b"v")),
            refused(lambda: producer.send_batch("records", [b"v"])),
            refused(lambda: producer.flush(10)),
            refused(lambda: producer.metadata(timeout=10)),
            refused(lambda: consumer.poll(core.Batch(), 1, 10)),
            refused(lambda: consumer.assignment()),
            refused(lambda: consumer.commit([("records", 0, 1, -1)], 10)),
            refused(lambda: consumer.leave(10)),
            refused(lambda: mock.create_topic("other", 1)),
            producer.take_events() == [], not core.wait_events(0),
            not any(core.live_handles().values()),
        ]
        producer.shut(10); consumer.shut(10); mock.close()
        assert all(checks), checks
        assert time.monotonic() - begun < 1
"""

CHILD = """
    settle()
    pid = os.fork()
    if pid == 0:
        child()
        {ending}
    deadline = time.monotonic() + 10
    while (status := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.01)
    assert status[1] == 0, status
"""

AFTER = """
    assert producer.send_batch("records", [b"v"] * 10).result(10).delivered == 10
    assert producer.metadata(timeout=5)["topics"]
    producer.shut(); consumer.shut(); mock.close()
"""

STATES = {
    "idle": "",
    "records in flight": 'delivery = producer.send_batch("records", [b"v"] * 1000)',
    "broker away": 'mock.set_broker_up(1, False); delivery = producer.send("records", b"v")',
    "group member": "join()",
    "batch held": 'producer.send("records", b"v").result(10); join()\nwhile not consumer.poll(batch, 10, 1): pass',
    "closed": "producer.shut(); consumer.shut(); producer = core.Producer(base); "
    'consumer = core.Consumer({**base, "group.id": "g"})',
    "thread in poll": "import threading\n"
    "threading.Thread(target=lambda: consumer.poll(batch, 10, 3), daemon=True).start(); time.sleep(0.2)",
}


def indented(code):
    return "\n".join("    " + line for line in code.splitlines())


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)"])
@pytest.mark.parametrize("state", STATES.values(), ids=list(STATES))
def test_a_child_is_told_and_ends(run_script, state, ending):
    after = "mock.set_broker_up(1, True)\n" if "set_broker_up" in state else ""
    result = run_script(PARENT + "\n" + indented(state) + CHILD.format(ending=ending) + indented(after) + AFTER)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_child_waiting_for_its_parents_delivery_is_told(run_script):
    state = 'mock.set_broker_up(1, False); delivery = producer.send("records", b"v")'
    child = "assert refused(lambda: delivery.wait(10)); assert refused(lambda: delivery.result(10)); sys.exit(0)"
    after = "mock.set_broker_up(1, True)"
    script = PARENT + "\n" + indented(state) + CHILD.format(ending=child) + indented(after)
    result = run_script(script + "\n    assert delivery.result(10).delivered == 1\n" + AFTER)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_child_makes_clients_of_its_own(run_script):
    child = (
        'own = core.Producer(base); assert own.send("records", b"child").result(10).delivered == 1; '
        'own.shut(5); assert core.live_handles()["clients"] == 0; sys.exit(0)'
    )
    result = run_script(PARENT + CHILD.format(ending=child) + AFTER)
    assert (result.returncode, result.stderr) == (0, "")
