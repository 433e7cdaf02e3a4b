"""After a fork: the parent goes on undisturbed, the child is told, and neither hangs at its end."""

from __future__ import annotations

import json

import pytest
from support.figures import Figures

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
    admin = core.Admin(base)

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
            refused(lambda: admin.describe_cluster(10)),
            refused(lambda: mock.create_topic("other", 1)),
            producer.take_events() == [], not core.wait_events(0),
            not any(core.live_handles().values()),
        ]
        producer.shut(10); consumer.shut(10); admin.shut(10); mock.close()
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
    producer.shut(); consumer.shut(); admin.shut(); mock.close()
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


FORKING = """
    import json, multiprocessing, os, sys, threading, time
    from rdknotify.errors import ClosedError
    mock = core.MockCluster(1)
    mock.create_topic("records", 1)
    producer = core.Producer({"bootstrap.servers": mock.bootstrap_servers})
    producer.send("records", b"known").result(10)
    told, tells = os.pipe()
    stop = threading.Event()
    deliveries = []

    def send():
        while not stop.wait(0.001):
            deliveries.append(producer.send_batch("records", [b"v"] * 100))

    def child():
        begun = time.monotonic()
        try:
            producer.send("records", b"child")
        except ClosedError:
            os.write(tells, json.dumps(time.monotonic() - begun).encode() + b"\\n")

    def forked(ending):
        pid = os.fork()
        if pid == 0:
            child()
            ending(0)
        return os.waitpid(pid, 0)[1]

    def spawned():
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        return process.exitcode

    thread = threading.Thread(target=send)
    thread.start()
    longest, statuses = 0.0, []
    for number in range(12):
        time.sleep(0.05)
        begun = time.monotonic()
        statuses.append([lambda: forked(sys.exit), lambda: forked(os._exit), spawned][number % 3]())
        longest = max(longest, time.monotonic() - begun)
    stop.set()
    thread.join()
    os.close(tells)
    with os.fdopen(told) as lines:
        answers = [float(line) for line in lines]
    missing = sum(delivery.total - delivery.result(10).delivered for delivery in deliveries)
    producer.shut()
    mock.close()
    print(json.dumps({"children": len(statuses), "untold": len(statuses) - len(answers), "told": max(answers),
                      "bad": sum(map(bool, statuses)), "longest": longest, "missing": missing}))
"""


def test_a_parent_that_is_sending_forks_again_and_again(run_script, figure: Figures):
    result = run_script(FORKING)
    assert (result.returncode, result.stderr) == (0, "")
    seen = json.loads(result.stdout)
    figure("F17", "children", seen["children"])
    figure("F17", "children whose use of the parent's producer raised no ClosedError", seen["untold"], at_most=0)
    figure("F17", "longest time until it was raised", seen["told"], "s", at_most=0.1)
    figure("F17", "children that ended badly", seen["bad"], at_most=0)
    figure("F17", "longest life of a child", seen["longest"], "s", at_most=2)
    figure("F17", "records of the parent that were not delivered", seen["missing"], at_most=0)
