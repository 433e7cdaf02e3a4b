"""Reading along without a group: nothing is taken from anybody, nothing is committed, nothing stays behind."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from rdknotify import green, shapes
from rdknotify.consumer import Batch, Consumer
from rdknotify.errors import KafkaError
from rdknotify.events import logger
from rdknotify.url import TransportURL

__all__ = ["Tail"]

_LOOK = 2.0
"""Seconds between two looks for new topics and partitions."""
_ANSWER = 1.0
_FIRST_ANSWER = 5.0
_EARLIEST = -2
_LATEST = -1


class Tail(Consumer):
    """Reads all partitions of topics, beside whatever groups there are.

    As a :class:`~rdknotify.Consumer` that is no member: every partition is its own, so that :meth:`position`,
    :meth:`lag` and :meth:`seek` work, and ``commit`` has no place. Reading begins with what is written from now on
    (``start="latest"``), at the beginning (``"earliest"``), or with the first record at or after ``since`` (a datetime,
    or epoch seconds). Topics and partitions that appear later are read from their beginning, after 2 seconds at most.
    ``topics`` as a consumer's. Raises as a consumer does.
    """

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"] = "latest",
        since: datetime | float | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._since = since
        self._next_look = 0.0
        self._from_beginning = start == "earliest"
        # librdkafka asks for a group; this one does not come into being, as nobody joins and nothing is committed.
        group = f"rdknotify-tail-{uuid.uuid4().hex[:12]}"
        given = {name: value for name, value in options.items() if name != "auto_offset_reset"}  # another name of start
        super().__init__(url, topics, group, start="earliest", config=config, **{**given, "create_topics": False})

    def _begin(self, subscription: Sequence[str]) -> None:
        self._wanted = [_matching(topic) for topic in subscription]
        self._known: set[shapes.Partition] = set()
        self._look(_FIRST_ANSWER, _EARLIEST if self._from_beginning else _LATEST)
        if self._since is not None and self._known:
            self.seek_to_time(self._since)

    def poll(self, max_records: int | None = None, timeout: float | None = 1.0) -> Batch:
        """As :meth:`Consumer.poll <rdknotify.Consumer.poll>`."""
        if time.monotonic() >= self._next_look:
            try:
                self._look(_ANSWER, _EARLIEST)
            except KafkaError as error:
                if error.fatal or not error.retriable:
                    raise
                logger.info("%s: no look for new partitions: %s", self.name, error)
        return super().poll(max_records, timeout)

    def _look(self, timeout: float, start: int) -> None:
        """Take on partitions that are new, from there on."""
        self._next_look = time.monotonic() + _LOOK
        known = green.call(self._core.metadata, None, timeout)["topics"]
        new = {
            (topic, partition)
            for topic, partitions in known.items()
            if any(wanted(topic) for wanted in self._wanted)
            for partition in partitions
        } - self._known
        if not new:
            return
        starts = self._look_up(new, start, timeout)
        starts |= {(topic, partition): offset or 0 for (topic, partition), offset in self.position().items()}
        self._take_on([(*place, offset) for place, offset in starts.items()], False)
        self._known |= new


def _matching(topic: str) -> Callable[[str], object]:
    """Whether a topic is meant; as librdkafka, a pattern is searched for, and Kafka's own topics are no match."""
    if not topic.startswith("^"):
        return topic.__eq__
    pattern = re.compile(topic)
    return lambda name: not name.startswith("__") and pattern.search(name)
