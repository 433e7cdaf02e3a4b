"""One run of one driver, in a process of its own: prints what came of it, as one line of JSON at the end.

``python -m benchmarks.oslo.client ...``
``... send SCHEME BROKERS TOPIC COUNT [green=1] [profile=1] [every=SECONDS]``
``... listen SCHEME BROKERS TOPIC COUNT [pool=NAME] [threads=N] [batch=N] [profile=1] [told=1]``

The scheme ``null`` stands for the same path through oslo.messaging over a driver that does nothing.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oslo_messaging.transport import NotificationTransport

PAYLOAD: dict[str, Any] = {
    "instance_id": "5e3a2cd8-9f1b-4f0a-8a3e-1f6f2c1f6d52",
    "state": "active",
    "host": "compute-17.example.org",
    "memory_mb": 2048,
    "disk_gb": 20,
    "vcpus": 2,
    "load": 0.73,
    "image": "cirros-0.6",
    "tenant": "6f70656e737461636b20342065766572",
}
"""237 bytes as the existing driver writes it, with a space behind each comma and colon."""
assert len(json.dumps(PAYLOAD)) == 237

ARRIVAL_TIMEOUT = 60.0
"""Seconds that the first notification may take."""
QUIET = 3.0
"""Seconds without a notification after which the missing ones count as lost."""
COUNTED = 0.95
"""Of a backlog: the wait for a last batch that never fills up, up to a second, would hide the speed behind it. The
existing driver's last two batches of 500 may wait, for the first notification is missing: 5 % of 20,000 and more.
"""


def connect(scheme: str, brokers: str, prepared: int = 0) -> NotificationTransport:
    """A transport; the null driver's hands out ``prepared`` notifications when it is listened to."""
    import oslo_messaging
    from oslo_config import cfg

    conf = cfg.ConfigOpts()
    conf([])
    if scheme != "null":
        return oslo_messaging.get_notification_transport(conf, f"{scheme}://{brokers}")
    from benchmarks.oslo.null import NullDriver

    url = oslo_messaging.TransportURL(conf, scheme)
    return oslo_messaging.transport.NotificationTransport(NullDriver(conf, url, prepared, PAYLOAD))


def send(scheme: str, brokers: str, topic: str, count: int, words: dict[str, str]) -> dict[str, Any]:
    """Send one by one, from the first call until ``cleanup()`` has flushed; or one ``every`` so many seconds."""
    if "green" in words:
        import eventlet

        eventlet.monkey_patch()
    import oslo_messaging

    transport = connect(scheme, brokers)
    notifier = oslo_messaging.Notifier(transport, "compute.node1", driver="messagingv2", topics=[topic])
    every = float(words.get("every", 0))
    with ExitStack() as stack:
        profile = stack.enter_context(_profile(words))
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            if every:
                time.sleep(max(wall + number * every - time.perf_counter(), 0))
                notifier.info({}, "compute.instance.update", {"sent": time.time_ns()})
            else:
                notifier.info({}, "compute.instance.update", PAYLOAD)
        transport.cleanup()
        seconds, used = time.perf_counter() - wall, time.process_time() - cpu
    return {"sent": count, "records": count, "seconds": seconds, "cpu": used, **profile.figures()}


class Endpoint:
    """Remembers which notifications came, and when."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.times: list[float] = []

    def info(self, ctxt: Any, publisher: str, event_type: str, payload: Any, metadata: dict[str, str]) -> None:
        self.times.append(time.perf_counter())
        self.ids.append(metadata["message_id"])


class BatchEndpoint(Endpoint):
    def info(self, messages: list[dict[str, Any]]) -> None:  # type: ignore[override]
        now = time.perf_counter()
        for message in messages:
            self.times.append(now)
            self.ids.append(message["metadata"]["message_id"])


class DelayEndpoint(Endpoint):
    """Remembers how long a notification was under way, in nanoseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[int] = []

    def info(self, ctxt: Any, publisher: str, event_type: str, payload: Any, metadata: dict[str, str]) -> None:
        self.delays.append(time.time_ns() - payload["sent"])
        super().info(ctxt, publisher, event_type, payload, metadata)


def listen(scheme: str, brokers: str, topic: str, count: int, words: dict[str, str]) -> dict[str, Any]:
    """Take ``count`` notifications. CPU is from before ``start()`` until the last of them is there.

    With ``told``, says when it listens and when the first is there, and the figures have the delays of the others.
    """
    import oslo_messaging

    batch, told = int(words.get("batch", 1)), "told" in words
    transport = connect(scheme, brokers, prepared=count)
    target, pool = [oslo_messaging.Target(topic=topic)], words.get("pool")
    endpoint = DelayEndpoint() if told else BatchEndpoint() if batch > 1 else Endpoint()
    if batch > 1:
        server = oslo_messaging.get_batch_notification_listener(
            transport, target, [endpoint], pool=pool, batch_size=batch, batch_timeout=1.0
        )
    else:
        server = oslo_messaging.get_notification_listener(transport, target, [endpoint], pool=pool)
    with ExitStack() as stack:
        profile = stack.enter_context(_profile(words))
        cpu = time.process_time()
        server.start(override_pool_size=int(words.get("threads", 0)))
        if told:
            print("listening", flush=True)
            wait_for(endpoint.ids, 1)
            print("ready", flush=True)
        used = wait_for(endpoint.ids, count) - cpu
        server.stop()
        server.wait()
    transport.cleanup()
    times = sorted(endpoint.times)
    records = min(int(count * COUNTED), len(times))
    different = len(set(endpoint.ids))
    return {
        "sent": count,
        "arrived": different,
        "twice": len(endpoint.ids) - different,
        "records": records,
        "seconds": times[records - 1] - times[0] if records else 0.0,
        "until_last": times[-1] - times[0] if times else 0.0,
        "cpu": used,
        **({"delays": endpoint.delays[1:]} if isinstance(endpoint, DelayEndpoint) else {}),
        **profile.figures(),
    }


def wait_for(ids: list[str], count: int) -> float:
    """Wait until so many are there, or no more come; the CPU seconds of the process when the last was seen."""
    seen, used, deadline = len(ids), time.process_time(), time.monotonic() + ARRIVAL_TIMEOUT
    while seen < count and time.monotonic() < deadline:
        time.sleep(0.02)
        if len(ids) > seen:
            seen, used, deadline = len(ids), time.process_time(), time.monotonic() + QUIET
    return used


def _profile(words: dict[str, str]) -> Any:
    from benchmarks.oslo.profiling import Profiles

    return Profiles("profile" in words)


def main(role: str, scheme: str, brokers: str, topic: str, count: str, *rest: str) -> None:
    """Run one client; the words are as on the command line."""
    words = dict(word.split("=", 1) for word in rest)
    figures = {"send": send, "listen": listen}[role](scheme, brokers, topic, int(count), words)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
