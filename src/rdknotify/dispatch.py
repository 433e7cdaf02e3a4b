"""Which endpoints get a notification, and what comes of it. Pure: calls endpoints, logs nothing.

An endpoint is an object with methods named as priorities. A single one is called as
``info(ctxt, publisher_id, event_type, payload, metadata)``, a batch one as ``info(notifications)`` with a
list of dicts of these names; ``metadata`` is ``{"message_id": ..., "timestamp": ...}``. A ``filter_rule``
lets only some through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias

from rdknotify.envelope import Notification
from rdknotify.errors import ConfigError
from rdknotify.topics import PRIORITIES

__all__ = ["Dispatcher", "NotificationFilter", "NotificationResult"]

Pattern: TypeAlias = "str | re.Pattern[str]"


class _Filter(Protocol):
    """What may stand as ``filter_rule``: ours, or oslo.messaging's."""

    def match(self, context: Any, publisher_id: Any, event_type: Any, metadata: Any, payload: Any) -> bool: ...


class NotificationResult(str, Enum):
    """What an endpoint answers; None and anything else means HANDLED. The values are oslo.messaging's."""

    HANDLED = "handled"
    """The endpoint is done with it."""
    REQUEUE = "requeue"
    """The endpoint wants it again, which not every ``settle`` can grant: see :class:`~rdknotify.Listener`."""


class NotificationFilter:
    """Regular expressions that a notification must match, each from the beginning of the text (``re.match``).

    ``context``, ``metadata`` and ``payload`` are mappings of a key to its expression: the key must be there
    and its value must be text that matches. What is not given matches all. As oslo.messaging's; raises
    ConfigError for a bad expression.
    """

    def __init__(
        self,
        context: Mapping[str, Pattern] | None = None,
        publisher_id: Pattern | None = None,
        event_type: Pattern | None = None,
        metadata: Mapping[str, Pattern] | None = None,
        payload: Mapping[str, Pattern] | None = None,
    ) -> None:
        self._publisher_id = None if publisher_id is None else _compiled(publisher_id, "publisher_id")
        self._event_type = None if event_type is None else _compiled(event_type, "event_type")
        self._context = _compiled_each(context, "context")
        self._metadata = _compiled_each(metadata, "metadata")
        self._payload = _compiled_each(payload, "payload")

    def match(self, context: Any, publisher_id: Any, event_type: Any, metadata: Any, payload: Any) -> bool:
        """Whether a notification with these fields is let through. Thread-safe."""
        return (
            (self._event_type is None or _matches(self._event_type, event_type))
            and (self._publisher_id is None or _matches(self._publisher_id, publisher_id))
            and _match_each(self._context, context)
            and _match_each(self._metadata, metadata)
            and _match_each(self._payload, payload)
        )


class Dispatcher:
    """Hands notifications to endpoints.

    Every endpoint of the priority whose filter lets a notification through gets it, whatever the others
    answer or raise: REQUEUE of one is the result, and the exception of one is raised when all were called
    (the last, with the earlier ones as its context). Holds no state: safe in threads if the endpoints are.

    Raises ConfigError if an endpoint has no method for any priority.
    """

    def __init__(self, endpoints: Iterable[Any], batch: bool = False) -> None:
        self._batch = batch
        self._callbacks: dict[str, list[tuple[_Filter | None, Callable[..., Any]]]] = {}
        for endpoint in endpoints:
            priorities = [priority for priority in PRIORITIES if callable(getattr(endpoint, priority, None))]
            if not priorities:
                raise ConfigError(
                    f"endpoint {type(endpoint).__qualname__} has no method for a priority; "
                    f"give it at least one of {', '.join(PRIORITIES)}"
                )
            screen = getattr(endpoint, "filter_rule", None)
            for priority in priorities:
                self._callbacks.setdefault(priority, []).append((screen, getattr(endpoint, priority)))
        if not self._callbacks:
            raise ConfigError("endpoints: there is none; give at least one")

    @property
    def priorities(self) -> tuple[str, ...]:
        """Those for which there is an endpoint, in the order of :data:`~rdknotify.topics.PRIORITIES`."""
        return tuple(priority for priority in PRIORITIES if priority in self._callbacks)

    def dispatch(self, notification: Notification) -> NotificationResult:
        """Hand one notification to its endpoints; where no endpoint has its priority it is HANDLED."""
        if self._batch:
            return self.dispatch_batch((notification,))[0]
        result, failure = NotificationResult.HANDLED, None
        for screen, callback in self._callbacks.get(notification.priority.lower(), ()):
            metadata = _metadata(notification)
            try:
                if screen is not None and not _lets_through(screen, notification, metadata):
                    continue
                answer = callback(
                    notification.context,
                    notification.publisher_id,
                    notification.event_type,
                    notification.payload,
                    metadata,
                )
            except Exception as error:
                failure = _chained(error, failure)
            else:
                if answer == NotificationResult.REQUEUE:
                    result = NotificationResult.REQUEUE
        if failure is not None:
            raise failure
        return result

    def dispatch_batch(self, notifications: Sequence[Notification]) -> list[NotificationResult]:
        """Hand notifications to batch endpoints; returns one result for each notification.

        An endpoint is called once for each priority, with all that its filter lets through, in order; its
        REQUEUE is for each of these. If an endpoint raises, no result is known: the exception stands for all
        of them.
        """
        if not self._batch:
            raise ConfigError("dispatch_batch: these endpoints take one notification at a time; make it batch=True")
        results, failure = [NotificationResult.HANDLED] * len(notifications), None
        for priority, indexes in _by_priority(notifications).items():
            for screen, callback in self._callbacks.get(priority, ()):
                try:
                    wanted = [index for index in indexes if _wanted(screen, notifications[index])]
                    answer = callback([_message(notifications[index]) for index in wanted]) if wanted else None
                except Exception as error:
                    failure = _chained(error, failure)
                    continue
                if answer == NotificationResult.REQUEUE:
                    for index in wanted:
                        results[index] = NotificationResult.REQUEUE
        if failure is not None:
            raise failure
        return results


def _by_priority(notifications: Sequence[Notification]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, notification in enumerate(notifications):
        groups.setdefault(notification.priority.lower(), []).append(index)
    return groups


def _metadata(notification: Notification) -> dict[str, str]:
    return {"message_id": notification.message_id, "timestamp": notification.timestamp}


def _message(notification: Notification) -> dict[str, Any]:
    return {
        "ctxt": notification.context,
        "publisher_id": notification.publisher_id,
        "event_type": notification.event_type,
        "payload": notification.payload,
        "metadata": _metadata(notification),
    }


def _wanted(screen: _Filter | None, notification: Notification) -> bool:
    return screen is None or _lets_through(screen, notification, _metadata(notification))


def _lets_through(screen: _Filter, notification: Notification, metadata: dict[str, str]) -> bool:
    return screen.match(
        notification.context,
        notification.publisher_id,
        notification.event_type,
        metadata,
        notification.payload,
    )


def _chained(error: Exception, earlier: Exception | None) -> Exception:
    """The error, with the earlier one of another endpoint in its traceback."""
    if earlier is not None and error is not earlier and error.__context__ is None:
        error.__context__ = earlier
    return error


def _compiled(pattern: Pattern, name: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"filter: {name}={pattern!r} is not a regular expression: {error}") from None


def _compiled_each(patterns: Mapping[str, Pattern] | None, name: str) -> dict[str, re.Pattern[str]]:
    if patterns is not None and not isinstance(patterns, Mapping):
        raise ConfigError(f"filter: {name} is a mapping of keys to expressions, not {type(patterns).__name__}")
    return {key: _compiled(pattern, f"{name}[{key!r}]") for key, pattern in (patterns or {}).items()}


def _matches(pattern: re.Pattern[str], text: Any) -> bool:
    return isinstance(text, str) and pattern.match(text) is not None


def _match_each(patterns: dict[str, re.Pattern[str]], fields: Any) -> bool:
    if not patterns:
        return True
    return isinstance(fields, Mapping) and all(
        key in fields and _matches(pattern, fields[key]) for key, pattern in patterns.items()
    )
