"""rdknotify's notifier and listener, to which nothing is told but the URL, the topic and the pool."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.clients.base import Job, roles
from benchmarks.clients.latency.pace import Arrivals, Stamp, paces
from benchmarks.clients.notifying import ENDING, PUBLISHER
from rdknotify import Listener, Notifier


def payload(stamp: Stamp, size: int) -> dict[str, Any]:
    """About so many bytes of JSON, besides the stamp."""
    sent, number = stamp
    return {"sent": sent, "number": number, "text": "x" * size}


class Endpoint:
    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        self._arrivals.take([(payload["sent"], payload["number"])])


def send(job: Job) -> None:
    topic = job.topic.removesuffix(ENDING)
    with Notifier(f"kafka://{job.brokers}", PUBLISHER, topics=[topic]) as notifier:
        for pace in paces(job):
            while not pace.over:
                for stamp in pace.due():
                    notifier.info({}, "compute.instance.update", payload(stamp, job.size))
                time.sleep(pace.wait())
            notifier.flush(60)


def receive(job: Job) -> None:
    arrivals = Arrivals(job)
    topic = job.topic.removesuffix(ENDING)
    with Listener(f"kafka://{job.brokers}", [topic], [Endpoint(arrivals)], pool=job.group):
        arrivals.complete.wait()


ROLES = roles(
    latency_send={"rdknotify notifications": send},
    latency_receive={"rdknotify notifications": receive},
)
