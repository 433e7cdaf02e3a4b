"""oslo.messaging's notifier and listener (executor threading), over its own driver and over ours."""

from __future__ import annotations

import time
from functools import partial

import oslo_messaging
from confluent_kafka import Consumer, TopicPartition

from benchmarks.clients.base import Job, roles
from benchmarks.clients.latency.notifications import Endpoint, payload
from benchmarks.clients.latency.pace import Arrivals, paces
from benchmarks.clients.notifying import ENDING, PUBLISHER
from benchmarks.oslo.client import connect
from benchmarks.setting import LINGER_MS

OPTIONS = f"/?producer_batch_timeout={LINGER_MS / 1000}"


def send(scheme: str, job: Job) -> None:
    transport = connect(scheme, job.brokers + OPTIONS)
    topic = job.topic.removesuffix(ENDING)
    notifier = oslo_messaging.Notifier(transport, PUBLISHER, driver="messagingv2", topics=[topic])
    for pace in paces(job):  # oslo.messaging can flush only by ending
        while not pace.over:
            for stamp in pace.due():
                notifier.info({}, "compute.instance.update", payload(stamp, job.size))
            time.sleep(pace.wait())
    transport.cleanup()


def receive(scheme: str, dropped: int, job: Job) -> None:
    _begin_at_beginning(job)
    arrivals = Arrivals(job, dropped)
    transport = connect(scheme, job.brokers + OPTIONS)
    target = oslo_messaging.Target(topic=job.topic.removesuffix(ENDING))
    listener = oslo_messaging.get_notification_listener(
        transport, [target], [Endpoint(arrivals)], executor="threading", pool=job.group
    )
    listener.start()
    arrivals.complete.wait()
    listener.stop()
    listener.wait()
    transport.cleanup()


def _begin_at_beginning(job: Job) -> None:
    """By itself the existing driver would begin at the end, and miss what is sent until then."""
    consumer = Consumer({"bootstrap.servers": job.brokers, "group.id": job.group})
    beginning = [TopicPartition(job.topic, partition, 0) for partition in range(job.partitions)]
    consumer.commit(offsets=beginning, asynchronous=False)
    consumer.close()


DRIVERS = {"kafka": 1, "rdkafka": 0}
"""With how many records are dropped at the start: its own driver polls there, to have the topic made, and lets go."""

ROLES = roles(
    latency_send={f"oslo.messaging {scheme}": partial(send, scheme) for scheme in DRIVERS},
    latency_receive={f"oslo.messaging {scheme}": partial(receive, scheme, lost) for scheme, lost in DRIVERS.items()},
)
