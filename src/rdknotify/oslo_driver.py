"""The driver of oslo.messaging for notifications: ``transport_url = rdkafka://...`` in place of ``kafka://...``.

The one file that knows oslo.messaging, and says in its words what :mod:`rdknotify.producer` and :mod:`rdknotify.feed`
do: same configuration group, topics and bytes as its own Kafka driver. ``docs/oslo.md`` is for those who operate it.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias

from oslo_config import cfg, types
from oslo_messaging import exceptions
from oslo_messaging._drivers import base
from oslo_messaging._drivers.kafka_driver import kafka_options

from rdknotify import events, green, topics
from rdknotify._rdknotify import Delivery
from rdknotify.envelope import encode_message
from rdknotify.errors import ConfigError, KafkaError, QueueFull, RdNotifyError
from rdknotify.feed import Feed, Item
from rdknotify.ledger import Ledger
from rdknotify.logged import error_name, tell
from rdknotify.option_table import OPTIONS, Option, Role
from rdknotify.options import for_role, resolve
from rdknotify.producer import Producer
from rdknotify.url import DEFAULT_PORT, TransportURL, is_secret

__all__ = ["RdKafkaDriver", "list_opts"]

log = logging.getLogger(__name__)

GROUP = "oslo_messaging_kafka"
_PROPERTIES = "librdkafka"
"""The option that holds librdkafka's properties."""
ATTEMPT_WAIT = 0.5
"""Seconds that one attempt waits for room in a full queue."""
SETTLE_EVERY = 32
"""Notifications between two looks at what became of earlier ones; the thread of events looks as well."""
CHECK_EVERY = 0.5
"""Seconds between two looks at whether the cluster refuses us, while a sender waits for its answer."""
FIRST_WAIT = 0.5
"""Seconds that the first notification of a process waits for a broker."""

_Receive: TypeAlias = Callable[[list[Any]], object]
_ROLES: tuple[Role, ...] = ("producer", "consumer", "listener", "driver")
_ELSEWHERE = "RPC is not what Kafka is for: use rabbit:// or amqp:// for it, and rdkafka:// for notifications only"


# -- options -----------------------------------------------------------------------------------------------------------


def _oslo_option(option: Option) -> cfg.Opt:
    default = option.default if option.oslo_default is None else option.oslo_default
    common: dict[str, Any] = {"default": default, "help": option.help, "secret": is_secret(option.name)}
    limits: dict[str, Any] = {"min": option.minimum, "max": option.maximum}
    if option.type is int:
        return cfg.IntOpt(option.oslo, **limits, **common)
    if option.type is float:
        return cfg.FloatOpt(option.oslo, **limits, **common)
    if option.type is bool:
        return cfg.BoolOpt(option.oslo, **common)
    if option.type is dict:
        return cfg.DictOpt(option.oslo, **{**common, "default": {}})
    return cfg.StrOpt(option.oslo, choices=(not option.several and option.choices) or None, **common)


_THEIRS: Sequence[cfg.Opt] = kafka_options.KAFKA_OPTS
_TAKEN: Mapping[str, Option] = {
    option.oslo: option
    for option in OPTIONS
    if not option.instead and option.type is not Callable and {*_ROLES} & {*option.roles}
}
"""What the driver heeds, by its name in the group; a callable cannot be written into a file."""
_OURS: Sequence[cfg.Opt] = [
    _oslo_option(option) for name, option in _TAKEN.items() if name not in {opt.dest for opt in _THEIRS}
]

_DEFAULTS: Mapping[str, Any] = {each.oslo: each.oslo_default for each in OPTIONS if each.oslo_default is not None}
"""Of options of theirs that nobody has set."""

for _opt in _THEIRS:
    # Theirs do not say so: a service that logs its options would log the password.
    _opt.secret = _opt.secret or is_secret(_opt.dest) or _opt.dest == "ssl_client_key_file"  # it may be the key itself


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options that we add, for oslo-config-generator (namespace ``rdknotify``)."""
    return [(GROUP, list(_OURS))]


class _NoQuery:
    """A URL for those who would refuse our options in its query."""

    query: ClassVar[Mapping[str, str]] = {}


def _register(conf: cfg.ConfigOpts) -> None:
    # oslo.config refuses a second registration of a name that differs in anything: theirs are theirs.
    kafka_options.register_opts(conf, _NoQuery)
    conf.register_opts(_OURS, group=GROUP)


def _transport_url(url: Any) -> TransportURL:
    """oslo.messaging's parsed URL as ours. Raises ConfigError."""
    hosts = [host for host in url.hosts if host.hostname]
    identities = {(host.username, host.password) for host in hosts if host.username or host.password}
    if len(identities) > 1:
        raise ConfigError(
            "transport URL: the hosts have different credentials; a client has one identity: give them once"
        )
    username, password = identities.pop() if identities else (None, None)
    topics.on_virtual_host("notifications", url.virtual_host)
    return TransportURL(
        hosts=tuple((host.hostname, host.port or DEFAULT_PORT) for host in hosts),
        username=username,
        password=password,
        virtual_host=url.virtual_host or None,
        query={name: value for name, value in url.query.items() if name != _PROPERTIES},
        scheme="rdkafka",
    )


def _pairs(text: str) -> dict[str, str]:
    """Properties in the URL, written as in a configuration file. Raises ConfigError."""
    try:
        return dict(types.Dict()(text))
    except ValueError:  # which may show a secret
        raise ConfigError(f"URL parameter {_PROPERTIES}: it is written as name:value,name:value") from None


# -- sending -----------------------------------------------------------------------------------------------------------


class _Sender:
    """The producer of one process, and what it has not accounted for yet. Thread-safe."""

    def __init__(
        self, driver: RdKafkaDriver, url: TransportURL, options: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        self._driver = weakref.ref(driver)
        # Not to wait for a broker here: a service starts, and its notifications wait in the queue.
        self._producer = Producer(url, config=config, **{**options, "connect_timeout": None})
        self._send = self._producer.send
        self._ledger = Ledger(keep=0)
        # Before a broker is there librdkafka is refused its producer's id, and asks again half a second later.
        green.call(self._producer.cluster_reachable, FIRST_WAIT)
        _senders.add(self)
        events.every_tick(self)

    def tick(self) -> None:
        """Close when the transport was dropped and nothing is in flight any more."""
        if self._driver() is None and not self._producer.in_flight:
            self.close()

    @property
    def closed(self) -> bool:
        """Closed, or made in another process."""
        return self._producer.closed

    @property
    def failed(self) -> int:
        return self._ledger.failed

    def send(
        self, topic: str, value: bytes, key: str | None, message: Mapping[str, Any], retry: int, wait: bool
    ) -> None:
        """Enqueue; with ``wait`` raise MessageDeliveryFailure unless the broker has it. Raises a fatal KafkaError."""
        message_id, event_type = message.get("message_id", ""), message.get("event_type", "")
        try:
            if wait:
                self._producer.check_accepted()  # before anything is queued
            try:
                delivery = self._send(topic, value, key, timeout=0.0)
            except QueueFull:
                delivery = self._send_later(topic, value, key, retry)
        except KafkaError as error:
            if error.fatal:
                raise
            self._ledger.refused(topic, message_id, event_type, error)
            if wait:
                raise _failure(message_id, event_type, topic, str(error)) from error
            return
        if not wait:
            pending = self._ledger.pending
            pending.append((delivery, topic, message_id, event_type))
            if not len(pending) % SETTLE_EVERY:
                self._ledger.settle()
            return
        while not green.wait(delivery, CHECK_EVERY):  # ends: delivery_timeout bounds every outcome
            try:
                self._producer.check_accepted()
            except KafkaError as error:
                self._ledger.pending.append((delivery, topic, message_id, event_type))
                text = f"{error}; it stays queued, and is sent if that passes within delivery_timeout"
                raise _failure(message_id, event_type, topic, text) from error
        for failure in delivery.result(0).failures:
            self._ledger.failed += 1
            raise _failure(message_id, event_type, topic, f"{failure.outcome.name}, {failure.error}") from failure.error

    def _send_later(self, topic: str, value: bytes, key: str | None, retry: int) -> Delivery:
        """Try again while the queue is full, ``retry`` times; -1: without end. Raises QueueFull."""
        attempts = itertools.count() if retry < 0 else range(retry)
        # Where eventlet has replaced threads, waiting inside would stop all green ones.
        inside, outside = (0.0, ATTEMPT_WAIT) if green.patched() else (ATTEMPT_WAIT, 0.0)
        for _ in attempts:
            green.pause(outside)
            with suppress(QueueFull):
                return self._send(topic, value, key, timeout=inside)
        return self._send(topic, value, key, timeout=0.0)

    def close(self) -> None:
        """Deliver what is queued, within ``flush_timeout``; what cannot be is logged."""
        try:
            self._producer.close()
        except RdNotifyError as error:
            tell(log, "close_failed", "rdkafka: %s", error, error=error_name(error))
        self._ledger.settle_all()
        _senders.discard(self)


_senders: set[_Sender] = set()
"""Those that are not closed: a transport that is dropped without ``cleanup()`` has queued what is to be delivered."""


def _failure(message_id: str, event_type: str, topic: str, reason: str) -> exceptions.MessageDeliveryFailure:
    return exceptions.MessageDeliveryFailure(f"notification {message_id} ({event_type}) to {topic}: {reason}")


class RdKafkaDriver(base.BaseDriver):  # type: ignore[misc]
    """Notifications over Kafka by rdknotify; RPC raises NotImplementedError. Thread-safe, usable after fork.

    Raises ConfigError at construction for a URL, option or virtual host that is wrong.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: Any,
        default_exchange: str | None = None,
        allowed_remote_exmods: Sequence[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        _register(conf)
        self._transport_url = _transport_url(url)
        values, config = self._options()
        settings = {role: resolve(self._transport_url, role, for_role(values, role), config).values for role in _ROLES}
        self._settle = settings["listener"]["settle"]
        self._requeue_unsupported = settings["driver"]["requeue_unsupported"]
        self._wait = settings["driver"]["notify_wait"]
        key = settings["driver"]["notification_key"]
        self._key_field = None if key == "none" else key
        for name in (opt.dest for opt in _THEIRS):
            # Other releases of oslo.messaging have other options.
            if name not in _TAKEN and not self._is_unset(name):
                log.warning("[%s] %s has no effect on rdkafka://", GROUP, name)
        self._topics: dict[str, str] = {}
        self._sender: _Sender | None = None
        self._undelivered = 0
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        _drivers.add(self)

    def after_fork(self) -> None:
        """In the child: the producer and the listeners are the parent's, and the lock may be held for ever."""
        self._lock = threading.Lock()
        self._sender = None
        self._listeners = set()

    def _options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the configuration file says now: the options of all roles, and librdkafka properties."""
        group = self.conf[GROUP]
        try:
            values = {name: group[name] for name in _TAKEN}
        except cfg.ConfigSourceValueError as error:
            raise ConfigError(f"[{GROUP}]: {error}") from None
        values |= {name: default for name, default in _DEFAULTS.items() if self._is_unset(name)}
        in_url = self._url.query.get(_PROPERTIES)
        return values, dict(values[_PROPERTIES] if in_url is None else _pairs(in_url))

    def _is_unset(self, name: str) -> bool:
        found = self.conf.get_location(name, GROUP)
        return found is None or found.location is cfg.Locations.opt_default

    # -- sending

    def send_notification(
        self, target: Any, ctxt: Any, message: dict[str, Any], version: float, retry: int | None = None
    ) -> None:
        """Publish to ``<target.topic>[.<virtual host>]``, as version 2 whatever ``version`` says.

        ``retry``: None or -1: waits while the local queue is full, then returns; what is not delivered is logged later.
        N: waits for room N times half a second, then for the broker's answer. Raises MessageDeliveryFailure,
        EnvelopeError, ConfigError.
        """
        topic = self._topics.get(target.topic) or self._topic(target.topic)
        value = encode_message(message, ctxt)
        key = None if self._key_field is None else message.get(self._key_field)
        retry = -1 if retry is None or retry < 0 else retry
        sender = self._sender
        if sender is None:
            sender = self._make_sender()
        try:
            sender.send(topic, value, key, message, retry, self._wait or retry >= 0)
        except KafkaError as error:
            if not error.fatal:
                raise
            text = "rdkafka: a new producer is made, for the old one cannot go on: %s"
            tell(log, "retrying", text, error, level=logging.ERROR, error=error_name(error))
            sender.close()
            self._make_sender().send(topic, value, key, message, retry, self._wait or retry >= 0)

    @property
    def undelivered(self) -> int:
        """How many notifications of this process were not, or perhaps not, delivered so far."""
        return self._undelivered + (self._sender.failed if self._sender else 0)

    def _topic(self, name: str) -> str:
        topic = self._topics[name] = topics.on_virtual_host(name, self._transport_url.virtual_host)
        return topic

    def _make_sender(self) -> _Sender:
        with self._lock:
            if self._sender is None or self._sender.closed:
                values, config = self._options()
                self._sender = _Sender(self, self._transport_url, for_role(values, "producer"), config)
            return self._sender

    # -- listening

    def listen_for_notifications(
        self,
        targets_and_priorities: Iterable[tuple[Any, str]],
        pool: str | None,
        batch_size: int | None,
        batch_timeout: float | None,
    ) -> _Listener:
        """A listener on ``<target.topic>.<priority>[.<virtual host>]`` of each pair; it connects when it is started.

        ``pool``: the consumer group; None: the option ``consumer_group``. ``batch_size`` None: ``max_poll_records``.
        ``batch_timeout`` None: what is there is handed out. Raises ConfigError.
        """
        vhost = self._transport_url.virtual_host
        names = [
            topics.notification_topic(target.topic, priority, vhost) for target, priority in targets_and_priorities
        ]
        options, config = self._options()
        if batch_size is None:
            batch_size = options["max_poll_records"]

        def make_feed(receive: _Receive, workers: int, work: _Receive | None) -> Feed:
            return Feed(
                self._transport_url,
                names,
                receive,
                group=pool,
                item=_Incoming,
                workers=workers,
                work=work,
                batch_size=None if batch_size == 1 else batch_size,
                batch_timeout=batch_timeout,
                config=config,
                **options,
            )

        listener = _Listener(self, make_feed, batch_size, batch_timeout)
        self._listeners.add(listener)
        return listener

    def require_features(self, requeue: bool = False) -> None:
        """Raises NotImplementedError for ``requeue`` where offsets are committed before; or warns, if so configured."""
        if not requeue or self._settle == "after":
            return
        text = (
            "allow_requeue=True cannot be granted with settle=before, where offsets are committed before notifications "
            f"are handed out: set settle = after in [{GROUP}], or requeue_unsupported = warn to have requests to "
            "requeue counted and ignored"
        )
        if self._requeue_unsupported == "raise":
            raise NotImplementedError(text)
        log.warning("%s", text)

    # -- what Kafka is not for

    def send(self, *args: Any, **kwargs: Any) -> None:
        """Raises NotImplementedError."""
        raise NotImplementedError(_ELSEWHERE)

    def listen(self, *args: Any, **kwargs: Any) -> None:
        """Raises NotImplementedError."""
        raise NotImplementedError(_ELSEWHERE)

    # -- the end

    def forget(self, listener: _Listener) -> None:
        """This listener was cleaned up."""
        self._listeners.discard(listener)

    def cleanup(self) -> None:
        """Close the listeners, deliver what is queued within ``flush_timeout``; what cannot be is logged.

        The driver may be used again: it makes a new producer then.
        """
        for listener in list(self._listeners):
            listener.cleanup()
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None and not sender.closed:
            sender.close()
            self._undelivered += sender.failed


class _Incoming(Item, base.IncomingMessage):  # type: ignore[misc]
    """A notification in the words of oslo.messaging's server."""

    client_timeout = None

    @property
    def msg_id(self) -> str:
        return str(self.message["message_id"])

    acknowledge = Item.done
    requeue = Item.again


class _Listener(base.Listener):  # type: ignore[misc]
    """A feed in the words of oslo.messaging's server: ``start``, ``stop``, ``cleanup``."""

    def __init__(
        self,
        driver: RdKafkaDriver,
        make_feed: Callable[[_Receive, int, _Receive | None], Feed],
        batch_size: int,
        batch_timeout: float | None,
    ) -> None:
        super().__init__(batch_size, batch_timeout)
        self._driver = driver
        self._make_feed = make_feed
        self._feed: Feed | None = None

    def start(self, on_incoming_callback: _Receive) -> None:
        """Join the group. Raises NotImplementedError, AuthenticationError, ConfigError."""
        super().start(on_incoming_callback)
        # Only the server knows, and it tells no driver: whether it will requeue, how many threads it has, and what they
        # do with what they get, which the callback queues for them.
        server = getattr(on_incoming_callback, "__self__", None)
        self._driver.require_features(requeue=getattr(server, "_allow_requeue", False))
        workers = getattr(getattr(server, "_work_executor", None), "_max_workers", 1)
        self._feed = self._make_feed(on_incoming_callback, workers, getattr(server, "_process_incoming", None))
        self._feed.start()

    def stop(self) -> None:
        """Take nothing more; returns when all that was committed has been handed over, or ``stop_timeout`` is over."""
        if self._feed is not None:
            self._feed.stop()
            self._feed.quiesce()
        super().stop()

    def cleanup(self) -> None:
        """Settle what was answered and leave the group. What fails is logged."""
        feed, self._feed = self._feed, None
        if feed is not None:
            try:
                feed.close()
            except RdNotifyError as error:
                tell(log, "close_failed", "rdkafka: %s", error, error=error_name(error))
        self._driver.forget(self)


_drivers: weakref.WeakSet[RdKafkaDriver] = weakref.WeakSet()


def _after_fork() -> None:
    _senders.clear()
    for driver in _drivers:
        driver.after_fork()


os.register_at_fork(after_in_child=_after_fork)
