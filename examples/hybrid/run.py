"""An oslo.messaging service: RPC on one transport, notifications through Kafka on another.

    python examples/hybrid/run.py                       # on a Kafka of its own, which needs Java
    KAFKA=localhost:9092 python examples/hybrid/run.py  # on yours

RPC calls create instances, each of which notifies of its start and end; a listener stores what it is told.
Its database is busy once. Ends with 0 if every notification was stored, else with 1.
"""

import os
import sys
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path

import oslo_messaging
from oslo_config import cfg

from rdknotify.testing import LocalKafka

INSTANCES = 20
EVENTS = ("compute.instance.create.start", "compute.instance.create.end")
BUSY_AT = "web-7"
TIMEOUT = 60.0
"""Seconds to wait until everything is stored."""


class Compute:
    """The service; its methods are called by RPC."""

    def __init__(self, notifier):
        self._notifier = notifier

    def create_instance(self, ctxt, name):
        instance = {"id": str(uuid.uuid4()), "name": name}
        for event_type in EVENTS:
            self._notifier.info(ctxt, event_type, instance)
        return instance["id"]


class Meter:
    """Stores batches of notifications, as Ceilometer's notification agent does."""

    def __init__(self):
        self.stored = set()  # what is seen again after a crash is in it only once: a table with a unique key
        self.requeued = 0
        self._changed = threading.Condition()

    def info(self, notifications):
        if not self.requeued and any(each["payload"]["name"] == BUSY_AT for each in notifications):
            self.requeued = len(notifications)
            return oslo_messaging.NotificationResult.REQUEUE  # the database is busy: the batch comes again
        with self._changed:
            self.stored |= {(each["payload"]["id"], each["event_type"]) for each in notifications}
            self._changed.notify_all()
        return oslo_messaging.NotificationResult.HANDLED

    def wait_for(self, notifications):
        """Whether all of them are stored in time."""
        with self._changed:
            return self._changed.wait_for(lambda: notifications <= self.stored, TIMEOUT)


def main():
    conf = cfg.CONF
    conf([], default_config_files=[str(Path(__file__).with_name("service.conf"))])
    meter = Meter()
    with ExitStack() as stack:
        kafka = os.environ.get("KAFKA") or stack.enter_context(LocalKafka()).bootstrap_servers
        # Without url= it is the file's transport_url, as in a service; this one overrides the broker.
        notifications = oslo_messaging.get_notification_transport(conf, url=f"rdkafka://{kafka}")
        stack.callback(notifications.cleanup)
        rpc = oslo_messaging.get_rpc_transport(conf)
        stack.callback(rpc.cleanup)

        target = oslo_messaging.Target(topic="compute", server="host1")
        compute = Compute(oslo_messaging.Notifier(notifications, publisher_id="compute.host1"))
        serve(stack, oslo_messaging.get_rpc_server(rpc, target, [compute]))
        topics = [oslo_messaging.Target(topic=topic) for topic in conf.oslo_messaging_notifications.topics]
        listener = oslo_messaging.get_batch_notification_listener(
            notifications, topics, [meter], allow_requeue=True, batch_size=100, batch_timeout=1
        )
        serve(stack, listener)

        client = oslo_messaging.get_rpc_client(rpc, oslo_messaging.Target(topic="compute"))
        ids = [client.call({}, "create_instance", name=f"web-{number}") for number in range(INSTANCES)]
        sent = {(instance, event_type) for instance in ids for event_type in EVENTS}
        complete = meter.wait_for(sent)

    handled = len(sent & meter.stored)
    print(f"sent {len(sent)}, handled {handled}, requeued {meter.requeued}, lost {len(sent) - handled}")
    return 0 if complete and meter.requeued else 1


def serve(stack, server):
    """Start a server, and stop it at the end of the stack."""
    server.start(override_pool_size=1)  # one thread: one batch after the other, in the order of the partition
    stack.callback(server.wait)
    stack.callback(server.stop)


if __name__ == "__main__":
    sys.exit(main())
